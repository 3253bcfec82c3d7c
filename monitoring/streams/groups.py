"""Scanner groups: which machine, release, coil and protocol made a study, read from its acquisition profile."""

from collections.abc import Iterable, Mapping
from typing import Any, Final

PARTS: Final = ("vendor", "model", "software_major", "field_t", "coil", "protocol")
WORDS: Final = {
    "vendor": "manufacturer", "model": "model", "software_major": "software release", "field_t": "field strength",
    "coil": "coil", "protocol": "protocol",
}  # fmt: skip
UNKNOWN = "?"
_LONGEST = 64


def facts(profile: Mapping[str, Any]) -> dict[str, str]:
    """The six parts of a scanner group as text; what the header does not say is ``?``."""
    return {name: _text(profile.get(name)) for name in PARTS}


def name(its: Mapping[str, str]) -> str:
    """The group's name: its parts, joined. Equal parts, equal name."""
    return " | ".join(its[part] for part in PARTS)


def changed(new: Mapping[str, str], known: Iterable[Mapping[str, str]]) -> dict[str, list[str]]:
    """Part -> [before, after] against the most similar known group, the machine itself before its settings."""
    nearest: dict[str, list[str]] | None = None
    for old in known:
        difference = {part: [old[part], new[part]] for part in PARTS if old[part] != new[part]}
        if nearest is None or len(difference) <= len(nearest):  # of equals the latest
            nearest = difference
    return nearest or {}


def machine(its: Mapping[str, str]) -> str:
    """The scanner as people call it."""
    known = [its[part] for part in ("vendor", "model") if its[part] != UNKNOWN]
    return " ".join(known) or "scanner without a name in its header"


def _text(value: object) -> str:
    if isinstance(value, float):
        value = f"{value:g}"
    text = str(value).strip() if value is not None else ""
    return text.replace("|", "/")[:_LONGEST] or UNKNOWN
