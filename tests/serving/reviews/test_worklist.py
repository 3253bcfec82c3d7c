"""The reader's list and the table of many reviews: drawn studies first, blind ones unseen, no good line lost."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from registry.cli import build
from tests.kit import sources as kit
from tests.kit.answered import AnsweredStudy, answered_study, draw, nifti, version_with_labels
from tests.kit.world import DIGEST_A, World


@pytest.fixture
def pair(world: World) -> list[AnsweredStudy]:
    """Two answered studies of north, and one of south."""
    version_with_labels(world, DIGEST_A)
    north, south = world.clinic(), world.clinic("south")
    return [
        answered_study(world, clinic, DIGEST_A, uid=f"{kit.ROOT}.{n}")
        for n, clinic in enumerate((north, north, south), 1)
    ]


def run(*words: str, exits: int = 0) -> str:
    done = CliRunner().invoke(build(), list(words))
    assert done.exit_code == exits, (done.output, done.exception)
    return done.stdout


def test_drawn_studies_come_first_and_a_blind_one_is_not_shown(
    world: World, pair: list[AnsweredStudy], tmp_path: Path
) -> None:
    assert "nothing is due" in run("review", "next")
    one, other, _ = pair
    draw(world, one, twice=True)
    draw(world, other, blinded=True, why="drift")
    rows = json.loads(run("review", "next", "--as", "ada", "--json"))
    assert [(row["study_id"], row["blinded"]) for row in rows] == [
        (str(other.study), True),
        (str(one.study), False),
    ]
    out = str(tmp_path / "m.nii.gz")
    refused = CliRunner().invoke(build(), ["review", "mask", str(other.study), "--out", out])
    assert getattr(refused.exception, "code", "") == "reviews.still_blind"
    run("review", "mask", str(one.study), "--out", out)
    run("review", "add", str(one.study), "--decision", "accept", "--as", "ada")
    assert [row["study_id"] for row in json.loads(run("review", "next", "--as", "ada", "--json"))] == [
        str(other.study)
    ]
    second = json.loads(run("review", "next", "--as", "bob", "--json"))
    assert [row["why"].endswith("a second reading") for row in second] == [False, True]
    run("review", "add", str(other.study), "--decision", "reject", "--as", "bob")  # no blinded reading
    assert str(other.study) in run("review", "next", "--as", "ada", "--json")
    mask = nifti(tmp_path / "b.nii.gz", other.mask, other.volume.affine)
    run(
        "review",
        "add",
        str(other.study),
        "--decision",
        "edit",
        "--blinded",
        "--mask",
        str(mask),
        "--as",
        "ada",
    )
    run("review", "mask", str(other.study), "--out", out)


def test_what_the_first_blind_reader_said_is_shown_to_no_second_one_before(
    world: World, pair: list[AnsweredStudy], tmp_path: Path
) -> None:
    """Neither a list, nor a withdrawal, nor the trace tells it; the first reader and whoever has read see it."""
    one, other, _ = pair
    draw(world, one, blinded=True, twice=True)
    mask = str(nifti(tmp_path / "b.nii.gz", one.mask, one.volume.affine))
    blind = ("review", "add", str(one.study), "--decision", "edit", "--blinded", "--mask", mask)
    run(*blind, "--as", "ada")
    run("review", "add", str(other.study), "--decision", "accept", "--as", "ada")

    def listed(reader: str) -> dict[str, tuple[object, ...]]:
        rows = json.loads(run("review", "list", "--as", reader, "--json"))
        told = ("decision", "dice", "delivered_ml", "corrected_ml")
        return {row["study_id"]: (row["hidden"], *(row[name] is not None for name in told)) for row in rows}

    assert listed("ada")[str(one.study)] == (False, True, True, True, True)
    assert listed("bob") == {
        str(one.study): (True, False, False, False, False),
        str(other.study): (False, True, False, False, False),
    }
    assert "to be read blind" in CliRunner().invoke(build(), ["review", "list", "--as", "bob"]).output
    assert "decision" not in str(world.sql("select detail from serving.step where step = 'reviewed'"))
    ((first,),) = world.sql("select id from serving.review where study_id = %s", one.study)
    gone = json.loads(run("review", "withdraw", str(first), "--reason", "slip", "--as", "bob", "--json"))[0]
    assert (gone["hidden"], gone["decision"], gone["dice"]) == (True, None, None)
    run(*blind, "--as", "ada")
    run(*blind, "--as", "bob")
    assert listed("bob")[str(one.study)] == listed("eve")[str(one.study)] == (False, True, True, True, True)


def test_a_table_of_reviews_loses_no_good_line(
    world: World, pair: list[AnsweredStudy], tmp_path: Path
) -> None:
    one, other, souths = pair
    nifti(tmp_path / "one.nii.gz", one.mask, one.volume.affine)
    table = tmp_path / "reviews.csv"
    table.write_text(
        "study,decision,reader,mask,minutes,version\n"
        f"{other.study},accept,ada,,3,ms-lesion@1.0.0\n"
        f"{one.study},edit,ada,one.nii.gz,2.5,\n"
        f"{one.study},accept,bob,,NaN,\n"
        f"{souths.study},accept,ada,,,\n"
        "0190aaaa-0000-7000-8000-000000000000,accept,ada,,,\n"
        "Jane Doe,accept,ada,,,\n"
        f"{other.study},accept,bob,,,ms-lesion@9.9.9\n"
        f"{one.study},fine,eve,,,\n"
        f"{one.study},edit,eve,,,\n"
        f"{one.study},edit,eve,missing.nii.gz,,\n"
        f"{one.study},accept,ada,,,\n"
    )
    done = CliRunner().invoke(build(), ["review", "import", str(table), "--clinic", "north", "--json"])
    assert done.exit_code == 6, done.output
    assert "Jane" not in done.output
    lines = {row["line"]: row for row in json.loads(done.stdout)}
    assert {n: row["code"] for n, row in lines.items()} == {
        2: None, 3: None, 4: "reviews.unfit", 5: "studies.unknown", 6: "studies.unknown", 7: "studies.unknown",
        8: "reviews.version_foreign", 9: "reviews.unfit", 10: "reviews.mask_needed", 11: "reviews.mask_unreadable",
        12: "reviews.exists",
    }  # fmt: skip
    assert all(row["cure"] for row in lines.values() if row["code"])
    kept = world.sql("select study_id, reader, minutes, dice from serving.review order by seq")
    assert kept == [(one.study, "ada", 2.5, 1.0), (other.study, "ada", 3.0, None)], "in the order of studies"
    again = CliRunner().invoke(build(), ["review", "import", str(table), "--clinic", "north"])
    assert again.exit_code == 6
    assert world.sql("select count(*) from serving.review") == [(2,)]


@pytest.mark.parametrize(
    "text",
    ["", "study,decision\n", "study\nx\n", "study,decision,patient\nx,accept,y\n", "study,decision\n\xff,accept\n",
     'study,decision\n"x,accept\n'],
)  # fmt: skip
def test_a_table_that_is_none_is_refused_whole(world: World, tmp_path: Path, text: str) -> None:
    world.clinic()
    table = tmp_path / "reviews.csv"
    table.write_bytes(text.encode("latin-1"))
    done = CliRunner().invoke(build(), ["review", "import", str(table), "--clinic", "north"])
    assert getattr(done.exception, "code", "") == "reviews.import_unreadable", done.output
