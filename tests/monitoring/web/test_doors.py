"""Who gets in and what is kept out: sign-in, sessions and their ends, forms, headers, one clinic alone, twins."""

import re
from typing import Any

import httpx
import pytest

from monitoring.web import desk
from monitoring.web.app import FORMS, PAGES
from registry import accounts, clinics
from registry.core.errors import RadfleetError
from registry.errors import AccountUnknown, ExpiryInvalid
from registry.sign_in import sessions
from registry.sign_in.errors import AccountKeyUnknown, SessionOver, SignInWrong
from tests.kit.site import Site
from tests.kit.world import World


def mark_of(text: str) -> str:
    found = re.search(r'name="mark" value="([0-9a-f]{64})"', text)
    assert found
    return found[1]


def test_a_person_signs_in_and_out(site: Site) -> None:
    with site.client() as client:
        led = client.get("/flags?past=1")
        assert (led.status_code, led.headers["location"]) == (303, "/sign-in?next=%2Fflags%3Fpast%3D1")
        form = client.get(led.headers["location"])
        data = {"mark": mark_of(form.text), "name": "quin", "key": site.keys["quin"], "next": "/flags?past=1"}
        done = client.post("/sign-in", data=data)
        assert (done.status_code, done.headers["location"]) == (303, "/flags?past=1")
        cookie = next(line for line in done.headers.get_list("set-cookie") if line.startswith(desk.COOKIE))
        assert "HttpOnly" in cookie
        assert "SameSite=lax" in cookie
        assert "Secure" not in cookie, "loopback has no TLS, and a Secure cookie would never come back"
        page = client.get("/flags?past=1")
        assert page.status_code == 200
        assert "quin (qa)" in page.text
        assert client.post("/sign-out", data={"mark": mark_of(page.text)}).headers["location"] == "/sign-in"
        assert client.get("/").status_code == 303


def test_behind_tls_the_cookie_is_kept_to_tls(site: Site) -> None:
    with site.client(headers={"X-Forwarded-Proto": "https"}) as client:
        assert "Secure" in client.get("/sign-in").headers["set-cookie"]


@pytest.mark.parametrize("name", ["quin", "nobody", ""])
def test_a_wrong_name_or_key_learns_nothing(site: Site, name: str) -> None:
    said = set()
    for key in ("", "rfa_", site.keys["anna"], site.keys["anna"][:-1] + "-"):
        with site.client() as client:
            mark = mark_of(client.get("/sign-in").text)
            answer = client.post("/sign-in", data={"mark": mark, "name": name, "key": key})
            assert answer.status_code == 403
            assert desk.COOKIE not in answer.cookies
            said.add(re.sub(r'value="[^"]*"', "", answer.text))
    assert len(said) == 1


@pytest.mark.parametrize(
    "next_", ["//evil.example", "/\\evil.example", "https://evil.example", "evil", "/sign-in"]
)
def test_sign_in_leads_nowhere_else(site: Site, next_: str) -> None:
    with site.client() as client:
        data = {
            "mark": mark_of(client.get("/sign-in").text),
            "name": "anna",
            "key": site.keys["anna"],
            "next": next_,
        }
        assert client.post("/sign-in", data=data).headers["location"] == "/"


ENDS = {
    "over": "update registry.session set expires_at = now() - interval '1 s'",
    "idle": "update registry.session set seen_at = now() - interval '121 min'",
    "disabled": "update registry.account set active = false where name = 'vera'",
    "revoked": "update registry.account_key set revoked_at = now()",
    "expired": "update registry.account_key set expires_at = now()",
    "gone": "delete from registry.session",
}


@pytest.mark.parametrize("end", ENDS)
def test_a_session_ends(site: Site, world: World, end: str) -> None:
    with site.client("vera") as client:
        assert client.get("/").status_code == 200
        world.sql(ENDS[end])
        assert client.get("/").status_code == 303
        answer = client.get("/flags", headers={"Accept": "application/json"})
        assert (answer.status_code, answer.json()["code"]) == (401, "session.over")


def test_a_token_is_kept_as_a_hash_and_a_key_is_shown_once(site: Site, world: World) -> None:
    token = site.token("anna")
    kept = str(world.sql("select * from registry.session")) + str(
        world.sql("select * from registry.account_key")
    )
    assert token not in kept
    assert site.keys["anna"].split("_", 2)[2] not in kept


def test_keys_are_refused_by_name(site: Site) -> None:
    with site.db.database.system() as conn:
        with pytest.raises(AccountUnknown):
            sessions.add_key(conn, "nobody", by="anna")
        with pytest.raises(AccountUnknown):
            sessions.keys(conn, "nobody")
        with pytest.raises(ExpiryInvalid):
            sessions.add_key(conn, "anna", by="anna", days=0)
        with pytest.raises(AccountKeyUnknown):
            sessions.revoke_key(conn, "anna", "00000000", by="anna")
        with pytest.raises(SignInWrong):
            sessions.begin(conn, "quin", site.keys["anna"])
        with pytest.raises(SessionOver):
            sessions.find(conn, "")
        id = site.keys["anna"].split("_")[1]
        assert [key.key_id for key in sessions.keys(conn, "anna")] == [id]
        sessions.revoke_key(conn, "anna", id, by="anna")
        assert not sessions.keys(conn, "anna")[0].valid


def _form_addresses() -> list[str]:
    return [path.replace("{id}", "1") for path in FORMS]


@pytest.mark.parametrize("path", [*_form_addresses(), "/sign-out"])
def test_a_form_needs_the_mark_of_its_session(site: Site, path: str) -> None:
    other = desk.mark(site.token("anna"))
    with site.client("anna") as client:
        for data in ({"reason": "x"}, {"mark": ""}, {"mark": other}, {"mark": "é"}):
            answer = client.post(path, data=data, headers={"Accept": "application/json"})
            assert (answer.status_code, answer.json()["code"]) == (403, "web.form_stale")
        page = client.post(path, data={"reason": "x"})
        assert "This form was not given out to this browser" in page.text


def test_what_is_no_form_is_refused(site: Site) -> None:
    with site.client("anna") as client:
        cases: list[dict[str, Any]] = [
            {"json": {"mark": "x"}}, {"content": b"a" * 20_000}, {"content": b"mark=%00"}, {"content": b"\xff=1"},
            {"content": b"&".join(b"a%d=1" % n for n in range(50))},
        ]  # fmt: skip
        for case in cases:
            kind = {} if "json" in case else {"Content-Type": "application/x-www-form-urlencoded"}
            answer = client.post(
                "/promotions/1/approve", headers=kind | {"Accept": "application/json"}, **case
            )
            assert (answer.status_code, answer.json()["code"]) == (422, "web.form_invalid"), case


def test_nobody_gets_a_page_without_signing_in(site: Site) -> None:
    with site.client() as client:
        for path in PAGES:
            answer = client.get(re.sub(r"\{\w+\}", "1", path))
            assert answer.status_code == 303, path
            assert answer.headers["location"].startswith("/sign-in")
        for path in _form_addresses():
            assert client.post(path).headers["location"] == "/sign-in"
        assert client.get("/healthz").json() == {"status": "ok"}
        assert client.get("/readyz").json() == {"status": "ready"}


def test_every_answer_forbids_scripts_and_foreign_frames(site: Site) -> None:
    with site.client("anna") as client:
        answers: list[httpx.Response] = [
            client.get(path) for path in ("/", "/nowhere", "/flags.json", "/healthz")
        ]
        for answer in answers:
            policy = answer.headers["content-security-policy"]
            assert "default-src 'none'" in policy
            assert "frame-ancestors 'none'" in policy
            assert "script-src" not in policy
            assert answer.headers["x-content-type-options"] == "nosniff"


def test_what_people_write_is_shown_as_text(site: Site) -> None:
    name = "<script>alert(1)</script>"
    with site.db.database.system() as conn:
        clinics.add(conn, "odd", name, by="test")
    with site.client("anna") as client:
        page = client.get("/").text
        assert name not in page
        assert "&lt;script&gt;alert(1)" in page


TWINS = (
    "/",
    "/work",
    "/clinics/north",
    "/flags",
    "/flags/1",
    "/promotions",
    "/promotions/1",
    "/studies",
    "/models",
    "/health",
    "/help",
)


def test_every_page_has_its_twin(site: Site) -> None:
    with site.client("anna") as client:
        for path in TWINS:
            page = client.get(path)
            address = re.search(r'<a href="([^"]+)">This page as JSON', page.text)
            assert address, path
            by_name = client.get(address[1])
            by_kind = client.get(path, headers={"Accept": "application/json"})
            assert page.status_code == by_name.status_code == by_kind.status_code == 200
            assert by_name.json()["heading"] == by_kind.json()["heading"]
            assert by_name.json()["heading"] in page.text.replace("&#39;", "'")
        missing = client.get("/clinics/nowhere.json")
        assert (missing.status_code, missing.json()["code"]) == (404, "registry.clinic_unknown")
        assert client.get("/flags/999.json").json()["code"] == "monitoring.flag_unknown"
        assert client.get("/flags/nine.json").json()["code"] == "web.page_unknown"


def test_who_sees_one_clinic_sees_no_other(site: Site, world: World) -> None:
    """The same statements as for the fleet: row-level security leaves the others out."""
    south = [
        str(row[0])
        for row in world.sql(
            "select s.id from serving.study s join registry.clinic c on c.id = s.clinic_id "
            "where c.slug = 'south' limit 3"
        )
    ]
    flags = dict(
        world.sql("select c.slug, f.id from monitoring.flag f join registry.clinic c on c.id = f.clinic_id")
    )
    with site.client("clara") as client:
        assert client.get("/clinics/north").status_code == 200
        assert client.get(f"/flags/{flags['north']}").status_code == 200
        for path in (
            "/clinics/south",
            f"/flags/{flags['south']}",
            "/promotions",
            "/promotions/1",
            "/vendors",
            "/health",
            *(f"/studies/{id}" for id in south),
            *(f"/studies/{id}/picture/ms-lesion" for id in south),
        ):
            assert client.get(path).status_code == 404, path
            assert client.get(path, headers={"Accept": "application/json"}).status_code == 404, path
        assert client.get("/studies.json?clinic=south").json()["studies"] == []
        for path in ("/", "/flags", "/flags?past=1", "/studies", "/models"):
            text = client.get(path).text + client.get(path, headers={"Accept": "application/json"}).text
            assert "south" not in text.lower(), path
            assert not any(id in text for id in south), path
        page = client.get("/clinics/north").text
        token = client.cookies[desk.COOKIE]
        answer = client.post("/promotions/1/withdraw", data={"mark": desk.mark(token), "reason": "x"})
        assert answer.status_code == 404
        assert "/promotions/1/" not in page


def test_a_picture_that_cannot_be_had_is_named(site: Site, world: World) -> None:
    ((clinic, study),) = world.sql(
        "select s.clinic_id, s.id from serving.study s join registry.clinic c on c.id = s.clinic_id "
        "where c.slug = 'north' limit 1"
    )
    job = world.job(clinic, study)
    digest = world.sql("select digest from registry.model_version limit 1")[0][0]
    ((result,),) = world.sql(
        "insert into serving.result(clinic_id, study_id, revision, task, job_id, fence, binding_scope, binding_seq, "
        "digest, findings) values (%s, %s, 1, 'ms-lesion', %s, 1, '*', 1, %s, '{}') returning id",
        clinic, study, job, digest)  # fmt: skip
    with site.client("anna") as client:
        assert client.get(f"/studies/{study}/picture/ms-lesion").status_code == 404
        world.sql(
            "insert into serving.result_object(clinic_id, result_id, kind, path, size, sha256) "
            "values (%s, %s, 'preview', 'x', 1, %s)", clinic, result, b"0" * 32)  # fmt: skip
        answer = client.get(f"/studies/{study}/picture/ms-lesion", headers={"Accept": "application/json"})
        assert (answer.status_code, answer.json()["code"]) == (503, "web.door_away")


def test_a_fault_of_ours_shows_no_value(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    from monitoring.web import views_store

    def fail(*_: object) -> None:
        raise ValueError("Doe^Jane")

    monkeypatch.setattr(views_store, "clinics", fail)
    with site.client("anna") as client:
        answer = client.get("/")
        assert answer.status_code == 500
        assert "Doe" not in answer.text
        assert "core.bug" in answer.text


def test_a_read_only_session_is_refused_by_name(site: Site) -> None:
    with site.db.database.system() as conn:
        scoped = sessions.find(conn, site.token("clara"))
        visit = desk.Visit(desk.Desk(site.db.settings, site.db.database), scoped, {}, {})
        with pytest.raises(RadfleetError) as error:
            visit.actor(conn, accounts.Act.HOLD)
        assert error.value.code == "web.read_only"
