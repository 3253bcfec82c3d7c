"""Scanner groups: which machine, release, coil and protocol made a study, read from its acquisition profile."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from registry.vendors import written

PARTS: Final = ("vendor", "model", "software_major", "field_t", "coil", "protocol")
WORDS: Final = {
    "vendor": "manufacturer", "model": "model", "software_major": "software release", "field_t": "field strength",
    "coil": "coil", "protocol": "protocol", "te_ms": "echo time (ms)", "ti_ms": "inversion time (ms)",
    "tr_ms": "repetition time (ms)", "flip_deg": "flip angle", "thickness_mm": "slice thickness (mm)",
    "spacing_mm": "voxel (mm)",
}  # fmt: skip
SETTINGS: Final = ("te_ms", "ti_ms", "tr_ms", "flip_deg", "thickness_mm", "spacing_mm")
"""What of a protocol people name; its hash tells apart the rest too."""
UNKNOWN = "?"
_LONGEST = 64


def facts(profile: Mapping[str, Any]) -> dict[str, str]:
    """The six parts of a scanner group as text, ``?`` where the header is silent, and the settings that it says."""
    said = {name: _text(profile[name]) for name in SETTINGS if profile.get(name) is not None}
    return {name: _text(profile.get(name)) for name in PARTS} | said


def name(its: Mapping[str, str]) -> str:
    """The group's name: its parts, joined. Equal parts, equal name."""
    return " | ".join(its[part] for part in PARTS)


def changed(new: Mapping[str, str], known: Iterable[Mapping[str, str]]) -> dict[str, list[str]]:
    """Part -> [before, after] against the most similar known group, the machine itself before its settings.

    Where settings of the protocol differ they are named in place of its hash.
    """
    nearest: dict[str, list[str]] | None = None
    like: Mapping[str, str] = {}
    for old in known:
        difference = {part: [old[part], new[part]] for part in PARTS if old[part] != new[part]}
        if nearest is None or len(difference) <= len(nearest):  # of equals the latest
            nearest, like = difference, old
    if not nearest:
        return {}
    settings = {name: [like.get(name, UNKNOWN), new.get(name, UNKNOWN)] for name in SETTINGS}
    settings = (
        {name: pair for name, pair in settings.items() if pair[0] != pair[1]} if "protocol" in nearest else {}
    )
    return {part: pair for part, pair in nearest.items() if part != "protocol" or not settings} | settings


def is_protocol(change: Iterable[str]) -> bool:
    """Whether what changed is the protocol alone: the same machine was set otherwise."""
    return {*change} <= {"protocol", *SETTINGS} and bool({*change})


def was_unsaid(change: Mapping[str, Sequence[str]]) -> bool:
    """Whether the machine is a known one, and all else that differs is what its header did not say before.

    Nobody saw that change. A table of the past has no protocol: the first study after it would be flagged every time.
    """
    return (
        bool(change)
        and not {"vendor", "model"} & {*change}
        and all(old == UNKNOWN for old, _ in change.values())
    )


def machine(its: Mapping[str, str]) -> str:
    """The scanner as people call it."""
    known = [its[part] for part in ("vendor", "model") if its[part] != UNKNOWN]
    return " ".join(known) or "scanner without a name in its header"


def said(part: str, text: str) -> str:
    """What a part says, as people write it."""
    return written(text) if part == "vendor" else text


def _text(value: object) -> str:
    if isinstance(value, list | tuple):
        return " x ".join(_text(one) for one in value) or UNKNOWN
    if isinstance(value, float):
        value = f"{value:.4g}"
    text = str(value).strip() if value is not None else ""
    return text.replace("|", "/")[:_LONGEST] or UNKNOWN
