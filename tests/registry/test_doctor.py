"""The doctor finds what is wrong, says the cure, and survives a broken check."""

import json
import socket
from pathlib import Path

import pytest

from registry import cli, doctor, secrets
from registry.core.settings import Settings
from registry.doctor import Finding, Level
from tests.kit.db import FreshDb


def _by_code(findings: object, code: str) -> list[Finding]:
    return [finding for finding in findings if finding.code == code]  # type: ignore[attr-defined]


def test_a_migrated_database_is_well(fresh_db: FreshDb) -> None:
    found = list(doctor.database(fresh_db.settings))
    assert [f.code for f in found] == ["doctor.database", "doctor.clock", "doctor.migrations"]
    assert all(f.level is Level.OK for f in found)


def test_missing_and_changed_migrations(fresh_db: FreshDb) -> None:
    with fresh_db.connect() as admin:
        admin.execute("delete from public.radfleet_migration where name like '0003%'")
        admin.execute("update public.radfleet_migration set sha256 = 'x' where name like '0001%'")
    found = _by_code(doctor.database(fresh_db.settings), "doctor.migrations")
    assert [f.level for f in found] == [Level.ERROR, Level.ERROR]
    assert "radfleet db migrate" in found[0].cure
    with fresh_db.connect() as admin:
        admin.execute("drop table public.radfleet_migration")
    assert "0001" in _by_code(doctor.database(fresh_db.settings), "doctor.migrations")[0].what


def test_a_role_that_is_too_strong(fresh_db: FreshDb) -> None:
    url = fresh_db.dsn("{role}").replace("user={role}", "user=radfleet_owner")
    found = _by_code(doctor.database(Settings(database_url=url)), "doctor.roles")
    assert len(found) == 3 and all(f.level is Level.ERROR for f in found)


@pytest.mark.parametrize(
    ("url", "level"), [("", Level.WARNING), ("host=127.0.0.1 port=1 user={role}", Level.ERROR)]
)
def test_a_database_that_is_away(tmp_path: Path, url: str, level: Level) -> None:
    its = Settings(home=tmp_path, postgres_port=1, database_url=url)
    assert [(f.code, f.level) for f in doctor.database(its)] == [("doctor.database", level)]


def test_services_listen_or_not(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        its = Settings(
            home=tmp_path, mlflow_url=f"http://127.0.0.1:{port}", ray_address="127.0.0.1:1", dicom_port=1
        )
        found = {f.code: f.level for f in doctor.services(its)}
    assert found["doctor.mlflow"] is Level.OK
    assert found["doctor.ray"] is Level.ERROR
    assert found["doctor.dicom"] is Level.WARNING
    assert set(found) == {"doctor.mlflow", "doctor.ray", "doctor.dicom", "doctor.http"}


def test_secrets_and_folders_open_to_others(tmp_path: Path) -> None:
    its = Settings(home=tmp_path)
    secrets.ensure(its, "ray-token")
    assert [f.level for f in doctor.secret_files(its)] == [Level.OK]
    (its.secrets_dir / "ray-token").chmod(0o640)
    its.store_dir.mkdir(mode=0o700)
    its.store_dir.chmod(0o755)
    assert [f.level for f in doctor.secret_files(its)] == [Level.ERROR]
    assert "chmod" in next(iter(doctor.directories(its))).cure


def test_mail_that_cannot_be_sent(tmp_path: Path) -> None:
    assert list(doctor.mail(Settings(home=tmp_path))) == []
    some = {"home": tmp_path, "mail_from": "radfleet@here.test"}
    for server, lack in (
        ("smtps://me@mail.test", "secret file smtp-password is absent"),
        ("smtp://me@mail.test", "without TLS"),
        ("mail.test", "no address"),
    ):
        (found,) = doctor.mail(Settings(**some, mail_server=server))
        assert found.level is Level.ERROR
        assert lack in found.why and "RADFLEET_MAIL_TO" in found.why
    (found,) = doctor.mail(Settings(**some, mail_server="smtp://127.0.0.1", mail_to="qa@here.test"))
    assert found.level is Level.OK


def test_disk_before_the_first_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from collections import namedtuple

    usage = namedtuple("usage", "total used free")
    its = Settings(home=tmp_path / "not" / "yet")
    for free, level in ((100 << 30, Level.OK), (3 << 30, Level.WARNING), (1 << 30, Level.ERROR)):
        monkeypatch.setattr(doctor.shutil, "disk_usage", lambda _, free=free: usage(free, 0, free))
        assert [f.level for f in doctor.disk(its)] == [level]


def test_versions_against_ranges() -> None:
    assert doctor._outside("psycopg[binary,pool]<4,>=3.3") == ""
    assert "outside" in doctor._outside("psycopg>=99")
    assert "not installed" in doctor._outside("no-such-thing>=1")
    assert doctor._outside('pytest>=99; extra == "dev"') == ""


def test_skew_and_old_servers() -> None:
    assert [f.level for f in doctor._server(180_004, 0.1)] == [Level.OK, Level.OK]
    assert [f.level for f in doctor._server(140_001, 5)] == [Level.ERROR, Level.WARNING]
    assert [f.level for f in doctor._server(150_001, 60)] == [Level.OK, Level.ERROR]


def test_senders_of_dcmtk_need_a_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor.shutil, "which", lambda _: "/usr/bin/tool")
    monkeypatch.delenv("TCP_NODELAY", raising=False)
    assert [f.level for f in doctor.wire(Settings())] == [Level.WARNING]
    monkeypatch.setenv("TCP_NODELAY", "1")
    assert [f.level for f in doctor.wire(Settings())] == [Level.OK]
    monkeypatch.setattr(doctor.shutil, "which", lambda _: None)
    assert list(doctor.wire(Settings())) == []


def test_a_broken_check_hides_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_: Settings) -> object:
        raise ValueError("Kanarie^Piet")

    monkeypatch.setattr(doctor, "CHECKS", (broken, doctor.python))
    first, second = doctor.examine(Settings(home=tmp_path))
    assert (first.level, first.code) == (Level.ERROR, "doctor.broken")
    assert "Kanarie" not in doctor.lines(first)
    assert second.code == "doctor.python"


def test_the_command_exits_with_1_on_an_error(
    fresh_db: FreshDb, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor, "CHECKS", (doctor.python, doctor.database))
    assert cli.main(["doctor"]) == 0
    said = capsys.readouterr()
    assert said.out.startswith("ok       Python 3.11") and "0 errors" in said.err
    with fresh_db.connect() as admin:
        admin.execute("delete from public.radfleet_migration where name like '0003%'")
    assert cli.main(["doctor", "--json"]) == 1
    levels = {row["code"]: row["level"] for row in json.loads(capsys.readouterr().out)}
    assert levels["doctor.migrations"] == "error"
