"""A page and its JSON twin: one set of facts, rendered by a template or dumped as it is."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, is_dataclass
from datetime import date, datetime
from functools import cache
from pathlib import Path
from typing import Any
from uuid import UUID

from fastapi.responses import HTMLResponse, JSONResponse, Response
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from monitoring.web import charts, words
from registry.core.errors import RadfleetError
from registry.core.output import ago
from registry.sign_in.sessions_store import Session
from registry.vendors import written

HERE = Path(__file__).parent
NAV = (
    ("Work", "/work"), ("Fleet", "/"), ("Flags", "/flags"), ("Promotions", "/promotions"), ("Studies", "/studies"),
    ("Scanners", "/vendors"), ("Models", "/models"),
    ("Health", "/health"), ("Help", "/help"),
)  # fmt: skip
# Who sees one clinic sees what is its own, and what versions are.
CLINIC_NAV = tuple(pair for pair in NAV if pair[0] not in ("Promotions", "Scanners", "Health"))
# No script at all: nothing that a name or a reason holds can run. A report's frame has a policy of its own.
POLICY = (
    "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; frame-src 'self'; "
    "frame-ancestors 'none'; base-uri 'none'"
)
# Evidently's report draws itself by scripts: it runs in an origin of its own, without cookies, and can ask nobody.
SANDBOX = (
    "sandbox allow-scripts; default-src 'none'; script-src 'unsafe-inline' 'unsafe-eval'; style-src 'unsafe-inline'; "
    "img-src data: blob:; font-src data:; frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
    "Vary": "Accept, Cookie",
}


@dataclass(frozen=True, slots=True)
class Page:
    """What a page says. ``heading`` is a sentence that says what to do; ``facts`` are also its JSON twin."""

    template: str
    nav: str
    heading: str
    facts: Mapping[str, Any] = field(default_factory=dict)
    status: int = 200


@dataclass(frozen=True, slots=True)
class Frame:
    """What stands around every page: who is signed in, the mark of its forms, what the last form did."""

    who: Session | None = None
    mark: str = ""
    said: Mapping[str, Any] | None = None
    twin: str = ""


def html(page: Page, frame: Frame) -> HTMLResponse:
    """The page for people."""
    nav = CLINIC_NAV if frame.who and frame.who.clinic else NAV
    text = templates().get_template(page.template).render(
        page.facts, heading=page.heading, here=page.nav, frame=frame, nav=nav, sheet=f"/static/{SHEET}",
        icon=f"/static/{ICON}",
    )  # fmt: skip
    return HTMLResponse(text, page.status, headers=HEADERS)


def document(template: str, **facts: Any) -> str:
    """A file that stands alone: its style is inside, and it asks nobody for anything."""
    css = (HERE / "static" / "radfleet.css").read_text()
    return templates().get_template(template).render(facts, css=css)


def twin(page: Page) -> JSONResponse:
    """The page for programs: the same facts."""
    body = json.loads(json.dumps({"heading": page.heading, **page.facts}, default=plain))
    return JSONResponse(body, page.status, headers=HEADERS)


def error_page(error: RadfleetError) -> Page:
    """What happened, why, and the cure, as a page."""
    facts = {"what": error.what, "why": error.why_text, "cure": error.cure_text, "code": error.code}
    heading = error.what[:1].upper() + error.what[1:].rstrip(".") + "."
    return Page("error.html", "", heading, facts, error.answer.http)


def problem(error: RadfleetError, status: int) -> Response:
    """The same for programs: RFC 9457."""
    body = error.problem() | {"status": status}
    return JSONResponse(body, status, headers=HEADERS, media_type="application/problem+json")


def plain(value: Any) -> Any:
    """A value as JSON has it."""
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    if isinstance(value, datetime | date):
        return value.isoformat()
    if isinstance(value, UUID):
        return str(value)
    if isinstance(value, set | frozenset):
        return sorted(value)
    raise TypeError(type(value).__name__)


@cache
def templates() -> Environment:
    """The templates: escaped everywhere, and a misspelt name is an error and not an empty place."""
    env = Environment(
        loader=FileSystemLoader(HERE / "templates"), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    env.filters.update(
        ago=ago,
        when=words.when,
        day=words.day,
        num=words.num,
        short=words.short,
        said=words.said,
        shape=words.shape,
        written=written,
    )
    env.globals.update(spark=charts.spark, series=charts.series)
    return env


STATIC: dict[str, tuple[bytes, str]] = {}
for _path, _kind in (("radfleet.css", "text/css"), ("radfleet.svg", "image/svg+xml")):
    _data = (HERE / "static" / _path).read_bytes()
    # The name carries the content, so a browser may keep it for ever.
    STATIC[f"{hashlib.sha256(_data).hexdigest()[:12]}-{_path}"] = (_data, _kind)
SHEET = next(name for name in STATIC if name.endswith(".css"))
ICON = next(name for name in STATIC if name.endswith(".svg"))
