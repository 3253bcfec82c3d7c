"""Every failure Radfleet can name: what happened, why, and the cure, rendered for each door.

The family decides how each door answers (one table, ``FAMILIES``); the class gives a stable slug
``code`` (never renamed: it is a metric label and what people grep for) and a default ``cure``.
Each package keeps its own classes in its ``errors.py``.
"""

from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True)
class Family:
    """How one family of errors is answered at each door."""

    http: int
    exit: int
    dimse: int
    log: str
    retry: bool


# DIMSE failure codes: PS3.4 B.2.3 (A7xx resources, A9xx mismatch, Cxxx cannot understand),
# 0124 not authorised and 0110 processing failure from PS3.7 C.
FAMILIES: dict[str, Family] = {
    "invalid": Family(422, 2, 0xC000, "info", retry=False),
    "not_found": Family(404, 3, 0xC000, "info", retry=False),
    "forbidden": Family(403, 4, 0x0124, "warning", retry=False),
    "conflict": Family(409, 5, 0xA900, "info", retry=False),
    "unmet": Family(409, 6, 0xA700, "info", retry=False),
    "unavailable": Family(503, 7, 0xA700, "warning", retry=True),
    "bug": Family(500, 70, 0x0110, "error", retry=False),
}


class RadfleetError(Exception):
    """A named failure. ``what`` is positional so that the class survives pickling across Ray."""

    family: ClassVar[str] = "bug"
    code: ClassVar[str] = "core.bug"
    cure: ClassVar[str] = "Run radfleet doctor and send its output with the log lines of this time."
    why: ClassVar[str] = ""

    def __init__(self, what: str = "", why: str = "", cure: str = "") -> None:
        super().__init__(what, why, cure)
        self.what = what or (type(self).__doc__ or self.code).splitlines()[0]
        self.why_text = why or type(self).why
        self.cure_text = cure or type(self).cure

    def __str__(self) -> str:
        return self.what

    @property
    def answer(self) -> Family:
        """The row of ``FAMILIES`` that says how a door answers this error."""
        return FAMILIES[self.family]

    def lines(self) -> str:
        """The form printed by the command line: what, why, cure and code."""
        why = [f"  why:  {self.why_text}"] if self.why_text else []
        return "\n".join([f"error: {self.what}", *why, f"  cure: {self.cure_text}", f"  code: {self.code}"])

    def problem(self) -> dict[str, object]:
        """The form sent over HTTP: RFC 9457 application/problem+json."""
        return {
            "type": f"urn:radfleet:error:{self.code}",
            "title": self.what,
            "status": self.answer.http,
            "detail": self.why_text,
            "cure": self.cure_text,
            "code": self.code,
        }

    def comment(self) -> str:
        """The DIMSE Error Comment (0000,0902): LO, at most 64 characters."""
        return f"{self.code}: {self.what}"[:64]


class Invalid(RadfleetError):
    """The input is wrong."""

    family, code = "invalid", "core.invalid"
    cure = "Correct the input as the message says and send it again."


class NotFound(RadfleetError):
    """The named thing does not exist."""

    family, code = "not_found", "core.not_found"
    cure = "List the known names with the matching list command."


class Forbidden(RadfleetError):
    """The caller may not do this."""

    family, code = "forbidden", "core.forbidden"
    cure = "Use a key, account or AE title that has this right."


class Conflict(RadfleetError):
    """The state of the thing forbids this change."""

    family, code = "conflict", "core.conflict"
    cure = "Look at the present state with the matching show command and decide again."


class Unmet(RadfleetError):
    """A condition that was waited for or required does not hold."""

    family, code = "unmet", "core.unmet"
    cure = "Read what is missing, mend it, and run the command again."


class Unavailable(RadfleetError):
    """Something that Radfleet depends on is away for the moment."""

    family, code = "unavailable", "core.unavailable"
    cure = "Nothing is lost. Wait, or see radfleet status for the part that is away."


class SettingWrong(Invalid):
    """A setting cannot be read."""

    code = "settings.wrong"
    why = "The environment variable holds something else than its kind of value."
    cure = "Correct or unset the variable that is named, and run the command again."
