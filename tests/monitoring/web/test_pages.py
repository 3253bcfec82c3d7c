"""Every page as people meet it: in a real browser, light and dark, narrow and wide, by keyboard, and as JSON."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from registry.promotions import moves
from tests.house.tree import ROOT
from tests.kit.browser import Browser, chromium
from tests.kit.db import FreshDb
from tests.kit.registry_rows import TASK
from tests.kit.site import Site, people, serving, stream
from tests.kit.world import World
from tests.monitoring.web.look import LOOK
from tests.registry.promoting import WHY, begin

pytestmark = pytest.mark.tool("chromium")
PICTURES = ROOT / "build" / "pages"


@pytest.fixture
def site(fresh_db: FreshDb, world: World) -> Iterator[Site]:
    """Four clinics: one to be fine-tuned and flagged, one watched, one silent on data, one healthy."""
    line = begin(fresh_db)
    for slug, verdict, shifted in (
        ("parque", "fine_tune", 9),
        ("andes", "healthy", 0),
        ("norte", "not_enough_data", 0),
    ):
        its = line.another(slug)
        stream(
            world, its.id, line.version(1).digest, shifted=shifted, verdict=verdict, flag=verdict == "fine_tune",
            sentence={"fine_tune": "Outlines are worse since two days: Dice 0.66 (0.61 to 0.70, n 26), contract 0.75.",
                      "healthy": "Nothing moved, confirmed by 38 blinded reviews.",
                      "not_enough_data": "31 of 50 reference studies are there."}[verdict],
        )  # fmt: skip
    line.measured(2)
    line.request(2)
    line.measured(3, clinic=line.clinic("parque"))
    with line.system() as conn:
        moves.request(conn, line.clinic("parque"), TASK, line.version(3).digest, **WHY)
    with serving(fresh_db, people(fresh_db, clara="andes")) as running:
        yield running


ADDRESSES = (
    "/sign-in", "/", "/clinics/parque", "/clinics/lakeside", "/flags", "/flags/1", "/promotions", "/promotions/1",
    "/studies", "/models", "/health", "/help", "/help/errors/web.form_stale", "/studies/nowhere",
)  # fmt: skip


def faults(browser: Browser, site: Site, address: str, expected_status: int) -> list[str]:
    found = [
        f"console: {text}" for text in browser.errors if not (expected_status >= 400 and "status of" in text)
    ]
    found += [
        f"foreign request: {url}" for url in browser.requests if not url.startswith((site.base, "about:"))
    ]
    return found + [f"look: {text}" for text in browser.ask(LOOK)]


def test_every_page_in_light_and_dark_narrow_and_wide(site: Site) -> None:
    wrong: list[str] = []
    with chromium() as browser:
        for address in ADDRESSES:
            if address == ADDRESSES[1]:
                browser.cookie("radfleet_session", site.token("anna"), site.base)
            for width in (390, 1280):
                for dark in (False, True):
                    browser.look(width, dark)
                    browser.errors.clear()
                    browser.requests.clear()
                    browser.open(site.base + address)
                    name = f"{address.strip('/').replace('/', '-') or 'fleet'}-{width}-{'dark' if dark else 'light'}"
                    browser.photograph(PICTURES / f"{name}.png")
                    status = 404 if address.endswith("nowhere") else 200
                    wrong += [f"{name}: {text}" for text in faults(browser, site, address, status)]
    assert wrong == []
    assert len(list(Path(PICTURES).glob("*.png"))) >= 4 * len(ADDRESSES)
