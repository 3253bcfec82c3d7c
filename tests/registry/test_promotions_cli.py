"""The promotion line by command: before -> after, the undo that works, JSON, and MLflow's alias behind it."""

import json
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from registry import cli, models
from registry.core.settings import settings
from registry.errors import MlflowAway, ModelNotInMlflow
from registry.promotions.aliases import AGAIN_S, REST_S, Follower, wanted
from tests.kit.db import FreshDb
from tests.kit.registry_rows import TASK
from tests.registry.promoting import Line, begin

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def line(fresh_db: FreshDb) -> Line:
    return begin(fresh_db)


@pytest.fixture
def aliases(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """What a stand-in for MLflow holds: digest by clinic and task."""
    held: dict[str, str] = {}

    def set_alias(uri: str, slug: str, task: str, digest: str) -> bool:
        moved = held.get(f"{slug}/{task}") != digest
        held[f"{slug}/{task}"] = digest
        return moved

    monkeypatch.setattr(models, "set_alias", set_alias)
    return held


@pytest.fixture
def run(
    line: Line, aliases: dict[str, str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Run:
    """Run one command in this process: exit code, stdout, stderr."""
    monkeypatch.setenv("RADFLEET_ACTOR", "bert")
    monkeypatch.setenv("COLUMNS", "200")

    def go(*words: str) -> tuple[int, str, str]:
        capsys.readouterr()
        code = cli.main([*words])
        said = capsys.readouterr()
        return code, said.out, said.err

    return go


def followed(line: Line) -> list[str]:
    """What the part ``engine`` does about the aliases in a turn: their states."""
    with line.system() as conn:
        rows = wanted(conn)
    return [alias.state for alias in Follower("").turn(rows)]


def undo(out: str) -> list[str]:
    """The words of the printed undo, with a reason."""
    return shlex.split(out.split("undo: radfleet ")[1].replace(" TEXT", " mistake"))


def scores(tmp_path: Path, version: int, gain: float, clinic: str | None) -> str:
    people = {f"p{n}": round(0.5 + n / 50 + gain, 4) for n in range(10)}
    document: dict[str, Any] = {
        "version": f"{TASK}@{version}.0.0", "metric": "dice", "dataset": "labelled", "people": people,
    }  # fmt: skip
    path = tmp_path / f"{version}-{clinic}.json"
    path.write_text(json.dumps(document | ({"clinic": clinic} if clinic else {})))
    return str(path)


def test_a_promotion_from_evidence_to_rollback(
    run: Run, line: Line, tmp_path: Path, aliases: dict[str, str]
) -> None:
    one, two = line.version(1).digest, line.version(2).digest
    for version, gain in ((1, 0.0), (2, 0.06)):
        for clinic in ("lakeside", None):
            code, out, err = run("promotion", "evidence", "add", scores(tmp_path, version, gain, clinic))
            assert (code, out.startswith("none -> evidence ")) == (0, True) and "there is no undo" in err
    assert run("promotion", "evidence", "add", scores(tmp_path, 1, 0.0, None))[1].startswith("evidence 2 (")

    code, out, err = run("promotion", "request", "lakeside", TASK, f"{TASK}@2.0.0", "--reason", "finds more")
    assert (code, out.splitlines()[0]) == (
        0,
        f"none -> promotion 1 (proposed: {TASK}@2.0.0 for lakeside {TASK}, scope *)",
    )
    assert "gate clinic: pass, 10 people" in err and undo(out)[:3] == ["promotion", "withdraw", "1"]

    code, out, err = run("promotion", "apply", "1")
    assert code == 5 and "promotion 1 is proposed, not approved" in err and "promotion.state" in err
    code, _, err = run("promotion", "approve", "1")
    assert code == 4 and "bert proposed promotion 1" in err and "promotion.same_person" in err
    assert "registry.role_unfit" in run("promotion", "approve", "1", "--as", "quin")[2]
    code, out, err = run("promotion", "approve", "1", "--as", "anna")
    assert code == 0 and "(proposed: " in out.split(" -> ")[0] and "(approved: " in out.split(" -> ")[1]

    code, out, err = run("promotion", "apply", "1")
    assert code == 0 and out.startswith(f"{one[7:19]} (seq 1, scope *) -> {two[7:19]} (seq 2, scope *)")
    assert (aliases, err) == ({}, "")  # no command waits for MLflow
    assert followed(line) == ["set"] and aliases == {f"lakeside/{TASK}": two}
    shown = json.loads(run("promotion", "show", "1", "--json")[1])[0]
    assert (shown["state"], shown["answers"], shown["proposed_by"], shown["approved_by"]) == (
        "active",
        "yes",
        "bert",
        "anna",
    )
    assert [(g["name"], g["people"], round(g["mean"], 3)) for g in shown["gates"]] == [
        ("clinic", 10, 0.06),
        ("global", 10, 0.06),
    ]
    assert "people_min" in run("promotion", "show", "1")[1]

    words = undo(out)
    assert words[:2] == ["promotion", "rollback"]
    code, out, _ = run(*words, "--as", "olga")  # on call may go back, not forward
    assert code == 0 and out.startswith(f"{two[7:19]} (seq 2, scope *) -> {one[7:19]} (seq 3, scope *)")
    assert followed(line) == ["set"] and aliases == {f"lakeside/{TASK}": one}
    assert (
        "registry.role_unfit"
        in run("promotion", "request", "lakeside", TASK, f"{TASK}@3.0.0", "--reason", "x", "--as", "olga")[2]
    )
    code, _, err = run(*words)
    assert code == 6 and "promotion.nowhere_back" in err
    assert run(*undo(out))[0] == 0
    assert line.bound() == ("2", 4)

    listed = json.loads(run("promotion", "list", "--clinic", "lakeside", "--json")[1])
    assert [(p["id"], p["kind"], p["answers"]) for p in listed] == [
        (2, "rollback", "no"),
        (1, "promote", "no"),
    ]
    assert "clinic pass (n=10)" in run("promotion", "list")[1]
    assert run("audit", "verify")[0] == 0


def test_a_stale_promotion_ends_and_says_so(run: Run, line: Line) -> None:
    line.measured()
    line.approve(line.request().id)
    line.bind(3)
    code, out, err = run("promotion", "apply", "1")
    assert (code, out) == (5, "") and "promotion.stale" in err
    assert line.show(1).state == "stale"  # the refusal is kept, not rolled back
    assert line.bound() == ("3", 2)


def test_withdraw_prints_how_to_ask_again(run: Run, line: Line) -> None:
    line.request(2, "serial:SN 1")
    code, out, _ = run("promotion", "withdraw", "1", "--reason", "too early")
    assert code == 0 and "(withdrawn: " in out
    assert run(*undo(out))[0] == 0
    assert json.loads(run("promotion", "list", "--open", "--json")[1])[0]["scope"] == "serial:SN 1"
    assert "promotion.unknown" in run("promotion", "show", "9")[2]
    told = json.loads(run("promotion", "withdraw", "2", "--reason", "x", "--json")[1])[0]
    assert "withdrawn" in told["after"] and told["it"]["state"] == "withdrawn"


def test_gates_that_do_not_pass_are_waived_by_name(run: Run, line: Line) -> None:
    line.measured(gain=-0.01)
    line.request()
    code, _, err = run("promotion", "approve", "1", "--as", "anna")
    assert (
        code == 6
        and "promotion.gates_unmet" in err
        and "clinic: the mean difference is not surely above 0" in err
    )
    assert run("promotion", "approve", "1", "--as", "anna", "--waive", "clinic")[0] == 2
    words = ("--as", "anna", "--waive", "clinic", "--reason", "recall of version 1")
    assert run("promotion", "approve", "1", *words)[0] == 0
    shown = json.loads(run("promotion", "show", "1", "--json")[1])[0]
    assert (shown["waived"], shown["approval"]) == (["clinic"], "recall of version 1")


def test_the_margins(run: Run) -> None:
    code, out, _ = run("policy", "set", "--clinic-people-min", "9", "--reason", "more people", "--as", "quin")
    assert (
        code == 0 and out.startswith("policy 1 (metric=dice clinic_people_min=8 ") and "-> policy 2 (" in out
    )
    assert "registry.role_unfit" in run("policy", "set", "--reason", "x")[2]  # who trains sets no margin
    assert run(*undo(out), "--as", "quin")[0] == 0
    rows = json.loads(run("policy", "list", "--json")[1])
    assert [(row["version"], row["clinic_people_min"]) for row in rows] == [(3, 8), (2, 9), (1, 8)]


def test_mlflow_away_delays_the_alias_alone(
    run: Run, line: Line, aliases: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    line.bind(2)
    reachable = models.set_alias

    def away(*_: str) -> bool:
        raise MlflowAway

    monkeypatch.setattr(models, "set_alias", away)
    code, _, err = run("promotion", "rollback", "lakeside", TASK, "--reason", "worse")
    assert code == 0 and err == "" and line.bound() == ("1", 3)
    code, _, err = run("promotion", "sync")
    assert code == 7 and "registry.mlflow_away" in err

    monkeypatch.setattr(models, "set_alias", reachable)
    assert json.loads(run("promotion", "sync", "--json")[1])[0]["state"] == "set"
    assert aliases == {f"lakeside/{TASK}": line.version(1).digest}
    assert json.loads(run("promotion", "sync", "--json")[1])[0]["state"] == "right"

    def unknown(*_: str) -> bool:
        raise ModelNotInMlflow

    monkeypatch.setattr(models, "set_alias", unknown)
    assert json.loads(run("promotion", "sync", "--json")[1])[0]["state"] == "not in MLflow"
    code, _, err = run("promotion", "rollback", "lakeside", TASK, "--reason", "x", "--expected-seq", "3")
    assert code == 6 and "promotion.nowhere_back" in err


def test_aliases_are_followed_as_bindings_change_and_put_right_again(
    line: Line, aliases: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    follower, name = Follower("", clock=lambda: now[0]), f"lakeside/{TASK}"

    def turn() -> list[str]:
        now[0] += 2.0
        with line.system() as conn:
            rows = wanted(conn)
        return [alias.state for alias in follower.turn(rows)]

    assert (turn(), turn()) == (["set"], [])
    line.bind(2)
    assert (turn(), turn()) == (["set"], []) and aliases[name] == line.version(2).digest
    aliases[name] = "moved by hand"
    assert turn() == []
    now[0] += AGAIN_S
    assert turn() == ["set"] and aliases[name] == line.version(2).digest

    def away(*_: str) -> bool:
        raise MlflowAway

    reachable = models.set_alias
    line.bind(1)
    with monkeypatch.context() as patch:
        patch.setattr(models, "set_alias", away)
        with pytest.raises(MlflowAway):
            turn()
        assert turn() == []  # it rests, and the engine's loop goes on
    assert models.set_alias is reachable
    now[0] += REST_S
    assert turn() == ["set"] and aliases[name] == line.version(1).digest


def test_without_a_server_a_rollback_takes_no_time(
    run: Run, line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The change is the database's alone: MLflow is not even imported, let alone asked."""
    monkeypatch.undo()
    monkeypatch.setenv("RADFLEET_DATABASE_URL", line.db.settings.database_url)
    monkeypatch.setenv("RADFLEET_MLFLOW_URL", "http://127.0.0.1:1")
    settings.cache_clear()
    line.bind(2)
    before = "mlflow" in sys.modules
    code, _, err = run("promotion", "rollback", "lakeside", TASK, "--reason", "worse", "--as", "olga")
    assert code == 0 and err == ""
    assert "mlflow" not in sys.modules or before
