"""The push: right by Grafana's OpenAPI, idempotent, and a Grafana that is away or refuses loses nothing."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from monitoring.grafana import dashboards
from monitoring.grafana import sync as grafana_sync
from monitoring.grafana.errors import GrafanaAway, GrafanaRefused, GrafanaUnset
from registry.cli import main
from registry.core.settings import Settings, settings
from tests.kit.db import free_port
from tests.monitoring.grafana.recorder import Grafana, OpenApi, grafana
from tests.registry.promoting import begin


@pytest.fixture
def there() -> Iterator[Grafana]:
    with grafana() as its:
        yield its


@pytest.fixture
def run(fresh_db, there: Grafana, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):  # type: ignore[no-untyped-def]
    """Promote and roll back at a clinic; then a way to run the command: exit code, rows, stderr."""
    line = begin(fresh_db)
    line.promote(2)
    with line.system() as conn:
        from registry.promotions import moves
        from tests.kit.registry_rows import TASK

        moves.rollback(conn, line.clinic(), TASK, "*", by="bert", reason="worse")
    monkeypatch.setenv("RADFLEET_GRAFANA_URL", there.url)
    settings.cache_clear()
    secrets = settings().secrets_dir
    secrets.mkdir(parents=True, exist_ok=True)
    (secrets / "grafana-token").write_text("glsa_word\n")

    def go() -> tuple[int, list[dict[str, str]], str]:
        capsys.readouterr()
        code = main(["dashboard", "sync", "--json"])
        said = capsys.readouterr()
        return code, json.loads(said.out) if said.out else [], said.err

    return go


def done(rows: list[dict[str, str]]) -> dict[str, str]:
    return {f"{row['what']} {row['name']}": row["done"] for row in rows}


def test_it_pushes_once_and_then_leaves_alone(run, there: Grafana) -> None:  # type: ignore[no-untyped-def]
    code, rows, _ = run()
    assert code == 0
    assert set(done(rows).values()) == {"created"}
    assert there.dashboards.keys() == {"radfleet-fleet", "radfleet-clinic", "radfleet-qa"}
    assert there.tokens == {"Bearer glsa_word"}
    texts = [one["text"] for one in there.annotations]
    assert len(texts) == 2
    assert any("rollback to ms-lesion@1.0.0" in text for text in texts)
    assert any("promote to ms-lesion@2.0.0" in text for text in texts)
    writes = [r for r in there.requests if r[0] != "GET"]
    code, rows, _ = run()
    assert set(done(rows).values()) == {"unchanged"}
    assert [r for r in there.requests if r[0] != "GET"] == writes, "nothing is written twice"


def test_a_change_of_a_scanner_is_marked_at_its_clinic_once(run, there: Grafana, fresh_db) -> None:  # type: ignore[no-untyped-def]
    put = (
        "insert into monitoring.acquisition(clinic_id, vendor, model, software, studies, first_at, last_at)"
        " select id, 'siemens', 'Prisma', %s, 30, %s, now() from registry.clinic order by slug limit 1"
    )
    with fresh_db.connect() as conn:
        conn.execute(put, ("E11", "2026-03-01T00:00Z"))
        conn.execute(put, ("XA30", "2026-03-11T00:00Z"))
    run()
    (mark,) = [one for one in there.annotations if "software" in one["tags"]]
    assert mark["text"].endswith(": Siemens Prisma, E11 → XA30") and mark["time"] == 1773187200000
    with fresh_db.connect() as conn:  # a study of the day before comes late
        conn.execute(
            "update monitoring.acquisition set first_at = '2026-03-10T00:00Z' where software = 'XA30'"
        )
    _, rows, _ = run()
    assert set(done(rows).values()) == {"unchanged"}


def test_a_hand_made_change_is_put_back(run, there: Grafana) -> None:  # type: ignore[no-untyped-def]
    run()
    there.dashboards["radfleet-fleet"]["dashboard"]["title"] = "mine"
    there.dashboards["radfleet-clinic"]["meta"]["folderUid"] = "elsewhere"
    there.annotations.pop()
    _, rows, _ = run()
    changed = {name for name, what in done(rows).items() if what != "unchanged"}
    assert changed >= {"dashboard Radfleet: fleet", "dashboard Radfleet: clinic"}
    assert len(changed) == 3
    assert there.dashboards["radfleet-fleet"]["dashboard"]["title"] == "Radfleet: fleet"


def test_every_request_is_one_of_grafanas_openapi(run, there: Grafana, radfleet_data: Path) -> None:  # type: ignore[no-untyped-def]
    path = radfleet_data.parent / "specs" / "grafana" / "grafana-http-api.swagger2.trimmed.json.gz"
    if not path.exists():
        pytest.skip(f"Grafana's OpenAPI is not beside the test data: {path.name}")
    api = OpenApi.read(path)
    run()
    run()
    assert len(there.requests) > 8
    assert [fault for request in there.requests for fault in api.faults(*request)] == []
    # Mutants: what the recorder must refuse.
    assert api.faults("POST", "/api/annotations", [], {"dashboardId": None, "text": "x"}) != []
    assert api.faults("POST", "/api/annotations", [], {"tags": []}) != []
    assert api.faults("POST", "/api/dashboards/db", [], {"dashboard": {}, "folderUID": "x"}) != []
    assert api.faults("POST", "/api/dashboard/db", [], {}) != []
    assert api.faults("GET", "/api/annotations", [("limit", "all")], None) != []
    assert api.faults("GET", "/api/annotations", [("tag", "radfleet")], None) != []
    assert api.faults("GET", "/folders/radfleet", [], None) != []


def test_away_is_named_and_loses_nothing(run, there: Grafana, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    there.fails = 503
    code, _, said = run()
    assert (code, "grafana.away" in said) == (7, True)
    for status in (400, 401, 403, 412):
        there.fails = status
        code, _, said = run()
        assert (code, f"Grafana answers {status}" in said, "grafana.refused" in said) == (4, True, True)
        assert "glsa_word" not in said
    there.fails = 0
    code, rows, _ = run()
    assert set(done(rows).values()) == {"created"}, "all of it is still there to be pushed"
    monkeypatch.setenv("RADFLEET_GRAFANA_URL", f"http://127.0.0.1:{free_port()}")
    settings.cache_clear()
    code, _, said = run()
    assert (code, "grafana.away" in said) == (7, True)


@pytest.mark.parametrize("url", ["", "grafana:3000", "ftp://127.0.0.1", "http://"])
def test_no_grafana_is_set(tmp_path: Path, url: str) -> None:
    its = Settings(home=tmp_path, grafana_url=url)
    its.secrets_dir.mkdir()
    (its.secrets_dir / "grafana-token").write_text("x")
    with pytest.raises(GrafanaUnset):
        grafana_sync.sync(its, dashboards.all_of_them(), [])


def test_without_a_token_nothing_is_sent(tmp_path: Path, there: Grafana) -> None:
    with pytest.raises(GrafanaUnset):
        grafana_sync.sync(Settings(home=tmp_path, grafana_url=there.url), dashboards.all_of_them(), [])
    assert there.requests == []


def test_a_path_before_the_api_is_kept(tmp_path: Path, there: Grafana) -> None:
    its = Settings(home=tmp_path, grafana_url=f"{there.url}/grafana/")
    its.secrets_dir.mkdir()
    (its.secrets_dir / "grafana-token").write_text("x")
    with pytest.raises((GrafanaRefused, GrafanaAway)):
        there.fails = 403
        grafana_sync.sync(its, dashboards.all_of_them(), [])
    assert there.requests[0][1] == "/grafana/api/folders/radfleet"
