"""A clinic's page shows its closed days, and calls nobody about the silence of one that is shut."""

from datetime import UTC, datetime, timedelta

from registry import clinics
from registry.closures import closures
from tests.kit.site import Site, stream
from tests.kit.world import World


def state(site: Site, first: int, last: int, reason: str, slug: str = "north") -> int:
    today = datetime.now(UTC).date()
    with site.db.database.system() as conn:
        its, _ = closures.state(
            conn, clinics.by_slug(conn, slug), today + timedelta(days=first), today + timedelta(days=last),
            by="quin", reason=reason,
        )  # fmt: skip
    return its.number


def test_a_page_shows_closed_days_and_their_twin(site: Site) -> None:
    with site.client("anna") as client:
        assert "None stated." in client.get("/clinics/north").text
        gone = state(site, -9, -8, "a mistake")
        state(site, -1, 6, "<b>Christmas</b>")
        state(site, 30, 30, "a new floor")
        with site.db.database.system() as conn:
            closures.withdraw(conn, clinics.by_slug(conn, "north"), gone, by="quin", reason="they worked")
        page = client.get("/clinics/north").text
        assert "&lt;b&gt;Christmas" in page and "a new floor" in page and "a mistake" not in page
        assert page.count("Closed today.") == 1
        twin = client.get("/clinics/north.json").json()
        assert [(k["reason"], k["stated_by"], k["today"]) for k in twin["closures"]] == [
            ("a new floor", "quin", False), ("<b>Christmas</b>", "quin", True),
        ]  # fmt: skip
        assert client.get("/clinics/south.json").json()["closures"] == []
    with site.client("clara") as client:
        assert "a new floor" in client.get("/clinics/north").text, "it is her clinic's"


def test_the_silence_of_a_closed_clinic_calls_nobody(site: Site, world: World) -> None:
    its = world.clinic("east")
    ((digest,),) = world.sql("select digest from registry.binding limit 1")
    world.bind(its, digest, "ms-lesion")
    stream(world, its, digest, studies=12, verdict="healthy")
    ago = "now() - interval '9 days'"
    world.sql(f"update monitoring.stream_state set last_at = {ago} where clinic_id = %s", its)
    world.sql(f"update serving.study set first_at = {ago}, last_at = {ago} where clinic_id = %s", its)
    world.sql(f"update registry.binding set valid = tstzrange({ago}, null) where clinic_id = %s", its)
    with site.client("anna") as client:
        shown = client.get("/clinics/east.json").json()
        assert shown["need"] == "silent" and "call them" in shown["heading"]
        state(site, 1, 6, "Christmas", "east")
        assert "call them" in client.get("/clinics/east.json").json()["heading"], "not closed yet"
        state(site, -2, 6, "Christmas", "east")
        assert "call them" in client.get("/clinics/east.json").json()["heading"], (
            "it was silent before it closed"
        )
        assert silent(site, world), "and the work list and the alert say so"
        state(site, -9, -1, "works", "east")
        shown = client.get("/clinics/east.json").json()
        assert shown["need"] == "healthy"
        assert "nothing to do, it is closed until" in shown["heading"]
        assert not silent(site, world)


def silent(site: Site, world: World) -> bool:
    """Whether work list and alert call for east, which must say the same."""
    with site.client("anna") as client:
        listed = any(item["clinic"] == "east" for item in client.get("/work.json").json()["items"])
    ((over,),) = world.sql(
        "select now() - last_heard_at > silent_after from monitoring.clinic_load_v where clinic = 'east'"
    )
    assert listed == over
    return listed
