"""Every page as people meet it: in a real browser, light and dark, narrow and wide, by keyboard, and as JSON."""

import itertools
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from psycopg.types.json import Jsonb

from registry import versions
from registry.conformance.standard import load
from registry.onboarding import decisions
from registry.promotions import moves
from tests.house.tree import ROOT
from tests.kit.answered import answered_study, draw
from tests.kit.browser import Browser, chromium
from tests.kit.db import FreshDb
from tests.kit.picture import add_preview, door
from tests.kit.registry_rows import TASK
from tests.kit.site import Site, people, serving, stream
from tests.kit.world import World
from tests.monitoring.web.axe import violations
from tests.monitoring.web.look import LOOK
from tests.registry.promoting import WHY, Line, begin

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
    world.sql(
        "insert into registry.scanner(clinic_id, vendor, model, serial, software) "
        "values (%s, 'Philips', 'Ingenia', '1', '5.7')",
        line.clinic("parque").id,
    )  # fmt: skip
    answered = answered_study(world, line.clinic("parque").id, line.version(1).digest)
    world.sql("update serving.result set findings = %s where id = %s", Jsonb(DOCUMENT), answered.result)
    add_preview(world, answered, DOCUMENT)
    blind = answered_study(world, line.clinic("parque").id, line.version(1).digest, uid="1.2.98")
    add_preview(world, blind, DOCUMENT)
    draw(world, blind, blinded=True)
    dead = world.study(line.clinic("norte").id, uid="1.2.99", state="dead")
    world.sql("update serving.study set code = 'registry.no_binding' where id = %s", dead)
    an_onboarding(world, line)
    card = json.loads((ROOT / "serving/packages/ms-lesion-1.0.0/card.json").read_text())
    with line.system() as conn:
        model = {"name": TASK, "version": "9.0.0", "task": TASK, "runtime_class": "cpu-small"}
        versions.add(conn, "sha256:" + "9" * 64, model, card, by="test")
    with door(fresh_db) as settings, serving(fresh_db, people(fresh_db, clara="andes"), settings) as running:
        STUDIES.update(answered=str(answered.study), blind=str(blind.study), dead=str(dead))
        yield running


def an_onboarding(world: World, line: Line) -> None:
    """norte is on its way: one scanner fits, one does not; its version was proposed by quin."""
    its = line.clinic("norte")
    with line.system() as conn:
        decisions.begin(conn, its, by="quin", reason="contract of November, first scanner in the north")
        decisions.waive(conn, its, "silent_run", by="anna", reason="its past was read by hand")
        proof = {"reviews": 27, "minutes": 171.0, "odds": 21.4, "reviews_digest": "sha256:0"}
        decisions.accept(
            conn, its, TASK, line.version(1).digest, proof, by="quin", reason="good on our own cases"
        )
    rows = [("siemens Prisma (simulated)", "accept", []),
            ("ge Signa HDxt", "refuse", [{"rule": "thickness-2d", "verdict": "refuse", "value": 6.0},
                                         {"rule": "flair-3d", "verdict": "warn", "value": "2D"}]),
            ("philips Ingenia", "unknown", [{"rule": "coverage", "verdict": "unknown", "value": None}])]  # fmt: skip
    for scanner, verdict, deviations in rows:
        world.sql(
            "insert into monitoring.conformance(clinic_id, seq, study_id, task, sequence, scanner, standard,"
            " rules_digest, verdict, deviations, at) select clinic_id, seq + %s, study_id, task, 'FLAIR', %s,"
            " 'ms-2021/1', %s, %s, %s, at from serving.feature where clinic_id = %s limit 12",
            1000 * len(scanner), scanner, load().digest, verdict, Jsonb(deviations), its.id,
        )  # fmt: skip
    world.sql("insert into registry.clinic_peer(clinic_id, calling_ae) values (%s, 'NORTE_MR')", its.id)
    world.sql(
        "insert into serving.destination(clinic_id, name, kind, host, port, ae_title)"
        " values (%s, 'pacs', 'cstore', '127.0.0.1', 104, 'PACS')", its.id,
    )  # fmt: skip


STUDIES: dict[str, str] = {}
DOCUMENT = {
    "findings": [
        {"name": "White matter lesion", "volume_ml": 1.26, "count": 5, "rule": "lesions/1", "reason": None}
    ],
    "warnings": ["The slices are 3 mm thick: small lesions may be missed."], "quality": {"snr_wm": 12.31, "efc": None},
    "not_assessed": ["spinal cord", "diagnosis"],
    "qualification": {"text": "AI - RESEARCH - NOT FOR PRIMARY DIAGNOSIS"},
}  # fmt: skip
ADDRESSES = (
    "/sign-in", "/", "/work", "/clinics/parque", "/clinics/lakeside", "/clinics/norte/onboarding",
    "/clinics/andes/onboarding", "/flags", "/flags/1", "/promotions", "/promotions/1",
    "/studies", "/studies/answered", "/studies/blind", "/studies/dead", "/vendors", "/models",
    "/models/ms-lesion@1.0.0", "/models/ms-lesion@9.0.0", "/health", "/help", "/help/errors/web.form_stale",
    "/studies/nowhere",
)  # fmt: skip


def faults(browser: Browser, site: Site, address: str, expected_status: int) -> list[str]:
    found = [
        f"console: {text}" for text in browser.errors if not (expected_status >= 400 and "status of" in text)
    ]
    found += [
        f"foreign request: {url}" for url in browser.requests if not url.startswith((site.base, "about:"))
    ]
    return found + [f"look: {text}" for text in browser.ask(LOOK)] + violations(browser)


def test_every_page_in_light_and_dark_narrow_and_wide(site: Site) -> None:
    wrong: list[str] = []
    with chromium() as browser:
        for address in ADDRESSES:
            if address == ADDRESSES[1]:
                browser.cookie("radfleet_session", site.token("anna"), site.base)
            kind, _, last = address.rpartition("/")
            page = address.strip("/").replace("/", "-") or "fleet"
            for dark, width in itertools.product((False, True), (390, 1280)):
                browser.look(width, dark)
                if width == 390:
                    browser.errors.clear()
                    browser.requests.clear()
                    browser.open(f"{site.base}{kind}/{STUDIES.get(last, last)}")
                name = f"{page}-{width}-{'dark' if dark else 'light'}"
                browser.photograph(PICTURES / f"{name}.png")
                status = 404 if last == "nowhere" else 200
                wrong += [f"{name}: {text}" for text in faults(browser, site, address, status)]
    assert wrong == []
    assert len(list(Path(PICTURES).glob("*.png"))) >= 4 * len(ADDRESSES)


BROKEN = {
    "contrast": "<p style='color:#999'>pale</p>", "no label": "<input name=x>", "no alt": "<img src='data:,'>",
    "picture without words": "<svg width=9 height=9></svg>", "status without its word": "<span class=s></span>",
    "caption or scopes": "<table><tr><th>a</th></tr></table>", "link without a name": "<a href='#'></a>",
    "exactly one h1": "<h1>Another.</h1>", "wider than the window": "<div style='width:3000px'>x</div>",
    "no sentence": "", "inline style": "<p style='margin:0'>x</p>",
}  # fmt: skip


def test_the_eye_sees_what_is_wrong() -> None:
    """Mutants: each fault that the look is there to find, planted alone into a page that has none."""
    with chromium() as browser:
        browser.look(1280, False)
        good = "<!doctype html><title>t</title><h1>Do this.</h1><p>Text</p>"
        browser.open(f"data:text/html,{good}")
        assert browser.ask(LOOK) == []
        for fault, planted in BROKEN.items():
            page = good.replace("Do this.", "Fleet") if fault == "no sentence" else good + planted
            browser.open("data:text/html," + page.replace("#", "%23"))
            assert any(fault in text for text in browser.ask(LOOK)), (fault, browser.ask(LOOK))
        browser.open(f"data:text/html,{good}<input name=x><p style='color:%23999'>pale</p>")
        assert {text.split(":")[0] for text in violations(browser)} >= {"axe label", "axe color-contrast"}
        browser.requests.clear()
        browser.open("data:text/html,<img alt=x src='http://elsewhere.example/x.png'><h1>x.</h1>")
        assert any("elsewhere" in url for url in browser.requests), "a foreign request is heard"
        assert browser.errors, "and so is its failure"


FOCUSED = """(() => { const n = document.activeElement, s = getComputedStyle(n);
  const name = (n.textContent || n.name || '').trim().slice(0, 40);
  return [n.tagName, name, s.outlineStyle, parseFloat(s.outlineWidth)]; })()"""


def test_a_person_works_by_keyboard_alone(site: Site) -> None:
    """Sign in, walk to the open flag, acknowledge it: no mouse, and the focus is always seen."""
    with chromium() as browser:
        browser.look(1280, False)
        browser.open(f"{site.base}/flags")

        def walk(to: str) -> None:
            for _ in range(60):
                browser.press("Tab")
                tag, text, style, width = browser.ask(FOCUSED)
                if tag == "BODY":  # the browser's own bar, between the last and the first
                    continue
                assert style != "none", (tag, text)
                assert width >= 2, (tag, text)
                if text.startswith(to):
                    return
            raise AssertionError(f"{to} cannot be reached")

        walk("name")
        browser.type("quin")
        walk("key")
        browser.type(site.keys["quin"])
        browser.submit()
        assert browser.ask("location.pathname") == "/flags"
        walk("FLAIR of the Philips")
        browser.submit()
        walk("reason")
        browser.type("looking at the newest studies")
        browser.submit()
        assert "open → acknowledged" in browser.ask("document.body.innerText")
        assert browser.errors == []
