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
    """A rule that more studies do not meet since the change."""

    rule: str
    code: str
    advice: str
    failed: store.Failed

    @property
    def sentence(self) -> str:
        """It in words."""
        its = self.failed
        return (
            f"{self.code}: {its.since} of {its.n_since} studies since then do not meet it, {its.before} of"
            f" {its.n_before} before. {self.advice}"
        )


@dataclass(frozen=True, slots=True)
class Beside:
    """The studies of a stream on both sides of a change, as one standard judged them."""

    standard: str
    n_before: int
    n_since: int
    began: tuple[Began, ...]
    rules: int
    silent: int
    """Rules of which no header says anything before the change, or none since."""

    @property
    def sentences(self) -> list[str]:
        """What began, or that nothing did as far as headers say."""
        if self.began:
            return [one.sentence for one in self.began]
        said = f"No rule of {self.standard} is met less often since"
        sizes = f"{self.n_since} studies since, {self.n_before} before"
        silent = f"; of {self.silent} of its {self.rules} rules the headers of one side say nothing"
        return [f"{said} ({sizes}){silent if self.silent else ''}."]


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
    silent = sum(1 for one in counts.failed.values() if not (one.n_before and one.n_since))
    found = tuple(began(its.rules, counts))
    return Beside(its.label, counts.n_before, counts.n_since, found, len(its.rules), silent)


def told(its: Beside | None) -> dict[str, Any] | None:
    """It as a page's twin and a command's JSON give it."""
    return {**asdict(its), "sentences": its.sentences} if its else None


def began(rules: Sequence[Rule], counts: store.Around) -> list[Began]:
    """The rules that fail more often since the change than by chance, the most frequent first.

    By Fisher's exact test, one-sided, at ``ALPHA`` over the number of rules (Bonferroni). A header that does not say
    is no deviation.
    """
    found = [
        Began(rule.id, rule.code, rule.advice, counts.failed[rule.id])
        for rule in rules
        if rule.id in counts.failed
    ]
    sure = [one for one in found if more_by_chance(one.failed) <= ALPHA / len(rules)]
    return sorted(sure, key=lambda one: (-one.failed.since, one.code))


def more_by_chance(its: store.Failed) -> float:
    """P(as many or more fail on the later side), all margins given: the hypergeometric tail of Fisher's exact test.

    1 where no header on one side said what the rule asks.
    """
    failed, every = its.before + its.since, its.n_before + its.n_since
    most = min(failed, its.n_since)
    ways = sum(comb(failed, k) * comb(every - failed, its.n_since - k) for k in range(its.since, most + 1))
    return ways / comb(every, its.n_since)
