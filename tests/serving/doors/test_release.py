"""What the release of an association says of its studies: the last one that may bring more says it."""

import time

from tests.kit.dicom import encoded, mr_series
from tests.serving.doors.test_scp import associate, send


def test_release_is_a_hint_and_names_the_studies(dicom):
    assoc = associate(dicom)
    for ds in mr_series(3):
        assert send(assoc, encoded(ds), ds.SOPInstanceUID)[0] == 0
    assert dicom.hints == []
    assoc.release()
    deadline = time.monotonic() + 5
    while not dicom.hints and time.monotonic() < deadline:
        time.sleep(0.01)
    ((clinic, studies),) = dicom.hints
    assert clinic == dicom.clinic.id and len(studies) == 1


def test_a_study_that_another_association_may_still_bring_is_not_hinted_at(dicom):
    """Mutant: a hint at each release closes the study 3 s later, though the other association is still sending."""
    slices, elsewhere = mr_series(3), mr_series(1)[0]
    first, second, idle, apart = (associate(dicom) for _ in range(4))
    for assoc, ds in ((first, slices[0]), (second, slices[1]), (apart, elsewhere)):
        assert send(assoc, encoded(ds), ds.SOPInstanceUID)[0] == 0

    def after_release(assoc):
        before, end = len(dicom.hints), time.monotonic() + 0.5
        assoc.release()
        while len(dicom.hints) == before and time.monotonic() < end:
            time.sleep(0.01)
        return [len(studies) for _, studies in dicom.hints]

    assert after_release(first) == []
    assert send(second, encoded(slices[2]), slices[2].SOPInstanceUID)[0] == 0
    assert after_release(second) == [], "one that has sent nothing yet may bring more"
    assert after_release(idle) == [1], "the last one hints; one that sent another study is not waited for"
    assert after_release(apart) == [1, 1]
