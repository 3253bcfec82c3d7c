"""The preview: no face, no name, the warning burnt in, valid as secondary capture."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pydicom import dcmread

from serving.imaging.geometry import ROWS_FLIPPED, Axes
from serving.imaging.volume import Volume
from serving.results import preview, source
from serving.results.answer import WARNING
from tests.kit import sources as kit
from tests.kit.judges import dciodvfy_errors

FOUND = {
    "findings": [
        {"name": "White matter lesion", "volume_ml": 1.26, "count": 3, "rule": "lesions/1", "reason": None}
    ]
}
BLIND = {"findings": []}


def head() -> tuple[Volume, np.ndarray, np.ndarray]:
    """A bright "face" in front of (+y) a brain with one lesion in its right, upper, front part."""
    grey = np.zeros((60, 80, 40), np.float32)
    grey[10:50, 65:80, 5:35] = 4000.0
    brain = np.zeros(grey.shape, np.uint8)
    brain[15:45, 15:55, 8:32] = 1
    grey[brain > 0] = np.random.default_rng(2).normal(300, 20, int(brain.sum()))
    mask = np.zeros_like(brain)
    mask[38:42, 44:50, 25:29] = 1
    affine = np.diag([1.0, 1.0, 2.0, 1.0])
    return Volume(voxels=grey, affine=affine), mask, brain


def panels(picture: np.ndarray) -> list[np.ndarray]:
    """The three square panels, without the text above and below."""
    size, top, margin = preview._PANEL, preview._TOP, preview._MARGIN
    return [
        picture[top : top + size, margin + n * (size + margin) : margin + n * (size + margin) + size]
        for n in range(3)
    ]


def test_the_face_is_not_in_the_picture() -> None:
    volume, mask, brain = head()
    with_face = preview.draw(kit.answer(), volume, mask, brain, FOUND)
    volume.voxels[10:50, 65:80, 5:35] = 0
    without = preview.draw(kit.answer(), volume, mask, brain, FOUND)
    assert np.array_equal(with_face, without)


def test_a_stray_segment_on_the_face_draws_nothing() -> None:
    volume, mask, brain = head()
    clean = preview.draw(kit.answer(), volume, mask, brain, FOUND)
    mask[10:50, 66:79, 5:35] = 1
    assert np.array_equal(preview.draw(kit.answer(), volume, mask, brain, FOUND), clean)


def test_without_a_brain_no_anatomy_is_drawn() -> None:
    volume, mask, brain = head()
    first = preview.draw(kit.answer(), volume, mask, brain * 0, FOUND)
    volume.voxels[:] = 7
    assert np.array_equal(first, preview.draw(kit.answer(), volume, mask, brain * 0, FOUND))


@pytest.mark.parametrize("turn", [(1, 1, 1), (-1, 1, 1), (1, -1, -1)])
def test_right_is_left_and_front_and_top_are_up(turn: tuple[int, int, int]) -> None:
    volume, mask, brain = head()
    flips = np.diag([*turn, 1.0]).astype(float)
    for axis, sign in enumerate(turn):
        if sign < 0:
            flips[axis, 3] = volume.shape[axis] - 1
    slices = tuple(slice(None, None, sign) for sign in turn)
    turned = Volume(voxels=volume.voxels[slices].copy(), affine=volume.affine @ flips)
    picture = preview.draw(kit.answer(), turned, mask[slices], brain[slices], BLIND)
    assert np.array_equal(picture, preview.draw(kit.answer(), volume, mask, brain, BLIND))
    where = []
    for panel in panels(picture):
        rows, columns = np.nonzero((panel[..., 0] == 255) & (panel[..., 1] == 92))
        where.append((rows.mean() < preview._PANEL / 2, columns.mean() < preview._PANEL / 2))
    # The lesion is right, front and top: axial up and left, coronal up and left, sagittal up and left (front).
    assert where == [(True, True)] * 3


def test_the_png_carries_no_metadata_and_fits() -> None:
    picture = preview.draw(kit.answer(), *head(), FOUND)
    image = Image.open(io.BytesIO(preview.png(picture)))
    assert image.size == (preview.WIDTH, preview.HEIGHT)
    assert max(image.size) <= 1024
    assert image.info == {}
    assert np.array_equal(np.asarray(image), picture)


def test_the_warning_and_the_version_are_burnt_in() -> None:
    picture = preview.draw(kit.answer(), *head(), FOUND)
    other = preview.draw(kit.answer(version="2.0.0"), *head(), FOUND)
    assert picture[4:30].max() == 255
    assert not np.array_equal(picture[36:56], other[36:56])


@pytest.mark.parametrize(
    ("finding", "text"),
    [
        (FOUND["findings"][0], "White matter lesion: 1.3 ml, 3 counted (lesions/1)"),
        (
            {"name": "Brain", "volume_ml": 1200.0, "count": None, "rule": None, "reason": None},
            "Brain: 1200.0 ml",
        ),
        (
            {"name": "Brain", "volume_ml": None, "count": None, "rule": None, "reason": "Cut."},
            "Brain: not reported. Cut.",
        ),
    ],
)
def test_a_finding_in_words(finding: dict, text: str) -> None:
    assert preview.sentence(finding) == text


@pytest.mark.tool("dciodvfy")
@pytest.mark.parametrize("axes", [ROWS_FLIPPED, Axes((2, 0, 1), (True, False, True))])
def test_the_secondary_capture_is_valid_and_repeatable(axes: Axes, tmp_path: Path) -> None:
    sources = kit.classic()
    volume = kit.volume(sources, axes=axes)
    origin = source.from_headers(volume, sources)
    brain = np.zeros(volume.shape, np.uint8)
    brain[3:-3, 3:-3, 3:-3] = 1
    mask = np.zeros_like(brain)
    mask[4, 5, 6] = 1
    results = [preview.build(kit.answer(), volume, mask, brain, origin, FOUND) for _ in range(2)]
    assert results[0] == results[1]
    (tmp_path / "sc.dcm").write_bytes(results[0].data)
    assert dciodvfy_errors(tmp_path / "sc.dcm") == []
    ds = dcmread(io.BytesIO(results[0].data))
    assert (ds.Rows, ds.Columns, ds.PhotometricInterpretation) == (preview.HEIGHT, preview.WIDTH, "RGB")
    assert ds.BurnedInAnnotation == "YES"
    assert WARNING in ds.DerivationDescription
    assert np.array_equal(ds.pixel_array, preview.draw(kit.answer(), volume, mask, brain, FOUND))
