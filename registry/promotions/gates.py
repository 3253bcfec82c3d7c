"""The gates of a promotion: one pure function from margins and scores of people to verdicts.

Candidate and active version are compared person by person on the same data set. The lower bound is Hartigan's (JASA
1969): of the mean differences of many random subsets of the people, the value that 5 % lie at or below. It is exact for
differences that scatter evenly around their mean, at 6 people as at 600. Whether somebody belongs to a subset
follows from the pseudonym alone, so the order of people is nothing, and one more person who is worse, or a worse
score, can only lower the count of subsets above the bar: more evidence of harm never opens a gate.
"""

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from registry.promotions.evidence_store import Evidence, Policy

ALPHA, SUBSETS = 0.05, 1 << 14
# Scores are counted in millionths: sums of whole numbers do not depend on their order.
UNIT = 1_000_000
Scores = dict[tuple[str, str], int]


class Verdict(StrEnum):
    """What a gate says."""

    PASS = "pass"  # noqa: S105 - a verdict, no password
    FAIL = "fail"
    NOT_ENOUGH = "not_enough"


@dataclass(frozen=True, slots=True)
class Gate:
    """A verdict and the numbers that it rests on: people counted, differences candidate minus active."""

    name: str
    verdict: Verdict
    people: int
    people_min: int
    mean: float | None
    lower: float | None
    bar: float
    worst: float | None
    evidence: tuple[int, ...]
    why: str


def judge(
    policy: Policy, candidate: Sequence[Evidence], active: Sequence[Evidence] | None
) -> tuple[Gate, Gate]:
    """The clinic's gate (better, and nobody much worse) and the global gate (not worse than the margin).

    ``active`` is None where no version is active yet: then nothing can be compared and no gate passes.
    """
    its = [row for row in candidate if row.metric == policy.metric]
    other = None if active is None else [row for row in active if row.metric == policy.metric]
    clinic = _Rule("clinic", policy.clinic_people_min, 0.0, policy.person_loss_max)
    fleet = _Rule("global", policy.global_people_min, -policy.global_loss_max, None)
    return clinic.judge(*_of(its, other, local=True)), fleet.judge(*_of(its, other, local=False))


def lower_bound(differences: Mapping[str, int]) -> float:
    """The value that the true mean exceeds with 95 % confidence; minus infinity where so few people allow none."""
    import numpy as np  # late: a rollback judges nothing, and must not wait for it

    sums, sizes = np.zeros(SUBSETS, np.int64), np.zeros(SUBSETS, np.int64)
    for person, difference in differences.items():
        drawn = hashlib.shake_256(person.encode()).digest(SUBSETS // 8)
        member = np.unpackbits(np.frombuffer(drawn, np.uint8)).astype(np.int64)
        sums += difference * member
        sizes += member
    means = np.where(sizes > 0, sums / np.maximum(sizes, 1), -np.inf)
    rank = int(ALPHA * (SUBSETS + 1))
    return float(np.partition(means, rank - 1)[rank - 1])


@dataclass(frozen=True, slots=True)
class _Rule:
    """One gate's margins: enough people, the lower bound above ``bar``, nobody worse by more than ``loss_max``."""

    name: str
    people_min: int
    bar: float
    loss_max: float | None

    def judge(self, its: Sequence[Evidence], other: Sequence[Evidence] | None) -> Gate:
        rows = tuple(sorted(row.id for row in (*its, *(other or ()))))
        if other is None:
            people = len(_scores(its, min))
            why = "no version is active here, so there is nothing to compare with"
            return Gate(
                self.name, Verdict.NOT_ENOUGH, people, self.people_min, None, None, self.bar, None, rows, why
            )
        differences, left_out = _pairs(its, other, apart=self.name == "global")
        people, bar = len(differences), round(self.bar * UNIT)
        if not people:
            why = "no person was scored with both versions on one data set"
            return Gate(
                self.name, Verdict.NOT_ENOUGH, 0, self.people_min, None, None, self.bar, None, rows, why
            )
        # Judged above zero after the shift: there the sign of a mean of whole numbers is exact.
        bound = lower_bound({person: d - bar for person, d in differences.items()})
        worst = min(differences.values())
        verdict, why = self._verdict(people, left_out, bound, worst)
        mean = sum(differences.values()) / people / UNIT
        lower = None if bound == -math.inf else (bound + bar) / UNIT
        return Gate(
            self.name, verdict, people, self.people_min, mean, lower, self.bar, worst / UNIT, rows, why
        )  # fmt: skip

    def _verdict(self, people: int, left_out: int, bound: float, worst: int) -> tuple[Verdict, str]:
        if self.loss_max is not None and worst < -round(self.loss_max * UNIT):
            return Verdict.FAIL, f"one person is worse by {-worst / UNIT:.3f}, allowed is {self.loss_max:g}"
        if people < self.people_min:
            return Verdict.NOT_ENOUGH, f"{people} people, needed are {self.people_min}"
        if left_out:
            return (
                Verdict.NOT_ENOUGH,
                f"the candidate has no score for {left_out} people whom the active version has",
            )
        if bound <= 0:
            return Verdict.FAIL, f"the mean difference is not surely above {self.bar:g}"
        return Verdict.PASS, f"the mean difference is above {self.bar:g} with 95 % confidence"


def _of(
    its: Sequence[Evidence], other: Sequence[Evidence] | None, *, local: bool
) -> tuple[Sequence[Evidence], Sequence[Evidence] | None]:
    """The rows of the clinic, or those of the global set."""

    def fit(rows: Sequence[Evidence]) -> Sequence[Evidence]:
        return [row for row in rows if (row.clinic_id is not None) == local]

    return fit(its), None if other is None else fit(other)


def _pairs(its: Sequence[Evidence], other: Sequence[Evidence], *, apart: bool) -> tuple[dict[str, int], int]:
    """Differences by person, and how many people of a shared data set the candidate leaves out.

    Scored twice, the candidate counts with its worst score and the active version with its best. Pseudonyms are one
    clinic's; on the global set the same one in two data sets is two people (``apart``).
    """
    ours, theirs = _scores(its, min), _scores(other, max)
    shared = {dataset for dataset, _ in ours}
    found: dict[str, int] = {}
    for dataset, person in (key for key in ours if key in theirs):
        name = f"{dataset}/{person}" if apart else person
        difference = ours[dataset, person] - theirs[dataset, person]
        found[name] = min(difference, found.get(name, difference))
    return found, sum(key[0] in shared and key not in ours for key in theirs)


def _scores(rows: Sequence[Evidence], choose: Callable[[int, int], int]) -> Scores:
    found: Scores = {}
    for row in rows:
        for person, value in row.people.items():
            score, key = round(value * UNIT), (row.dataset, person)
            found[key] = choose(score, found.get(key, score))
    return found
