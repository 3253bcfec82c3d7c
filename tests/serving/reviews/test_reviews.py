"""A review from the command line to its row: Dice, isolation, what is refused, and that a refusal leaves nothing."""

import json
from pathlib import Path
from uuid import UUID

import numpy as np
import psycopg
import pytest
from typer.testing import CliRunner

from registry.cli import build
from serving.doors.filestore import Filestore
from serving.doors.record import known_paths
from serving.results.errors import ObjectMissing
from serving.reviews import reviews, reviews_store
from serving.reviews.errors import (
    MaskElsewhere,
    MaskForeign,
    MaskNeeded,
    NotAnswered,
    NotePersonal,
    ReviewExists,
    ReviewUnfit,
    ReviewUnknown,
    TaskUnclear,
)
from serving.reviews.lattice import Grid, onto
from serving.reviews.reviews import Said
from serving.studies.errors import StudyUnknown
from tests.kit.answered import AnsweredStudy, answered_study, nifti, version_with_labels
from tests.kit.world import DIGEST_A, World


@pytest.fixture
def answered(world: World) -> AnsweredStudy:
    return answered_study(world, world.clinic(), version_with_labels(world, DIGEST_A))


def edited(folder: Path, of: AnsweredStudy, name: str = "m.nii.gz") -> Path:
    """The delivered mask with one plane less, as NIfTI."""
    mask = of.mask.copy()
    mask[:, :, 3] = 0
    return nifti(folder / name, mask, of.volume.affine)


def files_of(world: World) -> set[Path]:
    return {p for p in world.db.settings.store_dir.rglob("*") if p.is_file()}


def add(world: World, of: AnsweredStudy, said: Said, clinic: UUID | None = None):
    return reviews.add(world.db.settings, world.db.database, clinic or of.clinic, of.study, said)


def test_an_edit_gives_dice_and_keeps_the_mask(world: World, answered: AnsweredStudy, tmp_path: Path) -> None:
    made = add(world, answered, Said("edit", "ada", edited(tmp_path, answered), minutes=4))
    theirs = answered.mask.copy()
    theirs[:, :, 3] = 0
    assert made.dice == pytest.approx(2 * theirs.sum() / (answered.mask.sum() + theirs.sum()))
    assert made.delivered_ml == pytest.approx(answered.mask.sum() * 0.9 * 1.1 * 2.5 / 1000, rel=1e-6)
    labels, affine = reviews.corrected(world.db.settings, world.db.database, answered.clinic, made.id)
    its = Grid(answered.volume.shape, answered.volume.affine)
    assert np.array_equal(onto(labels, affine, its), theirs)
    ((clinic, study, digest, dice, kept, feature, profile),) = world.sql(
        "select clinic, study_id, digest, dice, has_mask, feature_seq, profile from serving.review_v"
    )
    assert (clinic, study, digest, dice, kept) == ("north", answered.study, DIGEST_A, made.dice, True)
    assert feature and profile["software_major"] == "XA30"
    # Not an orphan: the sweep asks for the rows of reviews too.
    before = files_of(world)
    Filestore(world.db.settings.store_dir, free_bytes_min=0).sweep(known_paths(world.db.database), older_s=-1)
    lost = {p.name for p in before - files_of(world)}
    ((path,),) = world.sql("select mask_path from serving.review")
    assert Path(path).name not in lost


def test_a_seg_corrected_by_nobody_is_equal(world: World, answered: AnsweredStudy) -> None:
    (seg,) = world.db.settings.store_dir.rglob("*seg.dcm")
    assert add(world, answered, Said("accept", "ada", seg, blinded=True)).dice == 1.0


def test_a_decision_without_a_mask_has_no_dice(world: World, answered: AnsweredStudy) -> None:
    for reader, decision in (("ada", "accept"), ("bob", "reject")):
        assert add(world, answered, Said(decision, reader)).dice is None
    for said in (Said("edit", "eve"), Said("accept", "eve", blinded=True)):
        with pytest.raises(MaskNeeded):
            add(world, answered, said)


@pytest.mark.parametrize(
    "said",
    [Said("fine", "ada"), Said("accept", "ada", minutes=0), Said("accept", "ada", minutes=601),
     Said("accept", "ada", minutes=float("nan")), Said("accept", "ada", note="x" * 201)],
)  # fmt: skip
def test_what_is_no_review_is_refused(world: World, answered: AnsweredStudy, said: Said) -> None:
    with pytest.raises(ReviewUnfit):
        add(world, answered, said)


def test_another_clinics_study_is_unknown_here(world: World, answered: AnsweredStudy, tmp_path: Path) -> None:
    other = world.clinic("south")
    before = files_of(world)
    for mask in (None, edited(tmp_path, answered)):
        with pytest.raises(StudyUnknown):
            add(world, answered, Said("accept", "ada", mask), other)
    assert world.sql("select count(*) from serving.review") == [(0,)]
    assert files_of(world) == before


def test_the_database_refuses_a_review_of_a_foreign_answer_too(world: World, answered: AnsweredStudy) -> None:
    """Planted: code that forgot to look. South's transaction cannot name north's study, nor north's clinic."""
    south = world.clinic("south")
    with world.db.database.tenant(answered.clinic) as conn:
        of = reviews.answer_of(conn, answered.clinic, answered.study, None)
    said = {"decision": "accept", "blinded": False, "reader": "eve", "minutes": None, "note": ""}
    with (
        pytest.raises(psycopg.errors.ForeignKeyViolation),
        world.db.database.tenant(south) as conn,
    ):
        reviews_store.add(conn, south, of, None, **said)
    with (
        pytest.raises(psycopg.errors.InsufficientPrivilege),
        world.db.database.tenant(south) as conn,
    ):
        reviews_store.add(conn, answered.clinic, of, None, **said)
    with world.db.database.tenant(south) as conn:
        assert conn.execute("select * from serving.review_v").fetchall() == []


def test_a_mask_of_another_study_or_grid_leaves_nothing(
    world: World, answered: AnsweredStudy, tmp_path: Path
) -> None:
    answered_study(world, answered.clinic, DIGEST_A, uid="1.2.9")
    other_seg = next(
        p for p in world.db.settings.store_dir.rglob("*seg.dcm") if answered.study.hex not in p.name
    )
    moved = answered.volume.affine.copy()
    moved[0, 3] += 5
    before = files_of(world)
    with pytest.raises(MaskForeign):
        add(world, answered, Said("edit", "ada", other_seg))
    with pytest.raises(MaskElsewhere):
        add(world, answered, Said("edit", "ada", nifti(tmp_path / "x.nii.gz", answered.mask, moved)))
    assert files_of(world) == before
    assert world.sql("select count(*) from serving.review") == [(0,)]


def test_a_reader_counts_once_until_withdrawn(world: World, answered: AnsweredStudy, tmp_path: Path) -> None:
    mask = edited(tmp_path, answered)
    first = add(world, answered, Said("edit", "ada", mask))
    before = files_of(world)
    with pytest.raises(ReviewExists):
        add(world, answered, Said("edit", "ada", mask))
    assert files_of(world) == before, "the mask of a refused review is removed"
    add(world, answered, Said("edit", "bob", mask))
    db = world.db.database
    with pytest.raises(ReviewUnfit):
        reviews.withdraw(db, answered.clinic, first.id, by="ada", reason=" ")
    with pytest.raises(ReviewUnknown):
        reviews.withdraw(db, world.clinic("south"), first.id, by="ada", reason="not mine")
    reviews.withdraw(db, answered.clinic, first.id, by="ada", reason="wrong file")
    with pytest.raises(ReviewUnknown):
        reviews.withdraw(db, answered.clinic, first.id, by="ada", reason="again")
    assert add(world, answered, Said("accept", "ada")).dice is None
    assert world.sql("select count(*) from serving.review_v") == [(2,)]
    assert world.sql("select count(*) from serving.review") == [(3,)]


def test_a_review_is_never_changed(world: World, answered: AnsweredStudy, tmp_path: Path) -> None:
    add(world, answered, Said("edit", "ada", edited(tmp_path, answered)))
    for change in (
        "update serving.review set dice = 1",
        "update serving.review set withdrawn_at = now(), withdrawn_by = 'x', withdrawn_reason = 'y', dice = 1",
        "delete from serving.review",
        "truncate serving.review cascade",
    ):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            world.sql(change)


@pytest.mark.parametrize(
    "note", ["Mr Müller again", "canary 42", "born 1970-01-02", "geb. 02.01.1970", "a99 misses a lesion"]
)
def test_a_note_that_names_the_patient_is_refused(world: World, answered: AnsweredStudy, note: str) -> None:
    with pytest.raises(NotePersonal) as caught:
        add(world, answered, Said("reject", "ada", note=note))
    assert note not in repr(caught.value)


def test_a_plain_note_stays_with_the_clinic(world: World, answered: AnsweredStudy) -> None:
    add(world, answered, Said("reject", "ada", note="misses the left temporal lesion"))
    assert world.sql("select note from serving.review") == [("misses the left temporal lesion",)]
    with world.db.database.monitor() as conn, pytest.raises(psycopg.errors.InsufficientPrivilege):
        conn.execute("select note from serving.review")


def test_a_study_without_an_answer_and_one_with_two(world: World, answered: AnsweredStudy) -> None:
    empty = world.study(answered.clinic, uid="1.2.99")
    settings, db = world.db.settings, world.db.database
    with pytest.raises(NotAnswered):
        reviews.add(settings, db, answered.clinic, empty, Said("accept", "ada"))
    with pytest.raises(TaskUnclear):
        add(world, answered, Said("accept", "ada", task="atrophy"))
    world.sql("delete from serving.result_object")
    with pytest.raises(NotAnswered):
        reviews.delivered(settings, db, answered.clinic, answered.study)


def test_a_lost_file_is_named(world: World, answered: AnsweredStudy, tmp_path: Path) -> None:
    made = add(world, answered, Said("edit", "ada", edited(tmp_path, answered)))
    ((path,),) = world.sql("select mask_path from serving.review")
    (world.db.settings.store_dir / path).unlink()
    with pytest.raises(ObjectMissing):
        reviews.corrected(world.db.settings, world.db.database, answered.clinic, made.id)


def radfleet(*words: str):
    return CliRunner().invoke(build(), list(words))


def test_the_commands(world: World, answered: AnsweredStudy, tmp_path: Path) -> None:
    study = str(answered.study)
    out = tmp_path / "delivered.nii.gz"
    assert radfleet("review", "mask", study, "--out", str(out)).exit_code == 0
    done = radfleet("review", "add", study, "--decision", "accept", "--mask", str(out), "--blinded", "--json")
    assert done.exit_code == 0, done.exception
    (row,) = json.loads(done.stdout)
    assert (row["dice"], row["blinded"], row["clinic"]) == (1.0, True, "north")
    done = radfleet("review", "list", "--clinic", "north", "--json")
    assert [r["id"] for r in json.loads(done.stdout)] == [row["id"]]
    world.clinic("south")
    done = radfleet("review", "add", study, "--decision", "accept", "--clinic", "south")
    assert isinstance(done.exception, StudyUnknown)
    assert radfleet("review", "withdraw", row["id"][:13], "--reason", "test").exit_code == 0
    assert json.loads(radfleet("review", "list", "--json").stdout) == []


MUTANTS = ["the clinic of the study", "the place of the mask"]


@pytest.mark.parametrize("mutant", MUTANTS)
def test_mutants_are_found(
    mutant: str, world: World, answered: AnsweredStudy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Code that takes a foreign clinic's answer, or a mask wherever it lies: a test above fails for each."""
    if mutant == MUTANTS[0]:
        honest = reviews_store.answers
        monkeypatch.setattr(
            reviews_store, "answers", lambda conn, clinic, study: _as(world, answered.clinic, honest, study)
        )
        test = test_another_clinics_study_is_unknown_here
    else:
        monkeypatch.setattr(
            "serving.reviews.masks._from_nifti", lambda path, grid, *_: np.zeros(grid.shape, np.uint8)
        )
        test = test_a_mask_of_another_study_or_grid_leaves_nothing
    with pytest.raises((pytest.fail.Exception, psycopg.Error, AssertionError)):
        test(world, answered, tmp_path)


def _as(world: World, clinic: UUID, look, study: UUID):
    with world.db.database.tenant(clinic) as conn:
        return look(conn, clinic, study)
