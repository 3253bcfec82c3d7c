"""The onboarding page: what is missing, who may propose and sign, its twin, and that a clinic's session has none."""

from collections.abc import Iterator

import pytest

from monitoring.evidence import freeze
from monitoring.web import desk
from monitoring.web.desk import COOKIE
from tests.kit.site import Site, people, serving
from tests.monitoring.onboarding.test_report import drawn
from tests.monitoring.onboarding.way import TASK, THICK, Way

PAGE = "/clinics/north/onboarding"


@pytest.fixture
def site(way: Way) -> Iterator[Site]:
    with serving(way.world.db, people(way.world.db, clara="north")) as running:
        yield running


def _send(client: object, **fields: str) -> object:
    mark = desk.mark(client.cookies[COOKIE])  # type: ignore[attr-defined]
    return client.post(f"{PAGE}/accept", data={"mark": mark, **fields})  # type: ignore[attr-defined]


def test_two_people_sign_on_the_page(way: Way, site: Site) -> None:
    with site.client("quin") as quin, site.client("anna") as anna, site.client("vera") as vera:
        assert "begin its onboarding" in quin.get(PAGE).text
        way.ready()
        way.standing()
        page = quin.get(PAGE).text
        assert "review its own cases, then two people sign" in page
        assert "Propose ms-lesion" in page
        assert "Propose ms-lesion" not in vera.get(PAGE).text
        assert _send(vera, task=TASK, reason="me").status_code == 403
        assert _send(quin, task=TASK, reason="").status_code == 422
        assert _send(quin, task="brain-regions", reason="good").status_code == 404
        assert _send(quin, task=TASK, reason="good here").status_code == 303
        assert "another person than quin" in quin.get(PAGE).text
        assert "Sign ms-lesion" not in quin.get(PAGE).text
        assert _send(quin, task=TASK, reason="good here").status_code == 403
        assert "Sign ms-lesion" in anna.get(PAGE).text
        assert _send(anna, task=TASK, reason="I agree").status_code == 303
        told = anna.get(f"{PAGE}.json").json()
        assert (told["state"], told["acceptances"][0]["signed_by"]) == ("active", "anna")
        assert told == told | {"heading": "north: wait for its first delivered result."}
        assert _send(anna, task=TASK, reason="again").status_code == 409


def test_the_page_shows_conformance_with_advice_and_the_frozen_report(way: Way, site: Site) -> None:
    way.ready()
    way.answered(12, THICK)
    way.standing()
    (one,) = freeze.of_onboarding(way.db, "north", make=drawn)
    with site.client("vera") as vera:
        page = vera.get(PAGE).text
        assert "Set the slice thickness to 3 mm or less" in page
        assert "Siemens Prisma" in page
        address = f"/clinics/north/reports/{one.digest[7:19]}"
        assert address in page
        answer = vera.get(address)
        assert answer.content == b"<html>31</html>"
        assert answer.headers["content-security-policy"].startswith("sandbox")
        assert vera.get(f"/clinics/north/reports/{one.digest[7:12]}").status_code == 404
        assert vera.get(f"/clinics/north/reports/{'0' * 12}").status_code == 404
        assert vera.get("/clinics/nowhere/onboarding").status_code == 404
        assert f'href="{PAGE}"' in vera.get("/clinics/north").text


def test_who_sees_one_clinic_sees_no_onboarding(way: Way, site: Site) -> None:
    """It names the operator's people and what they still have to do."""
    way.ready()
    with site.client("clara") as clara:
        assert clara.get(PAGE).status_code == 404
        assert _send(clara, task=TASK, reason="me").status_code == 404
