"""What people decide on the pages: promotions and flags by forms, told as before and after, refused by name."""

import gzip
import re

import httpx

from monitoring.evidence import freeze
from monitoring.web import desk
from registry import bindings, clinics
from registry.promotions import moves
from tests.kit.site import Site
from tests.kit.world import World


def _send(client: httpx.Client, path: str, **data: str) -> httpx.Response:
    return client.post(path, data={"mark": desk.mark(client.cookies[desk.COOKIE]), **data})


def test_two_people_promote_and_roll_back_by_forms(site: Site) -> None:
    with site.client("bert") as bert, site.client("anna") as anna, site.client("quin") as quin:
        assert "somebody else approves" in bert.get("/promotions/1").text
        refused = _send(bert, "/promotions/1/approve")
        assert (refused.status_code, "promotion.same_person" in refused.text) == (403, True)
        assert "Your role may look" in quin.get("/promotions/1").text
        assert _send(quin, "/promotions/1/approve").status_code == 403
        done = _send(anna, "/promotions/1/approve")
        assert done.headers["location"] == "/promotions/1"
        page = anna.get("/promotions/1").text
        assert "proposed → approved" in page
        assert "Done:" not in anna.get("/promotions/1").text, "told once"
        assert _send(anna, "/promotions/1/approve").status_code == 409
        assert _send(bert, "/promotions/1/apply").status_code == 303
        page = bert.get("/promotions/1").text
        assert "(seq 2, scope *)" in page
        assert "radfleet promotion rollback north ms-lesion" in page
        seq = re.search(r'name="seq" value="(\d+)"', page)
        assert seq
        assert seq[1] == "2"
        assert _send(bert, "/promotions/1/rollback", seq="2").status_code == 422, "a reason is needed"
        back = _send(bert, "/promotions/1/rollback", seq="2", reason="worse")
        assert back.headers["location"] == "/promotions/2"
        assert "(seq 3, scope *)" in bert.get("/promotions/2").text
        again = _send(bert, "/promotions/1/rollback", seq="2", reason="sent twice")
        assert again.status_code == 409
        assert _send(bert, "/promotions/1/rollback", seq="x", reason="r").status_code == 422


def test_a_flag_is_acknowledged_muted_and_resolved_by_forms(site: Site) -> None:
    with site.client("quin") as quin, site.client("vera") as vera:
        assert "/flags/1/resolve" not in vera.get("/flags/1").text
        assert _send(vera, "/flags/1/acknowledge", reason="x").status_code == 403
        assert _send(quin, "/flags/1/acknowledge", reason=" ").status_code == 422
        assert _send(quin, "/flags/1/acknowledge", reason="looking").headers["location"] == "/flags/1"
        page = quin.get("/flags/1").text
        assert "open → acknowledged" in page
        assert "quin: looking" in page
        for hours in ("", "-1", "0", "721", "1e3"):
            assert _send(quin, "/flags/1/mute", reason="r", hours=hours).status_code == 422, hours
        assert _send(quin, "/flags/1/mute", reason="at night", hours="8").status_code == 303
        assert "acknowledged → muted" in quin.get("/flags/1").text
        assert _send(quin, "/flags/1/resolve", reason="new coil, agreed", fresh="on").status_code == 303
        assert "muted → resolved" in quin.get("/flags/1").text
        assert quin.get("/flags/1.json").json()["whole"] is True
        assert _send(quin, "/flags/1/resolve", reason="again").status_code == 409
        assert _send(quin, "/flags/99/resolve", reason="none").status_code == 404


def test_a_frozen_report_runs_in_a_sandbox(site: Site, world: World) -> None:
    html = b"<html><script>1</script></html>"
    with site.client("quin") as quin:
        assert quin.get("/flags/1/report").status_code == 404
        world.sql(
            "insert into monitoring.report(clinic_id, kind, flag_id, digest, html, size, rows_digest, reference_rows, "
            "current_rows, methods, opinion, library) select clinic_id, 'flag', id, %s, %s, 1, %s, 50, 12, '[]', '{}', "
            "'evidently 0.7.23' from monitoring.flag where id = 1",
            freeze.digest_of(html), gzip.compress(html), "sha256:" + "b" * 64)  # fmt: skip
        assert 'href="/flags/1/report"' in quin.get("/flags/1").text
        answer = quin.get("/flags/1/report")
        assert answer.content == html
        policy = answer.headers["content-security-policy"]
        assert policy.startswith("sandbox allow-scripts;")
        assert "allow-same-origin" not in policy
        assert "connect-src" not in policy, "default-src 'none' holds"
        world.sql("alter table monitoring.report disable trigger user")
        world.sql("update monitoring.report set html = %s", gzip.compress(html + b"<p>better</p>"))
        damaged = quin.get("/flags/1/report")
        assert damaged.status_code != 200 and "better" not in damaged.text
    with site.client("clara") as clara:
        assert clara.get("/flags/1/report").status_code == 404
        assert clara.get("/flags/2/report").status_code == 404


def test_a_promotion_is_withdrawn_by_a_form(site: Site) -> None:
    with site.client("anna") as anna:
        assert _send(anna, "/promotions/1/withdraw", reason="").status_code == 422
        assert _send(anna, "/promotions/1/withdraw", reason="not now").status_code == 303
        assert "proposed → withdrawn" in anna.get("/promotions/1").text
        with site.db.database.system() as conn:
            assert moves.show(conn, 1).state == "withdrawn"


def test_an_apply_after_another_binding_is_stale(site: Site) -> None:
    line_of = clinics.by_slug
    with site.client("anna") as anna, site.client("bert") as bert:
        assert _send(anna, "/promotions/1/approve").status_code == 303
        with site.db.database.system() as conn:
            digest = moves.show(conn, 1).digest
            bindings.set(conn, line_of(conn, "north"), "ms-lesion", digest, by="anna", reason="by hand")
        answer = _send(bert, "/promotions/1/apply")
        assert (answer.status_code, "promotion.stale" in answer.text) == (409, True)
        assert "request it again" in bert.get("/promotions/1").text
