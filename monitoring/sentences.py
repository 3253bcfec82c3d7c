"""Flags in words that a radiologist understands: what moved, which way, on which scanner, since when."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Final

from monitoring.detect.shape import WITHIN
from monitoring.streams import groups, missing
from monitoring.streams.feed import Arrival, Drift
from monitoring.streams.responses import Likeness
from monitoring.streams.state import Began
from registry.vendors import written

FEATURES: Final[Mapping[str, str]] = {
    "snr_wm": "signal to noise in white matter", "cjv": "overlap of grey and white matter", "cnr": "tissue contrast",
    "wm_to_max": "brightness of white matter", "bias_ratio": "shading across the head",
    "background_mean": "brightness of the air", "background_sd": "noise in the air",
    "background_p95": "brightest noise in the air", "ghost_ratio": "ghosting", "fwhm_mm": "blur",
    "gradient": "sharpness of edges", "slice_jump": "jumps between slices", "efc": "entropy of the image",
    "coverage_lr_mm": "width of the field of view", "coverage_ap_mm": "depth of the field of view",
    "coverage_si_mm": "height of the field of view",
}  # fmt: skip
WAYS: Final = {"up": "rose", "down": "fell", "wider": "scatters more"}


def feature(name: str) -> str:
    """A feature as people call it."""
    return FEATURES.get(name, name.replace("_", " "))


def field(name: str) -> str:
    """A feature or a header field as people call it."""
    header = name.removeprefix(missing.HEADER)
    return feature(name) if header == name else f"{groups.WORDS[header]} in the header"


def lacking(fields: Sequence[tuple[str, object]], at: str) -> str:
    """What is missing, the field with most evidence first, and since when."""
    names = [field(name) for name, _ in fields]
    also = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return f"missing since {day(at)}: {', '.join(names[:3])}{also}"


def drift(
    sequence: str, its: Drift, scanner: Mapping[str, str] | None, came: Sequence[Mapping[str, str]] = (),
    like: Likeness | None = None,
) -> str:  # fmt: skip
    """The sentence of a drift flag: the strongest feature first, then what moved with it.

    ``came``: scanner groups of which the first study lies where the change may have begun. ``like``: what the pattern
    looks like in simulated studies.
    """
    where = f" from the {_machine(scanner)}" if scanner else " on all scanners"
    name, way, certain = its.features[0]
    also = [feature(other) for other, _, _ in its.features[1:]]
    tail = f" Also moving: {', '.join(also[:4])}." if also else ""
    amount = "" if its.percent is None or abs(its.percent) < 1 else f" by about {abs(its.percent):.0f} %"
    what = f"{feature(name)} {WAYS[way]}{amount}"
    if not certain:
        what = f"several features moved a little together ({what} most of all)"
    others = "".join(
        f" The first study from the {_machine(one)} came in the same days: what it brought and this cannot be"
        " told apart." for one in came
    )  # fmt: skip
    looks = (
        f" It looks like {like.words} (in simulated studies; the header says nothing of it)." if like else ""
    )
    some = (
        f" Perhaps only some studies: {its.outlying[0]} of {its.outlying[1]} since then lie farther out, as a whole,"
        f" than {WITHIN:.0%} of the reference." if its.outlying else ""
    )  # fmt: skip
    studies = f"{its.studies} {'study' if its.studies == 1 else 'studies'}"
    known = "; ".join(part for part in (between(its.since), studies) if part)
    return f"{sequence}{where}: {what} since {day(its.since.at)} ({known}).{tail}{some}{others}{looks}"


def between(its: Began) -> str:
    """The range of a beginning in days, where it is more than one day; the year is said where it is another one."""
    low, high, at = (datetime.fromisoformat(when) for when in (its.low_at, its.high_at, its.at))
    if low.date() == high.date():
        return ""
    if low.year != at.year or high.year != at.year:
        return f"{day(its.low_at)} to {day(its.high_at)}, with 90 %"
    first = f"{low.day}" if low.month == high.month else f"{low.day} {low:%B}"
    return f"{first} to {high.day} {high:%B}, with 90 %"


def arrival(sequence: str, its: Arrival) -> str:
    """The sentence of a new scanner group: what of it changed, the machine first."""
    where = _machine(its.facts)
    if not its.changed:
        return (
            f"{sequence} comes from a scanner that the reference does not know: {where}, since {day(its.at)}."
        )
    # What the header did not say before is no change that anybody saw, as long as something else is.
    seen = {part: pair for part, pair in its.changed.items() if pair[0] != groups.UNKNOWN} or its.changed
    gone = [groups.WORDS[part] for part, (_, after) in seen.items() if after == groups.UNKNOWN]
    parts = [
        f"{groups.WORDS[part]} {' -> '.join(groups.said(part, at) for at in pair)}"
        for part, pair in seen.items()
    ]
    if len(gone) == len(seen):
        return f"The header of {sequence} from the {where} no longer says since {day(its.at)}: {', '.join(gone)}."
    new = {"vendor", "model"} & set(its.changed)
    kind = (
        "a new scanner"
        if new
        else "a changed protocol"
        if groups.is_protocol(its.changed)
        else "a changed scanner"
    )
    causes = {part if part in ("software_major", "field_t", "coil") else "protocol" for part in seen}
    apart = (
        " They came with one study, so what each does cannot be told apart."
        if not new and len(causes) > 1
        else ""
    )
    return f"{sequence} comes from {kind} ({where}) since {day(its.at)}: {', '.join(parts)}.{apart}"


def _machine(its: Mapping[str, str]) -> str:
    return written(groups.machine(its))


def resolved_by(kind: str, promotion_id: int | None, model: str, reason: str) -> str:
    """Why a flag ended when another version was bound."""
    what = {"promotion": f"promotion {promotion_id}", "rollback": f"rollback {promotion_id}"}.get(
        kind, "a new binding"
    )
    return f"{what} bound {model}: {reason}"


def day(at: str) -> str:
    """A moment as the day it was."""
    when = datetime.fromisoformat(at)
    return f"{when.day} {when:%B %Y}"


def listed(features: Sequence[Mapping[str, object]]) -> str:
    """Features of a stored flag as one text."""
    return ", ".join(f"{item['name']} {item['direction']}" for item in features) or "-"
