"""What reviews prove of one stream, as people read it: odds, labels used and still expected, whose contract."""

from collections.abc import Mapping
from typing import Any

from monitoring.judge.counts import WORDS
from monitoring.judge.verdict import CONFIRMING, LABELS_LEAST, LABELS_MOST, PROVEN
from monitoring.web import words

_ODDS = (
    ("e_harm", "results are below the contract"), ("e_ok", "results keep the contract"),
    ("e_bad", "a moved threshold would not help"), ("e_fix", "a moved threshold would help"),
)  # fmt: skip


def lines(known: Mapping[str, Any] | None) -> list[tuple[str, str]]:
    """Name and text of each line, out of a verdict's evidence; empty where no verdict was given.

    A line that an older verdict did not keep is left out.
    """
    if not known:
        return []
    found = [("Contract", _contract(known.get("contract"), known.get("policy")))]
    found += [
        (f"Odds that {what}", f"{words.num(float(known[name]))} to 1")
        for name, what in _ODDS
        if name in known
    ]
    found.append(("Reviews of drawn studies", _labels(known)))
    found += [
        (f"How often {WORDS[its['name']]}", f"{its['happened']} of {its['n']}, accepted {its['bar']:.0%}{_since(its)}")
        for its in known.get("counts", []) if its["n"]
    ]  # fmt: skip
    return found


def _contract(its: Mapping[str, Any] | None, policy: object) -> str:
    if its is None:
        return "none: without one nothing can be called worse (radfleet monitor contract set)"
    which = f"contract {its['version']}, " if its.get("version") else ""
    rest = f"; policy {policy}" if policy else "; first policy"
    return f"mean Dice {its['d_ref'] - its['margin']:.3f} or more ({which}{its['source']}, n {its['people']}){rest}"


def _since(its: Mapping[str, Any]) -> str:
    return f", since {its['since'][:10]}" if its.get("since") and its["beyond"] else ""


def _labels(known: Mapping[str, Any]) -> str:
    labels = int(known.get("labels", 0))
    text = f"{labels}, {known.get('blinded', 0)} of them blinded"
    if float(known.get("e_harm", 1)) >= PROVEN:
        left = LABELS_MOST - labels
        return text + (f"; at most {left} more until senior review" if left > 0 else "")
    if known.get("confirmed"):
        return text + "; enough"
    harm, well = max(0, LABELS_LEAST - labels), max(0, CONFIRMING - labels)
    return text + f"; harm shows after about {harm} more, its absence after about {well} more"
