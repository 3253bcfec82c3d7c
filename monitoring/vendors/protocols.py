"""Protocols of the fleet: field strength and settings by scanner and sequence, which clinics use each, what changed.

Used are the scanner groups of the streams' present references; changed is what raised a flag at its first study.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from monitoring.streams import groups
from registry.vendors import written

_TABLE = tuple(part for part in groups.PARTS if part != "software_major")


@dataclass(frozen=True, slots=True)
class Used:
    """One scanner group of a clinic's sequence. ``facts``: of ``groups.facts``; ``studies`` since ``first_at``."""

    clinic: str
    sequence: str
    facts: Mapping[str, str]
    first_at: datetime
    studies: int


@dataclass(frozen=True, slots=True)
class Arrived:
    """A scanner group that a reference did not know. ``change``: part -> [before, after], as its flag says it."""

    clinic: str
    sequence: str
    facts: Mapping[str, str]
    change: Mapping[str, list[str]]
    since: datetime


@dataclass(frozen=True, slots=True)
class Changed:
    """Another protocol on a machine that stayed the same; the same one at several clinics is one change."""

    sequence: str
    machine: str
    change: Mapping[str, list[str]]
    since: datetime
    clinics: tuple[str, ...]

    @property
    def sentence(self) -> str:
        """It in words, with the day of the first study."""
        what = ", ".join(f"{groups.WORDS[part]} {old} → {new}" for part, (old, new) in self.change.items())
        names = ", ".join(self.clinics)
        where = f"at {names}" if len(self.clinics) == 1 else f"in {len(self.clinics)} clinics ({names})"
        return (
            f"another {self.sequence} protocol on the {written(self.machine)} {where}, since"
            f" {self.since:%Y-%m-%d}: {what}"
        )


def table(used: Iterable[Used]) -> list[dict[str, Any]]:
    """Sequence, scanner, field strength and settings, and who uses them, the newest first."""
    once: dict[tuple[str, str, str], Used] = {}
    for one in used:  # streams of two tasks see the same studies
        key = (one.clinic, one.sequence, groups.name(one.facts))
        once[key] = max(one, once.get(key, one), key=lambda its: its.studies)
    found: dict[tuple[str, ...], list[Used]] = defaultdict(list)
    for one in once.values():
        found[one.sequence, *(one.facts[part] for part in _TABLE)].append(one)
    rows = [
        {
            "sequence": its[0].sequence, "scanner": groups.machine(its[0].facts),
            **{name: its[0].facts[name] for name in ("field_t", "coil", "protocol")},
            "settings": {name: its[0].facts[name] for name in groups.SETTINGS if name in its[0].facts},
            "says": ", ".join(f"{groups.WORDS[n]} {its[0].facts[n]}" for n in groups.SETTINGS if n in its[0].facts),
            "clinics": sorted({one.clinic for one in its}), "studies": sum(one.studies for one in its),
            "since": min(one.first_at for one in its),
        }
        for its in found.values()
    ]  # fmt: skip
    return sorted(rows, key=lambda row: (row["since"], row["sequence"], row["protocol"]), reverse=True)


def changes(arrived: Iterable[Arrived]) -> list[Changed]:
    """Every change of a protocol alone, the newest first."""
    same: dict[tuple[Any, ...], list[Arrived]] = defaultdict(list)
    for one in arrived:
        if groups.is_protocol(one.change):
            how = sorted((part, *pair) for part, pair in one.change.items())
            same[one.sequence, groups.machine(one.facts), *how].append(one)
    found = [
        Changed(
            sequence, machine, its[0].change, min(one.since for one in its),
            tuple(sorted({one.clinic for one in its})),
        )
        for (sequence, machine, *_), its in same.items()
    ]  # fmt: skip
    return sorted(found, key=lambda one: (one.since, one.sequence, one.machine), reverse=True)
