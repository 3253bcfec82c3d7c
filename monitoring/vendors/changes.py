"""What changed at scanners, from the headers of answered studies: one roll-out in three clinics is one event.

Nothing is inferred from images: a header that does not say its software shows as ``?`` and never as a change.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from typing import Any
from uuid import UUID

from registry.vendors import written

UNKNOWN = "?"


@dataclass(frozen=True, slots=True)
class Span:
    """One scanner of one clinic with one software, from its first to its last answered study."""

    clinic: str
    scanner_id: UUID | None
    vendor: str
    model: str
    software: str
    studies: int
    first_at: datetime
    last_at: datetime


@dataclass(frozen=True, slots=True)
class Seen:
    """An event as one clinic saw it: on which model, from what, since its first study, how many studies since."""

    clinic: str
    model: str
    before: str
    since: datetime
    studies: int


@dataclass(frozen=True, slots=True)
class Event:
    """One change in the fleet. ``kind`` is software, or scanner: another machine than the clinic sent before.

    ``clinics`` saw the change; ``also_there`` use the same without having changed while we watched.
    """

    kind: str
    vendor: str
    after: str
    since: datetime
    clinics: tuple[Seen, ...]
    also_there: tuple[str, ...]


def events(spans: Iterable[Span]) -> list[Event]:
    """Every change, the newest first."""
    spans = sorted(spans, key=lambda span: (span.first_at, span.clinic, span.model, span.software))
    seen: dict[tuple[str, str, str], list[Seen]] = defaultdict(list)
    for machine in _by(spans, lambda span: (span.clinic, span.vendor, span.model, span.scanner_id)).values():
        for before, span in _changed(machine):
            seen["software", span.vendor, span.software].append(_seen(span, before.software, machine))
    for clinic in _by(spans, lambda span: span.clinic).values():
        for before, span in _arrived(clinic):
            key = ("scanner", span.vendor, f"{span.vendor} {span.model}")
            seen[key].append(_seen(span, f"{before.vendor} {before.model}", clinic))
    found = [_event(key, clinics, spans) for key, clinics in seen.items()]
    return sorted(found, key=lambda event: (event.since, event.kind, event.after), reverse=True)


def table(spans: Iterable[Span]) -> list[dict[str, Any]]:
    """Manufacturer, model and software, and the clinics that scanned with it, the present ones marked as now."""
    spans = list(spans)
    last = {key: max(s.last_at for s in its) for key, its in _by(spans, _machine).items()}
    return [
        {
            "vendor": vendor, "model": model, "software": software, "studies": sum(s.studies for s in its),
            "since": min(s.first_at for s in its), "last": max(s.last_at for s in its),
            "clinics": sorted({s.clinic for s in its}),
            "now": sorted({s.clinic for s in its if s.last_at == last[_machine(s)]}),
        }
        for (vendor, model, software), its in sorted(_by(spans, lambda s: (s.vendor, s.model, s.software)).items())
    ]  # fmt: skip


def moments(events: Iterable[Event]) -> list[dict[str, Any]]:
    """Every change as one clinic saw it: clinic, at, kind, what changed, and from what to what."""
    return [
        {
            "clinic": seen.clinic, "at": seen.since, "kind": event.kind,
            "what": written(f"{event.vendor} {seen.model}") if event.kind == "software" else "another machine",
            "detail": f"{written(seen.before)} → {written(event.after)}",
        }
        for event in events for seen in event.clinics
    ]  # fmt: skip


def sentence(event: Event) -> str:
    """The event in one sentence, with dates as the studies gave them."""
    who = ", ".join(sorted({seen.clinic for seen in event.clinics}))
    count = len({seen.clinic for seen in event.clinics})
    if event.kind == "software":
        what = f"{written(event.vendor)} software became {event.after}"
    else:
        what = f"a {written(event.after)} began to send"
    where = f"at {who}" if count == 1 else f"in {count} clinics ({who})"
    also = f"; {', '.join(event.also_there)} had it before" if event.also_there else ""
    return f"{what} {where}, since {event.since:%Y-%m-%d}{also}"


def _machine(span: Span) -> tuple[Any, ...]:
    return span.clinic, span.vendor, span.model, span.scanner_id


def _by(spans: Iterable[Span], key: Any) -> dict[Any, list[Span]]:
    found: dict[Any, list[Span]] = defaultdict(list)
    for span in spans:
        found[key(span)].append(span)
    return found


def _changed(machine: Sequence[Span]) -> list[tuple[Span, Span]]:
    """(before, after) where one machine's software became another, header gaps passed over."""
    known = [span for span in machine if span.software != UNKNOWN]
    return list(pairwise(known))


def _arrived(clinic: Sequence[Span]) -> list[tuple[Span, Span]]:
    """(the machine that sent last before it, the first span of a new machine) of one clinic, ordered by time."""
    found, known = [], {_machine(clinic[0])}
    for span in clinic[1:]:
        if _machine(span) not in known:
            known.add(_machine(span))
            before = [other for other in clinic if other.first_at < span.first_at]
            if before and not any(_may_be(other, span) for other in before):
                found.append((max(before, key=lambda other: min(other.last_at, span.first_at)), span))
    return found


def _may_be(one: Span, other: Span) -> bool:
    """Whether both may be one machine: same model, and of one of them nobody knows which machine it was."""
    unnamed = None in (one.scanner_id, other.scanner_id)
    return unnamed and (one.vendor, one.model) == (other.vendor, other.model)


def _seen(span: Span, before: str, of: Sequence[Span]) -> Seen:
    same = [s for s in of if (_machine(s), s.software) == (_machine(span), span.software)]
    return Seen(span.clinic, span.model, before, span.first_at, sum(s.studies for s in same))


def _event(key: tuple[str, str, str], clinics: Sequence[Seen], spans: Sequence[Span]) -> Event:
    kind, vendor, after = key
    users = {
        s.clinic for s in spans
        if s.vendor == vendor and after == (s.software if kind == "software" else f"{s.vendor} {s.model}")
    }  # fmt: skip
    ordered = tuple(sorted(clinics, key=lambda seen: (seen.since, seen.clinic)))
    also = tuple(sorted(users - {seen.clinic for seen in clinics}))
    return Event(kind, vendor, after, ordered[0].since, ordered, also)
