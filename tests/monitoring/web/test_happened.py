"""A clinic's page tells what changed at its own scanners beside what was bound and flagged."""

from psycopg.types.json import Jsonb

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


def test_the_vendor_page_begins_with_a_changed_protocol(site: Site, world: World) -> None:
    world.sql("delete from monitoring.acquisition")
    with site.client("anna") as client:
        assert "no scanner is known" in client.get("/vendors").text
        world.sql(
            "insert into monitoring.flag(clinic_id, stream_id, kind, epoch, subject, seq, since_seq, since_at,"
            " statistic, threshold, features, cause, sentence, would_change)"
            " select clinic_id, id, 'acquisition', 1, 'group', 1, 1, "
            "'2026-03-11T12:00Z', 0, 3650, '[]', %s, 's', 'w' from monitoring.stream",
            Jsonb({"vendor": "siemens", "model": "Prisma", "changed": {"te_ms": ["90", "120"]}}),
        )  # fmt: skip
        page = client.get("/vendors").text
    sentence = "another FLAIR protocol on the Siemens Prisma in 2 clinics (north, south), since 2026-03-11"
    assert f"Look first where the newest change was: {sentence}" in page and "echo time (ms) 90 → 120" in page
