"""Numbers, times and states as people read them. Status is always word, shape and colour."""

from datetime import date, datetime
from typing import Any

from monitoring.judge.verdict import LARGE, with_power

# The kinds of status: each has a colour and a shape (templates/parts.html).
BAD, WATCH, OK, NONE = "bad", "watch", "ok", "none"
KINDS = {
    **dict.fromkeys(
        ("fine_tune", "recalibrate", "hold", "dead", "failed", "down", "fail", "open", "silent", "refuse"), BAD
    ),
    **dict.fromkeys(
        ("watch", "flagged", "acknowledged", "muted", "rejected", "restarting", "stopping", "proposed", "approved",
         "stale", "not_enough", "superseded", "retrying", "suspended", "warn"),
        WATCH,
    ),
    **dict.fromkeys(
        ("healthy", "quiet", "done", "ready", "active", "pass", "resolved", "delivered", "yes", "accept", "signed"), OK
    ),
}  # fmt: skip
_UNITS = {"_ml": " ml", "_mm": " mm", "_mm3": " mm³", "_s": " s"}


def shape(state: str | None) -> str:
    """The kind of a state's colour and shape; what is not known is never green."""
    return KINDS.get(state or "", NONE)


def said(state: str | None) -> str:
    """A state as a word: not_enough_data -> not enough data, fine_tune -> fine-tune."""
    text = (state or "unknown").replace("fine_tune", "fine-tune")
    return text.replace("_", " ")


def when(at: datetime | None) -> str:
    """A time in UTC, to the minute."""
    return f"{at:%-d %b %Y, %H:%M} UTC" if at else "-"


def day(at: date | None) -> str:
    """A day, as ``when`` writes it."""
    return f"{at:%-d %b %Y}" if at else "-"


def num(value: Any, digits: int = 3) -> str:
    """A number with few digits and a thin space between thousands; what is missing is a hyphen."""
    if value is None:
        return "-"
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    if value != value or value in (float("inf"), float("-inf")):
        return "-"
    if isinstance(value, float) and abs(value) >= LARGE:
        return with_power(value)
    if isinstance(value, int) or abs(value) >= 1000:
        return f"{value:,.0f}".replace(",", "\u202f")
    return f"{value:.{digits}g}"


def short(digest: str | None) -> str:
    """A digest as people can compare it, as the command line prints it."""
    return (digest or "-").removeprefix("sha256:")[:12]


def count(n: int, one: str, many: str = "") -> str:
    """``1 clinic``, ``2 clinics``."""
    return f"{n} {one if n == 1 else many or one + 's'}"


def listed(parts: list[str]) -> str:
    """``a, b and c``."""
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}" if parts else ""
