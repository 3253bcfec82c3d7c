"""One key for each scanner vendor, whatever spelling of Manufacturer a header carries, and how people write it.

Rules match the words of the name, letters only and lower case, so that dots, underscores, legal forms
and capitals do not matter. They were checked on every spelling of the collected headers (one of which,
"G.E. Medical Systems", a list made by eye had put under other vendors).
"""

import re
import unicodedata
from typing import Final

SIEMENS, GE, PHILIPS, CANON, UIH = "siemens", "ge", "philips", "canon", "uih"
FUJI, HITACHI, HYPERFINE, OTHER, UNKNOWN = "fuji", "hitachi", "hyperfine", "other", "unknown"
KEYS: Final = (SIEMENS, GE, PHILIPS, CANON, UIH, FUJI, HITACHI, HYPERFINE, OTHER, UNKNOWN)
_WRITTEN: Final = {
    SIEMENS: "Siemens", GE: "GE", PHILIPS: "Philips", CANON: "Canon", UIH: "United Imaging", FUJI: "Fujifilm",
    HITACHI: "Hitachi", HYPERFINE: "Hyperfine", OTHER: "", UNKNOWN: "",
}  # fmt: skip

# Written where a name was not known, or by software that never filled in its template.
_EMPTY: Final = frozenset(
    {"", "na", "n a", "nan", "none", "null", "absent", "unknown", "undefined", "anonymous", "anonymized",
     "manufacturer", "manufacturer name here", "mymanufacturer", "debug", "removed"}
)  # fmt: skip

# First match wins. Toshiba's MR business became Canon's in 2018, Hitachi's Fujifilm's in 2021, and
# Picker's and Marconi's Philips's in 2001; the scanners stayed what they were, so Toshiba counts as
# Canon (one product line) and Hitachi keeps its name.
_RULES: Final = (
    (re.compile(r"\bsiemens"), SIEMENS),
    (re.compile(r"\bg ?e\b|\bgems\b|\bgeneral electric\b|\bgehc\b|\bgehealthcare\b"), GE),
    (re.compile(r"\bphill?ips\b|\bmarconi\b|\bpicker international\b"), PHILIPS),
    (re.compile(r"\bcanon\b|\btoshiba\b"), CANON),
    (re.compile(r"\buih\b|\bunited imaging\b"), UIH),
    (re.compile(r"\bhitachi\b"), HITACHI),
    (re.compile(r"\bfuji"), FUJI),
    (re.compile(r"\bhyperfine\b"), HYPERFINE),
)


def vendor_key(manufacturer: str | None) -> str:
    """The vendor key of a Manufacturer (0008,0070) value: one of ``KEYS``; "unknown" where it says nothing."""
    plain = unicodedata.normalize("NFKC", manufacturer or "").casefold()
    words = " ".join(re.sub(r"[^a-z0-9]+", " ", plain).split())
    if words in _EMPTY:
        return UNKNOWN if not _foreign(plain) else OTHER
    for pattern, key in _RULES:
        if pattern.search(words):
            return key
    return OTHER


def written(text: str) -> str:
    """A vendor key, or a text that begins with one, as people write it: "ge MR750" -> "GE MR750".

    Keys are what tables, bindings and JSON hold; sentences and pages say this. A key that names nobody is left out
    where a model follows it: "other Phantom 3000" -> "Phantom 3000".
    """
    key, _, rest = text.partition(" ")
    return f"{_WRITTEN.get(key, key)} {rest}".strip() or key


def _foreign(text: str) -> bool:
    """Whether a name is written in letters beyond a to z, so that no word was left of it."""
    return any(letter.isalpha() and not letter.isascii() for letter in text)
