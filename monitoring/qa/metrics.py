"""QA metrics of a clinic, cut by version and scanner group: pure, from rows, each with its n.

A number that the rows do not hold is None. What is estimated stands apart, in ``qa/estimated``.
"""

from collections import Counter, defaultdict
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any
from uuid import UUID

from monitoring.qa.intervals import Middle, Share, middle, quantile, share
from monitoring.streams import groups

ENDED = ("done", "rejected", "dead")
WEEK = timedelta(days=7)


class By(StrEnum):
    """How finely rows are cut."""

    CLINIC = "clinic"
    VERSION = "version"
    SCANNER = "scanner"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one task of one study. ``task`` is None where it was refused before any task."""

    clinic: str
    study_id: UUID
    task: str | None
    model: str | None
    scanner_id: UUID | None
    profile: Mapping[str, Any] | None
    state: str
    code: str | None
    last_at: datetime
    answered_at: datetime | None
    delivered_at: datetime | None
    waiting: int
    delivery_failed: int
    group: str = groups.UNKNOWN

    @property
    def turnaround_s(self) -> float | None:
        """Seconds from the last image to the last delivery, or to the answer where nothing is to be delivered."""
        if self.state != "done" or self.waiting or self.delivery_failed:
            return None
        end = self.delivered_at or self.answered_at
        return (end - self.last_at).total_seconds() if end else None


@dataclass(frozen=True, slots=True)
class Review:
    """What one reader said of one answer."""

    clinic: str
    study_id: UUID
    task: str
    model: str
    profile: Mapping[str, Any] | None
    decision: str
    blinded: bool
    dice: float | None
    minutes: float | None


@dataclass(frozen=True, slots=True)
class Metrics:
    """One cut. Shares are of ended tasks; ``dice`` is by blinded and open, one case a study (mean of its readers)."""

    clinic: str
    task: str | None
    model: str | None
    group: str | None
    studies: int
    a_week: float
    last_at: datetime | None
    silence_days: float | None
    failed: Share
    rejected: Share
    codes: Mapping[str, int]
    undelivered: int
    turnaround_p50_s: float | None
    turnaround_p95_s: float | None
    turnaround_n: int
    decisions: Mapping[str, int]
    accepted: Share
    dice: Mapping[str, Middle]
    minutes: float = field(default=0.0)


def with_groups(rows: Sequence[Outcome]) -> list[Outcome]:
    """The rows with their scanner group, in the order of time.

    A study that was not answered has no acquisition profile: it counts to the group that its scanner had last.
    """
    last: dict[UUID | None, str] = {}
    found = []
    for row in sorted(rows, key=lambda row: (row.last_at, row.study_id)):
        if row.profile:
            last[row.scanner_id] = groups.name(groups.facts(row.profile))
        known = last.get(row.scanner_id, groups.UNKNOWN) if row.scanner_id or row.profile else groups.UNKNOWN
        found.append(replace(row, group=known))
    return found


def metrics(
    outcomes: Sequence[Outcome], reviews: Sequence[Review], by: By, now: datetime, window: timedelta,
    last: Mapping[str, datetime | None],
) -> list[Metrics]:  # fmt: skip
    """Every cut of these rows, which all lie within ``window`` before ``now``, by clinic, task, version and group.

    ``last`` is each clinic's last study ever: cut by clinic, one that sent nothing in the window is there too,
    because silence is a state and no absence.
    """
    rows: dict[tuple[Any, ...], list[Outcome]] = defaultdict(list)
    said: dict[tuple[Any, ...], list[Review]] = defaultdict(list)
    for row in with_groups(outcomes):
        rows[_cut(by, row.clinic, row.task, row.model, row.group)].append(row)
    for one in reviews:
        group = groups.name(groups.facts(one.profile)) if one.profile else groups.UNKNOWN
        said[_cut(by, one.clinic, one.task, one.model, group)].append(one)
    silent = {_cut(by, clinic) for clinic in last} if by is By.CLINIC else set()
    keys = sorted({*rows, *said, *silent}, key=lambda key: tuple(part or "" for part in key))
    return [_metrics(key, rows[key], said[key], now, window, last if by is By.CLINIC else {}) for key in keys]


def _cut(by: By, *parts: str | None) -> tuple[str | None, ...]:
    kept = {By.CLINIC: 1, By.VERSION: 3, By.SCANNER: 4}[by]
    return (*parts[:kept], *[None] * (4 - kept))


def _metrics(
    key: tuple[Any, ...], rows: Sequence[Outcome], said: Sequence[Review], now: datetime, window: timedelta,
    last: Mapping[str, datetime | None],
) -> Metrics:  # fmt: skip
    ended = [row for row in rows if row.state in ENDED]
    states = Counter(row.state for row in ended)
    times = [row.turnaround_s for row in rows if row.turnaround_s is not None]
    last_at = max((row.last_at for row in rows), default=last.get(key[0]))
    decisions = Counter(one.decision for one in said)
    studies = len({row.study_id for row in rows})
    clinic, task, model, group = key
    return Metrics(
        clinic, task, model, group,
        studies=studies,
        a_week=studies / (window / WEEK),
        last_at=last_at,
        silence_days=(now - last_at).total_seconds() / 86400 if last_at else None,
        failed=share(states["dead"], len(ended)),
        rejected=share(states["rejected"], len(ended)),
        codes=dict(Counter(row.code for row in ended if row.code).most_common()),
        undelivered=sum(row.delivery_failed > 0 for row in rows),
        turnaround_p50_s=quantile(times, 0.5),
        turnaround_p95_s=quantile(times, 0.95),
        turnaround_n=len(times),
        decisions={name: decisions[name] for name in ("accept", "edit", "reject")},
        accepted=share(decisions["accept"], len(said)),
        dice={name: _dice([one for one in said if one.blinded == (name == "blinded")])
              for name in ("blinded", "open")},
        minutes=sum(one.minutes or 0.0 for one in said),
    )  # fmt: skip


def _dice(said: Sequence[Review]) -> Middle:
    cases: dict[Hashable, list[float]] = defaultdict(list)
    for one in said:
        if one.dice is not None:
            cases[one.study_id, one.task].append(one.dice)
    return middle([sum(scores) / len(scores) for scores in cases.values()])
