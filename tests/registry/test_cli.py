"""The command line: one tree, one form of errors, before -> after and the undo of every change."""

import json
import os
import resource
import subprocess
import sys
from collections.abc import Callable

import pytest
import typer

from registry import bindings, cli, clinics
from registry.core.errors import Conflict, RadfleetError
from tests.kit.db import FreshDb
from tests.kit.registry_rows import TASK, add_clinic, add_version

Run = Callable[..., tuple[int, str, str]]
HEAVY = ("torch", "monai", "mlflow", "ray", "openvino", "highdicom", "evidently", "pandas", "scipy")


@pytest.fixture
def run(fresh_db: FreshDb, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run one command in this process against a fresh database: exit code, stdout, stderr."""
    monkeypatch.setenv("RADFLEET_ACTOR", "anna")
    monkeypatch.setenv("COLUMNS", "200")

    def go(*words: str) -> tuple[int, str, str]:
        capsys.readouterr()
        code = cli.main([*words])
        said = capsys.readouterr()
        return code, said.out, said.err

    return go


def test_help_is_quick_and_loads_nothing_heavy() -> None:
    show = "import sys; from registry import cli; code = cli.main(['--help']); print(*sys.modules); sys.exit(code)"
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run([sys.executable, "-c", show], capture_output=True, text=True, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    # Processor time, not wall time: a busy machine must not turn this red.
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 1.0
    loaded = {name.partition(".")[0] for name in done.stdout.splitlines()[-1].split()}
    assert not loaded & {*HEAVY}
    for word in ("clinic", "study", "binding", "doctor", "up"):
        assert word in done.stdout


def test_module_and_version() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "registry.cli", "version"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0 and done.stdout.startswith("radfleet ") and not done.stderr


def test_every_verb_has_help_and_every_reading_verb_json() -> None:
    from typer.main import get_command

    def walk(command: object, path: str) -> None:
        for name, child in getattr(command, "commands", {}).items():
            where = f"{path} {name}"
            assert child.help, where
            names = {option for parameter in child.params for option in parameter.opts}
            if name in ("list", "show", "history", "check", "status", "verify"):
                assert "--json" in names, where
            if name in ("list", "history"):
                assert "--limit" in names, where
            walk(child, where)

    walk(get_command(cli.build()), "radfleet")


def test_the_life_of_a_clinic(run: Run) -> None:
    code, out, err = run("clinic", "add", "lakeside", "--name", "Lakeside Hospital", "--quiet-s", "2")
    assert (code, out.splitlines()[0]) == (0, "none -> lakeside (registered)")
    assert "undo: radfleet clinic suspend lakeside" in out and "clinic check lakeside" in err

    code, out, _ = run("clinic", "check", "lakeside")
    assert code == 6 and "missing  binding: 0 open" in out and "cure: radfleet binding set lakeside" in out

    code, out, _ = run("clinic", "peer", "add", "lakeside", "--calling", "MR1", "--address", "10.0.0.1")
    assert code == 0 and out.startswith(
        "none -> MR1 calling RADFLEET from 10.0.0.1/32\nundo: radfleet clinic peer remove"
    )
    code, out, _ = run("clinic", "peer", "add", "lakeside", "--calling", "MR1", "--address", "10.0.0.2")
    assert code == 0 and out.startswith("10.0.0.1/32 -> MR1") and "--address 10.0.0.1/32" in out
    assert run("clinic", "peer", "list", "lakeside")[0] == 0

    code, token, err = run("clinic", "key", "add", "lakeside", "--scope", "submit")
    assert code == 0 and token.startswith("rf_") and "undo: radfleet clinic key revoke lakeside" in err
    code, out, _ = run("clinic", "show", "lakeside", "--json")
    shown = json.loads(out)[0]
    assert (shown["clinic"], shown["quiet_s"], len(shown["senders"]), len(shown["keys"])) == (
        "lakeside",
        2,
        1,
        1,
    )
    assert token.strip() not in out
    assert run("clinic", "show", "lakeside")[0] == 0
    code, out, _ = run("clinic", "key", "revoke", "lakeside", token.split("_")[1])
    assert code == 0 and "-> revoked" in out
    assert "revoked" in run("clinic", "key", "list", "lakeside")[1]

    assert run("clinic", "suspend", "lakeside", "--reason", "unpaid")[1].startswith("registered -> suspended")
    assert run("clinic", "activate", "lakeside")[1].startswith("suspended -> active")
    assert json.loads(run("clinic", "list", "--json")[1])[0]["state"] == "active"
    assert run("clinic", "peer", "remove", "lakeside", "--calling", "MR1")[0] == 0
    assert "no scanner yet" in run("scanner", "list", "lakeside")[1]


def test_binding_prints_the_command_that_undoes_it(run: Run, fresh_db: FreshDb) -> None:
    with fresh_db.database.system() as conn:
        add_clinic(conn)
        one, two = add_version(conn, "1.0.0"), add_version(conn, "2.0.0")
    assert run("binding", "set", "lakeside", TASK, one.label, "--reason", "first")[1].startswith("none -> ")
    code, _, err = run("binding", "set", "lakeside", TASK, two.label, "--reason", "better")
    assert code == 4 and "code: promotion.needed" in err and "radfleet promotion request" in err
    with fresh_db.database.system() as conn:  # as a promotion would, once
        its = clinics.by_slug(conn, "lakeside")
        bindings.set(conn, its, TASK, two.digest, by="anna", reason="promoted")
        bindings.set(conn, its, TASK, one.digest, by="anna", reason="back")
    code, out, _ = run(
        "binding", "set", "lakeside", TASK, two.label, "--reason", "better", "--expected-seq", "3"
    )
    assert code == 0 and f"{one.digest[7:19]} (seq 3, scope *) -> {two.digest[7:19]} (seq 4, scope *)" in out

    undo = out.split("undo: radfleet ")[1].strip().replace(" TEXT", " worse")
    code, _, _ = run(*undo.split())
    assert code == 0
    shown = json.loads(run("binding", "show", "lakeside", "--json")[1])
    assert [(b["digest"], b["seq"], b["by"]) for b in shown] == [(one.digest, 5, "anna")]
    assert [b["reason"] for b in json.loads(run("binding", "history", "lakeside", "--json")[1])] == [
        "worse",
        "better",
        "back",
        "promoted",
        "first",
    ]
    code, _, err = run("binding", "set", "lakeside", TASK, two.label, "--reason", "x", "--expected-seq", "1")
    assert code == 5 and "expected sequence 1, found 5" in err and "code: registry.binding_stale" in err
    code, out, _ = run("binding", "end", "lakeside", TASK, "--reason", "off")
    assert code == 0 and "-> none" in out
    assert "nothing bound" in run("binding", "show", "lakeside")[1]
    with fresh_db.database.system() as conn:
        three = add_version(conn, "3.0.0")
    # An end between them opens no way round the second person.
    assert run("binding", "set", "lakeside", TASK, three.label, "--reason", "x")[0] == 4


def test_a_reason_is_required(run: Run, fresh_db: FreshDb) -> None:
    with fresh_db.database.system() as conn:
        add_clinic(conn)
        label = add_version(conn).label
    assert run("binding", "set", "lakeside", TASK, label)[0] == 2
    code, _, err = run("hold", "place", "clinic", "lakeside", "--reason", " ")
    assert code == 2 and "registry.reason_missing" in err


def test_holds(run: Run, fresh_db: FreshDb) -> None:
    from registry import scanners_store

    with fresh_db.database.system() as conn:
        its, version = add_clinic(conn), add_version(conn)
    with fresh_db.database.tenant(its.id) as conn:
        scanner = scanners_store.upsert(conn, its.id, "GE", "MR750", "1", "DV26", 3.0)
    for kind, target in (
        ("clinic", "lakeside"),
        ("scanner", f"lakeside/{scanner}"),
        ("version", version.label),
    ):
        code, out, _ = run("hold", "place", kind, target, "--reason", "why")
        assert code == 0 and out.startswith(
            f"delivering -> held\nundo: radfleet hold release {kind} {target}"
        )
    assert len(json.loads(run("hold", "list", "--json")[1])) == 3
    assert run("hold", "release", "clinic", "lakeside", "--reason", "cured")[0] == 0
    assert len(json.loads(run("hold", "list", "--json")[1])) == 2
    assert len(json.loads(run("hold", "list", "--all", "--clinic", "lakeside", "--json")[1])) == 3
    for words, code in (
        (("scanner", "lakeside/none"), "registry.scanner_unknown"),
        (("fleet", "lakeside"), "registry.hold_invalid"),
        (("clinic", "nowhere"), "registry.clinic_unknown"),
    ):
        assert code in run("hold", "place", *words, "--reason", "why")[2]


def test_accounts_guard_changes(run: Run) -> None:
    assert run("account", "add", "bert", "--role", "ml")[0] == 5
    assert run("account", "add", "anna", "--role", "admin")[0] == 0
    assert run("account", "add", "vera")[1].startswith("none -> vera (viewer)")
    code, _, err = run("clinic", "add", "lakeside", "--as", "vera")
    assert code == 4 and "registry.role_unfit" in err
    assert run("clinic", "add", "lakeside", "--as", "eve")[0] == 4
    assert run("clinic", "add", "lakeside")[0] == 0
    assert run("account", "disable", "vera")[1].startswith("active -> disabled")
    assert run("account", "enable", "vera")[0] == 0
    assert [a["account"] for a in json.loads(run("account", "list", "--json")[1])] == ["anna", "vera"]


def test_models_events_audit(run: Run, fresh_db: FreshDb) -> None:
    with fresh_db.database.system() as conn:
        version = add_version(conn)
    assert version.digest[7:19] in run("model", "list")[1]
    assert json.loads(run("model", "show", version.digest[7:15], "--json")[1])[0]["card"] == {"people": 0}
    assert "people" in run("model", "show", version.label)[1]
    assert json.loads(run("event", "list", "--json")[1])[0]["type"] == "version.added"
    assert json.loads(run("audit", "verify", "--json")[1])[0]["whole"] is True
    with fresh_db.connect() as admin:
        admin.execute("set session_replication_role = replica")
        admin.execute("update registry.event set actor = 'eve'")
    code, out, err = run("audit", "verify")
    assert code == 6 and "event 1 was changed" in out and "registry.chain_broken" in err


def test_db(run: Run, fresh_db: FreshDb) -> None:
    assert run("db", "migrate")[1] == "the database is up to date\n"
    assert run("db", "status")[0] == 0
    with fresh_db.connect() as admin:
        admin.execute("delete from public.radfleet_migration where name like '0003%'")
    code, out, err = run("db", "status", "--json")
    missing = [row["migration"] for row in json.loads(out) if row["state"] == "missing"]
    assert code == 6 and "radfleet db migrate" in err
    assert len(missing) == 1 and missing[0].startswith("0003")


def test_a_database_without_tables_has_a_cure(run: Run, fresh_db: FreshDb) -> None:
    with fresh_db.connect() as admin:
        admin.execute("drop schema registry cascade")
    code, _, err = run("clinic", "list")
    assert code == 6 and "registry.not_migrated" in err


def test_a_lock_held_too_long_has_a_cure(
    run: Run, fresh_db: FreshDb, monkeypatch: pytest.MonkeyPatch
) -> None:
    import psycopg

    def locked(*_: object, **__: object) -> None:
        raise psycopg.errors.LockNotAvailable("canceling statement: row (Kanarie^Piet)")

    monkeypatch.setattr(clinics, "list", locked)
    code, _, err = run("clinic", "list")
    assert code == 7 and "registry.database_refused" in err and "Kanarie" not in err


def test_a_database_that_is_away_has_a_cure(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    from registry.core.settings import settings

    monkeypatch.setenv("RADFLEET_DATABASE_URL", "host=127.0.0.1 port=1 dbname={database} user={role}")
    settings.cache_clear()
    code, _, err = run("clinic", "list")
    assert code == 7 and "core.database_away" in err


def _app(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    def fail() -> None:
        raise error

    app = typer.Typer(pretty_exceptions_enable=False)
    app.command()(fail)
    monkeypatch.setattr(cli, "build", lambda: app)


def test_a_named_error_is_rendered(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _app(monkeypatch, Conflict("taken", why="because", cure="Choose another."))
    assert cli.main([]) == 5
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err == "error: taken\n  why:  because\n  cure: Choose another.\n  code: core.conflict\n"


def test_a_bug_shows_where_and_never_the_values(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _app(monkeypatch, ValueError("Kanarie^Piet 1.2.3.4.5.6"))
    assert cli.main([]) == 70
    said = capsys.readouterr().err
    assert "core.bug" in said and "ValueError at tests/registry/test_cli.py:" in said
    assert "Kanarie" not in said and "Traceback" not in said


def test_ctrl_c_is_130(monkeypatch: pytest.MonkeyPatch) -> None:
    _app(monkeypatch, KeyboardInterrupt())
    assert cli.main([]) == 130


def test_a_second_command_builds_nothing(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Attaching once more put every command in once more: the thirtieth of a process took thirty times as long."""
    assert run("version")[0] == 0
    monkeypatch.setattr(typer.main, "get_command", lambda *_: 1 / 0)
    assert run("version")[0] == 0


def test_wrong_usage_is_2(run: Run) -> None:
    assert run("clinic", "add")[0] == 2
    assert run("nonsense")[0] == 2


def test_a_broken_package_leaves_doctor(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(cli, "build", cli.build.__wrapped__)  # what was built before stays out of it
    monkeypatch.setattr(cli, "entry_points", lambda **_: ())
    monkeypatch.setattr(cli, "BESIDE", {**cli.BESIDE, "other": "no_such_module:attach"})
    assert cli.main(["version"]) == 0
    assert "the commands of other could not be loaded (no_such_module)" in capsys.readouterr().err


def test_every_code_is_explained(run: Run) -> None:
    from registry import explain

    rows = json.loads(run("explain", "--json")[1])
    assert len(rows) == len({row["code"] for row in rows}) > 60
    for cls in explain.every_error():
        assert cls.code in explain.long_form(cls)
    code, out, _ = run("explain", "registry.key_expired")
    assert code == 0 and "HTTP 403, exit code 4, DIMSE status 0124" in out
    assert json.loads(run("explain", "core.database_away", "--json")[1])[0]["retry"] is True
    code, _, err = run("explain", "no.such.code")
    assert code == 3 and "registry.code_unknown" in err


def test_no_two_errors_share_a_code() -> None:
    from registry import explain

    explain.every_error()
    seen: dict[str, type[RadfleetError]] = {}
    for cls in explain._below(RadfleetError):
        if "code" in vars(cls) and cls.__module__.startswith(explain.PACKAGES):
            assert seen.setdefault(cls.code, cls) is cls, cls.code


def test_the_environment_of_a_child_names_the_actor(run: Run) -> None:
    assert os.environ["RADFLEET_ACTOR"] == "anna"
    run("clinic", "add", "lakeside")
    assert json.loads(run("event", "list", "--clinic", "lakeside", "--json")[1])[0]["actor"] == "anna"


def test_a_migration_edited_after_it_was_applied(run: Run, fresh_db: FreshDb) -> None:
    with fresh_db.connect() as admin:
        admin.execute("update public.radfleet_migration set sha256 = 'x' where name like '0001%'")
    code, _, err = run("db", "migrate")
    assert code == 5 and "core.migration_changed" in err
