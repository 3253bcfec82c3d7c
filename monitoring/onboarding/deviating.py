"""What the protocol standard says of the studies since a change, beside those before: the cheapest cause of a drift."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from math import comb
from typing import Any

from monitoring.onboarding import conformance_store as store
from registry.conformance.standard import Rule, Standard, load
from registry.core.db import Conn

STUDIES = 100
"""On each side of the change, at most."""
ALPHA = 0.01
"""For all rules of a standard together."""


@dataclass(frozen=True, slots=True)
class Began:
    """A rule that more studies do not meet since the change: ``since`` of ``n_since``, ``before`` of ``n_before``."""

    rule: str
    code: str
    advice: str
    before: int
    n_before: int
    since: int
    n_since: int

    @property
    def sentence(self) -> str:
        """It in words."""
        return (
            f"{self.code}: {self.since} of {self.n_since} studies since then do not meet it, {self.before} of"
            f" {self.n_before} before. {self.advice}"
        )


@dataclass(frozen=True, slots=True)
class Beside:
    """The studies of a stream on both sides of a change, as one standard judged them."""

    standard: str
    n_before: int
    n_since: int
    began: tuple[Began, ...]

    @property
    def sentences(self) -> list[str]:
        """What began, or that nothing did."""
        judged = f"{self.n_since} studies since, {self.n_before} before"
        return [one.sentence for one in self.began] or [
            f"Nothing began that {self.standard} advises against: {judged}."
        ]


def beside(conn: Conn, flag: Mapping[str, Any], standard: Standard | None = None) -> Beside | None:
    """What of the protocol began to deviate with a flag's change; None where one side of it was never judged."""
    its = standard or load()
    if flag["since_seq"] is None:
        return None
    counts = store.around(
        conn, flag["clinic_id"], its.digest, flag["task"], flag["sequence"], flag["since_seq"], STUDIES
    )
    if not (counts.n_before and counts.n_since):
        return None
    return Beside(its.label, counts.n_before, counts.n_since, tuple(began(its.rules, counts)))


def told(its: Beside | None) -> dict[str, Any] | None:
    """It as a page's twin and a command's JSON give it."""
    return {**asdict(its), "sentences": its.sentences} if its else None


def began(rules: Sequence[Rule], counts: store.Around) -> list[Began]:
    """The rules that fail more often since the change than by chance, the most frequent first.

    By Fisher's exact test, one-sided, at ``ALPHA`` over the number of rules (Bonferroni). A header that does not say
    is no deviation.
    """
    found = []
    for rule in rules:
        before, since = counts.failed.get(rule.id, (0, 0))
        if more_by_chance(before, counts.n_before, since, counts.n_since) <= ALPHA / len(rules):
            found.append(
                Began(rule.id, rule.code, rule.advice, before, counts.n_before, since, counts.n_since)
            )
    return sorted(found, key=lambda one: (-one.since, one.code))


def more_by_chance(before: int, n_before: int, since: int, n_since: int) -> float:
    """P(as many or more fail on the later side), all margins given: the hypergeometric tail of Fisher's exact test."""
    failed, every = before + since, n_before + n_since
    ways = sum(
        comb(failed, k) * comb(every - failed, n_since - k) for k in range(since, min(failed, n_since) + 1)
    )
    return ways / comb(every, n_since)
