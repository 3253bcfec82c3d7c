"""Probation: whether the clinic does better or worse since a promotion, by bets that may be looked at every day.

Each measure is a loss from 0 to 1 a row, in the order in which rows came. What was lost on average before the
promotion, plus a tolerance, is the bar m. One bet says that the mean loss is at most m, the other that it is at least
m: factors 1 + c (x - m) / m over several c, and the product is a fair game under what the bet says (Waudby-Smith and
Ramdas 2024; research note "monitoring" 4.3). So 20 is reached by chance in at most 1 of 20 promotions, however often
somebody looks. The bar itself is estimated from what was before; the tolerance covers that in part, not wholly.
"""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from uuid import UUID

from registry.bindings import EVERYWHERE
from registry.core.db import Database
from registry.promotions import watch_store
from registry.promotions.watch_store import Probation, Review

BETS = (0.2, 0.4, 0.6, 0.8)
ODDS = 20.0
TOLERANCE = 0.05
BEFORE_MIN = 8


class Health(StrEnum):
    """How a clinic does since a promotion."""

    HEALTHY = "healthy"
    WORSE = "worse"
    NOT_ENOUGH = "not_enough"


@dataclass(frozen=True, slots=True)
class Measure:
    """One measure before and since: rows, mean losses, the odds that it is worse and that it is not."""

    name: str
    n_before: int
    n: int
    before: float | None
    since: float | None
    odds_worse: float
    odds_fine: float
    health: Health
    why: str


def measure(name: str, before: Sequence[float], since: Sequence[float]) -> Measure:
    """Judge losses (0 to 1) since a promotion against those before it, both in the order in which they came."""
    then = sum(before) / len(before) if before else None
    now = sum(since) / len(since) if since else None
    if then is None or len(before) < BEFORE_MIN:
        why = f"{len(before)} rows before the promotion, needed are {BEFORE_MIN}"
        return Measure(name, len(before), len(since), then, now, 1.0, 1.0, Health.NOT_ENOUGH, why)
    bar = min(then + TOLERANCE, 1 - TOLERANCE)
    worse, fine = odds(since, bar), odds([1 - loss for loss in since], 1 - bar)
    if worse >= ODDS:
        health, why = Health.WORSE, f"odds {worse:.0f}:1 that the mean loss is above {bar:.3f}"
    elif fine >= ODDS:
        health, why = Health.HEALTHY, f"odds {fine:.0f}:1 that the mean loss is below {bar:.3f}"
    else:
        health, why = Health.NOT_ENOUGH, f"{len(since)} rows since the promotion do not tell yet"
    return Measure(name, len(before), len(since), then, now, worse, fine, health, why)


def odds(losses: Sequence[float], bar: float) -> float:
    """The highest odds that the bets against "the mean loss is at most bar" ever reached; at least 1. bar: 0 to 1."""
    wealth, top = [1.0] * len(BETS), 1.0
    for loss in losses:
        wealth = [w * (1 + c * (loss - bar) / bar) for w, c in zip(wealth, BETS, strict=True)]
        top = max(top, sum(wealth) / len(wealth))
    return top


@dataclass(frozen=True, slots=True)
class Watched:
    """One promotion on probation: how it does, why we say so, and the command that goes back."""

    promotion: Probation
    health: Health
    why: str
    measures: tuple[Measure, ...]
    flags: dict[str, int]
    rollback: str


def look(db: Database, clinic_id: UUID | None, limit: int) -> Sequence[Watched]:
    """Every promotion that answers now, of one clinic or of all, and how its clinic does since."""
    with db.system() as conn:
        on_probation = watch_store.probations(conn, clinic_id, limit)
    found = []
    with db.monitor() as conn:
        for it in on_probation:
            studies = measure("studies", *watch_store.studies(conn, it))
            measures = (*judge_reviews(watch_store.reviews(conn, it)), studies)
            flags = watch_store.flags(conn, it)
            found.append(Watched(it, *overall(measures, flags), measures, flags, _back(it)))
    return found


def judge_reviews(rows: Sequence[Review]) -> tuple[Measure, Measure]:
    """Dice of blinded readings, who drew before they saw; and how often the others did not accept."""
    blinded: tuple[list[float], list[float]] = ([], [])
    decisions: tuple[list[float], list[float]] = ([], [])
    for row in rows:
        if row.blinded and row.dice is not None:
            blinded[row.since].append(1 - row.dice)
        elif not row.blinded:
            decisions[row.since].append(float(row.decision != "accept"))
    return measure("dice", *blinded), measure("decisions", *decisions)


def overall(measures: Sequence[Measure], flags: dict[str, int]) -> tuple[Health, str]:
    """The worst of the measures and of flags since; healthy only where blinded readings say so and nothing against it.

    flags: open ones by kind. A flag of harm rests on reviews and counts as worse; one of drift only says "look".
    """
    worse = [f"{m.name}: {m.why}" for m in measures if m.health is Health.WORSE]
    if worse:
        return Health.WORSE, "; ".join(worse)
    if flags.get("harm"):
        return Health.WORSE, "monitoring has proven harm since: radfleet flag list"
    if flags:
        return Health.NOT_ENOUGH, f"{sum(flags.values())} open flags were raised since: radfleet flag list"
    dice = next(m for m in measures if m.name == "dice")
    return dice.health, f"dice: {dice.why}"


def exit_code(found: Sequence[Watched]) -> int:
    """6 where any is worse, else 3 where any is unknown, else 0."""
    health = {it.health for it in found}
    return 6 if Health.WORSE in health else 3 if Health.NOT_ENOUGH in health else 0


def _back(it: Probation) -> str:
    words = ["radfleet", "promotion", "rollback", it.clinic, it.task]
    words += ["--scope", it.scope] if it.scope != EVERYWHERE else []
    return shlex.join([*words, "--reason"]) + " TEXT"
