"""Clinics' reports from a table to their rows: what is kept, what is refused, and that the text is nowhere (P9)."""

import csv
import hashlib
import json
from pathlib import Path
from uuid import UUID

import psycopg
import pytest
from typer.testing import CliRunner

from registry import accounts
from registry.cli import build
from serving.reviews import narratives, narratives_store
from serving.reviews.errors import NarrativesUnreadable, NarrativeTaskUnfit
from serving.reviews.narrative import RULES
from serving.reviews.narratives import TEXT_MAX, Line
from serving.reviews.narratives_store import Statement
from tests.kit.world import World

TEXT = "Multiple T2 hyperintense lesions,\nquokka sign. Dr Zebrawood."  # made up; its rare words are looked for below
TABLES = """
select n.nspname || '.' || c.relname from pg_class c join pg_namespace n on n.oid = c.relnamespace
where n.nspname in ('registry', 'serving', 'monitoring') and c.relkind = 'r' order by 1"""


def table(folder: Path, rows: list[dict[str, str]], name: str = "reports.csv") -> Path:
    with (folder / name).open("w", newline="") as file:
        out = csv.DictWriter(file, list(dict.fromkeys(key for row in rows for key in row)), restval="")
        out.writeheader()
        out.writerows(rows)
    return folder / name


def load(world: World, clinic: UUID, path: Path) -> list[Line]:
    return narratives.load(world.db.database, clinic, path, "ms-lesion", "quin")


def codes(lines: list[Line]) -> list[str | None]:
    return [line.error.code if line.error else None for line in lines]


def everything(world: World) -> str:
    """All that the database holds, as text: every column of every row of every table."""
    rows = [world.sql(f"select t::text from {name} t") for (name,) in world.sql(TABLES)]
    return "\n".join(text for found in rows for (text,) in found)


def test_a_report_is_read_kept_once_and_its_text_is_nowhere(
    world: World, tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    north = world.clinic()
    one, two, three = (world.study(north, uid) for uid in ("1.2.1", "1.2.2", "1.2.3"))
    path = table(
        tmp_path,
        [{"study": str(one), "report": TEXT}, {"StudyInstanceUID": "1.2.2", "report": "Keine Läsionen."},
         {"StudyInstanceUID": "1.2.3", "says": "Absent"}],
    )  # fmt: skip
    lines = load(world, north, path)
    assert codes(lines) == [None] * 3
    assert [(line.number, line.study, line.says, line.recorded) for line in lines] == [
        (2, str(one), "present", True), (4, str(two), "absent", True), (5, str(three), "absent", True),
    ]  # fmt: skip
    kept = (
        "select study_id, task, number, says, rules, text_sha256, stated_by from serving.narrative order by 1"
    )
    digests = [hashlib.sha256(one.bytes + TEXT.encode()).digest(),
               hashlib.sha256(two.bytes + "Keine Läsionen.".encode()).digest(), None]  # fmt: skip
    assert world.sql(kept) == [
        (one, "ms-lesion", 1, "present", RULES, digests[0], "quin"),
        (two, "ms-lesion", 1, "absent", RULES, digests[1], "quin"),
        (three, "ms-lesion", 1, "absent", "coded", None, "quin"),
    ]
    before = everything(world)
    assert [line.recorded for line in load(world, north, path)] == [False] * 3, "the same again is no news"
    assert everything(world) == before
    steps = world.sql("select detail from serving.step where step = 'report_stated' order by seq")
    # Not what they say: the next reader of the trace may have to read blind.
    assert [detail for (detail,) in steps] == [
        {"task": "ms-lesion", "rules": rules} for rules in (RULES, RULES, "coded")
    ]
    shown = before + caplog.text + "".join(capfd.readouterr())
    assert str(one) in before, "the dump must see the row that could hold the text"
    for word in ("quokka", "zebrawood", "hyperintense", "Läsionen"):
        assert word.casefold() not in shown.casefold()


def test_a_later_report_is_a_further_row(world: World, tmp_path: Path) -> None:
    north = world.clinic()
    study = str(world.study(north))
    for name, text in (("a.csv", "No lesions."), ("b.csv", "One plaque."), ("c.csv", "No lesions.")):
        assert load(world, north, table(tmp_path, [{"study": study, "report": text}], name))[0].recorded
    assert world.sql("select number, says from serving.narrative order by 1") == [
        (1, "absent"), (2, "present"), (3, "absent"),
    ]  # fmt: skip
    for change in ("update serving.narrative set says = 'absent'", "delete from serving.narrative"):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            world.sql(change)


def test_a_bad_line_is_named_without_its_text_and_the_others_are_kept(world: World, tmp_path: Path) -> None:
    north, south = world.clinic(), world.clinic("south")
    good, theirs = str(world.study(north)), str(world.study(south, "1.2.9"))
    path = table(
        tmp_path,
        [
            {"study": theirs, "report": TEXT},
            {"StudyInstanceUID": "1.2.9", "report": TEXT},
            {"study": "quokka", "report": TEXT},
            {"StudyInstanceUID": "quokka", "report": TEXT},
            {"study": good, "report": " "},
            {"study": good, "report": "quokka" + "x" * TEXT_MAX},
            {"study": good, "report": TEXT, "says": "present"},
            {"study": good, "StudyInstanceUID": "1.2.3", "report": TEXT},
            {"study": "", "report": TEXT},
            {"study": good, "says": "quokka"},
            {"study": good, "report": TEXT},
            {"StudyInstanceUID": "1.2.3", "says": "absent"},
        ],
    )  # fmt: skip
    lines = load(world, north, path)
    unfit = "reviews.narrative_unfit"
    assert codes(lines) == ["studies.unknown"] * 4 + [unfit] * 6 + [None, "reviews.narrative_twice"]
    assert world.sql("select clinic_id, study_id, says from serving.narrative") == [
        (north, UUID(good), "present")
    ]
    told = repr(lines) + "".join(f"{line.error.what}{line.error.cure_text}" for line in lines if line.error)
    assert "quokka" not in told and "hyperintense" not in told


def test_the_database_refuses_a_foreign_study_too(world: World) -> None:
    """Planted: code that forgot to look."""
    north, south = world.clinic(), world.clinic("south")
    study = world.study(north)
    its = Statement("present", "coded", None)
    for clinic, error in (
        (south, psycopg.errors.ForeignKeyViolation),
        (north, psycopg.errors.InsufficientPrivilege),
    ):
        with pytest.raises(error), world.db.database.tenant(south) as conn:
            narratives_store.add(conn, clinic, study, "ms-lesion", its, "eve")


def test_a_table_or_task_that_cannot_be_is_refused_whole(world: World, tmp_path: Path) -> None:
    north = world.clinic()
    study = str(world.study(north))
    for row in ({"study": study}, {"report": TEXT}, {"study": study, "says": "absent", "quokka": "1"}):
        with pytest.raises(NarrativesUnreadable) as refused:
            load(world, north, table(tmp_path, [row]))
        assert "quokka" not in str(refused.value)
    (tmp_path / "x.csv").write_bytes(b"study,report\n\xff\xfe,quokka\n")
    with pytest.raises(NarrativesUnreadable):
        load(world, north, tmp_path / "x.csv")
    with pytest.raises(NarrativeTaskUnfit):
        narratives.load(world.db.database, north, tmp_path / "x.csv", "brain-extraction", "quin")
    assert world.sql("select count(*) from serving.narrative") == [(0,)]


def test_the_command_says_what_became_of_each_line(world: World, tmp_path: Path) -> None:
    with world.db.database.system() as conn:
        accounts.add(conn, "anna", "admin", by="test")
        accounts.add(conn, "quin", "qa", by="anna")
    study = str(world.study(world.clinic()))
    path = table(tmp_path, [{"study": study, "report": TEXT}, {"study": study, "report": TEXT}])
    said = ["review", "narrative", str(path), "--clinic", "north", "--task", "ms-lesion", "--as", "quin"]
    done = CliRunner().invoke(build(), [*said, "--json"])
    assert done.exit_code == 6, done.output
    rows = json.loads(done.stdout)
    assert [(row["line"], row["says"], row["recorded"], row["code"]) for row in rows] == [
        (2, "present", True, None), (4, None, False, "reviews.narrative_twice"),
    ]  # fmt: skip
    assert "quokka" not in done.output
    done = CliRunner().invoke(build(), said)
    assert done.exit_code == 6 and "0 of 2 reports recorded, 1 known already, 1 refused" in done.output
