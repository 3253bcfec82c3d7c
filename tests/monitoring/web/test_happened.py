"""A clinic's page tells what changed at its own scanners beside what was bound and flagged."""

from tests.kit.site import Site
from tests.kit.world import World

PUT = """
insert into monitoring.acquisition(clinic_id, vendor, model, software, studies, first_at, last_at)
select clinic_id, %s, %s, %s, 30, now() + %s::interval, now() + %s::interval from registry.clinic_v where clinic = %s"""


def test_a_clinics_page_tells_when_its_scanners_changed(site: Site, world: World) -> None:
    world.sql("delete from monitoring.acquisition")
    for row in (
        ("siemens", "Prisma", "E11", "-60 days", "-40 days", "north"),
        ("siemens", "Prisma", "XA30", "-40 days", "1 hour", "north"),
        ("ge", "MR750", "27", "2 hours", "3 hours", "north"),
        ("philips", "Achieva", "5.7", "-60 days", "0 days", "south"),
        ("philips", "Achieva", "5.9", "1 hour", "2 hours", "south"),
    ):
        world.sql(PUT, *row)
    with site.client("clara") as client:
        told = client.get("/clinics/north.json").json()["timeline"]
        page = client.get("/clinics/north").text
    assert (told[0]["kind"], told[0]["what"]) == ("scanner", "another machine")
    assert told[0]["detail"] == "Siemens Prisma → GE MR750"
    assert [(t["what"], t["detail"]) for t in told if t["kind"] == "software"] == [
        ("Siemens Prisma", "E11 → XA30")
    ]
    assert told[-1]["kind"] == "software" and {"binding", "flag"} <= {t["kind"] for t in told}
    assert "Siemens Prisma: E11 → XA30" in page and "Achieva" not in page
    with site.client("anna") as client:
        assert client.get("/clinics/north.json").json()["timeline"] == told
        assert "Philips Achieva: 5.7 → 5.9" in client.get("/clinics/south").text
