"""Judges one acquisition for one task: accept, warn, refuse, or unknown where a header does not say. Pure."""

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from registry.conformance.values import VALUES, Answer, Profile

if TYPE_CHECKING:
    from registry.conformance.standard import Rule, Standard


class Verdict(StrEnum):
    """What is said of an acquisition."""

    ACCEPT = "accept"
    UNKNOWN = "unknown"
    WARN = "warn"
    REFUSE = "refuse"


# The worst of all rules speaks for the acquisition. A header that does not say is never as good as one that fits.
ORDER: Final = (Verdict.ACCEPT, Verdict.UNKNOWN, Verdict.WARN, Verdict.REFUSE)


@dataclass(frozen=True, slots=True)
class Deviation:
    """One rule that did not accept, and the value that it saw; None where the header does not say."""

    rule: str
    verdict: Verdict
    value: Answer


@dataclass(frozen=True, slots=True)
class Judged:
    """The verdict on an acquisition, and why."""

    verdict: Verdict
    deviations: tuple[Deviation, ...]


def judge(standard: "Standard", task: str, profile: Profile) -> Judged:
    """The verdict of every rule of ``standard`` that speaks of ``task``; the worst of them holds.

    ``profile``: the acquisition profile of serving.feature, lengths in mm, field in T.
    """
    found = []
    for rule in standard.rules:
        if task in rule.tasks:
            said = verdict(rule, task, profile)
            if said is not None and said[0] is not Verdict.ACCEPT:
                found.append(Deviation(rule.id, *said))
    worst = max((d.verdict for d in found), key=ORDER.index, default=Verdict.ACCEPT)
    return Judged(worst, tuple(found))


def verdict(rule: "Rule", task: str, profile: Profile) -> tuple[Verdict, Answer] | None:
    """What one rule says, with the value; None where it does not apply to this acquisition."""
    unsaid = False
    for name, wanted in rule.when.items():
        asked = VALUES[name].read(profile)
        if asked is None:
            unsaid = True
        elif asked not in wanted:
            return None
    value = VALUES[rule.value].read(profile)
    if unsaid or value is None:
        return Verdict.UNKNOWN, value
    if rule.accept.holds(value):
        return Verdict.ACCEPT, value
    worst = rule.tasks[task]
    if rule.warn is not None and rule.warn.holds(value):
        return Verdict.WARN, value
    return worst, value
