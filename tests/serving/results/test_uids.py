"""Derived UIDs: the same answer is the same object, anything else is another."""

from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.uid import UID

from serving.results import uids
from tests.kit.sources import DIGEST, answer

BASE = {
    "clinic_id": UUID(int=1), "study_id": UUID(int=2), "revision": 1, "task": "ms-lesion", "digest": DIGEST,
    "kind": "seg",
}  # fmt: skip


def test_a_uid_never_changes_between_releases() -> None:
    # A changed value would send every old result again as a new object.
    assert uids.derive(**BASE) == "2.25.187886407919484655929062126575052919659"  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("clinic_id", UUID(int=9)),
        ("study_id", UUID(int=9)),
        ("revision", 2),
        ("task", "brain-extraction"),
        ("digest", "sha256:" + "cd" * 32),
        ("kind", "sr"),
    ],
)
def test_every_part_of_the_key_counts(key: str, value: object) -> None:
    assert uids.derive(**{**BASE, key: value}) != uids.derive(**BASE)  # type: ignore[arg-type]


def test_parts_do_not_run_together() -> None:
    first = uids.derive(**{**BASE, "task": "ab", "digest": "c"})  # type: ignore[arg-type]
    second = uids.derive(**{**BASE, "task": "a", "digest": "bc"})  # type: ignore[arg-type]
    assert first != second


@given(st.uuids(), st.uuids(), st.integers(1, 10**6), st.text(max_size=20))
def test_every_uid_is_valid(clinic: UUID, study: UUID, revision: int, kind: str) -> None:
    made = UID(
        uids.derive(clinic_id=clinic, study_id=study, revision=revision, task="t", digest=DIGEST, kind=kind)
    )
    assert made.is_valid
    assert len(made) <= 44


def test_a_device_is_the_version_at_every_clinic() -> None:
    assert uids.device(DIGEST) == uids.device(DIGEST)
    assert UID(uids.device(DIGEST)).is_valid
    assert answer(clinic_id=UUID(int=3)).uid("seg") != answer().uid("seg")
