"""Which days a clinic is closed: said by a person beforehand or afterwards, and never changed, only withdrawn.

Days are those of UTC, as monitoring counts them. Every statement is written with its event in the caller's (system)
transaction; monitoring reads ``registry.closure_v`` and counts again what was counted otherwise.
"""

import re
from collections.abc import Sequence
from datetime import date
from typing import Final

from registry import clinics_store, events
from registry.clinics_store import Clinic
from registry.closures import closures_store as store
from registry.closures.closures_store import Closure
from registry.closures.errors import (
    ClosureTooLong,
    ClosureUnknown,
    ClosureWithdrawn,
    DaysReversed,
    DayUnreadable,
)
from registry.core.db import Conn
from registry.core.settings import LIMITS
from registry.errors import ReasonMissing

DAYS_MAX: Final = 60
_DAY = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)


def day(text: str, option: str) -> date:
    """The day that ``option`` names as YYYY-MM-DD. Raises DayUnreadable."""
    try:
        if _DAY.fullmatch(text):
            return date.fromisoformat(text)
    except ValueError:
        pass
    raise DayUnreadable(f"{option} is no day")


def state(
    conn: Conn, clinic: Clinic, first: date, last: date, *, by: str, reason: str
) -> tuple[Closure, bool]:
    """Say that the clinic is closed from ``first`` to ``last``, both included.

    Returns the closure and whether it is new: what stands already is not said twice. Raises DaysReversed,
    ClosureTooLong, ReasonMissing.
    """
    if not reason.strip():
        raise ReasonMissing
    if first > last:
        raise DaysReversed
    if (last - first).days >= DAYS_MAX:
        raise ClosureTooLong(f"{(last - first).days + 1} days are more than {DAYS_MAX}")
    clinics_store.lock(conn, clinic.id)
    if stands := store.same(conn, clinic.id, first, last):
        return stands, False
    number = store.add(conn, clinic.id, first, last, by=by, reason=reason)
    body = {"number": number, "from": first.isoformat(), "to": last.isoformat(), "reason": reason}
    events.append(conn, events.of_clinic(clinic.id), by, "closure.stated", body)
    return _one(conn, clinic, number), True


def withdraw(conn: Conn, clinic: Clinic, number: int, *, by: str, reason: str) -> Closure:
    """Say that a closure was stated wrongly, so that its days are counted.

    Raises ClosureUnknown, ClosureWithdrawn, ReasonMissing.
    """
    if not reason.strip():
        raise ReasonMissing
    clinics_store.lock(conn, clinic.id)
    its = _one(conn, clinic, number)
    if not its.stands:
        raise ClosureWithdrawn(f"closure {number} of {clinic.slug} was withdrawn by {its.withdrawn_by}")
    store.add(conn, clinic.id, its.first_day, its.last_day, by=by, reason=reason, withdraws=number)
    events.append(
        conn, events.of_clinic(clinic.id), by, "closure.withdrawn", {"number": number, "reason": reason}
    )
    return _one(conn, clinic, number)


def list(conn: Conn, clinic: Clinic, *, limit: int = LIMITS.page_rows) -> Sequence[Closure]:
    """A clinic's closures, withdrawn ones too, the latest days first."""
    return store.page(conn, clinic.id, limit)


def _one(conn: Conn, clinic: Clinic, number: int) -> Closure:
    its = store.one(conn, clinic.id, number)
    if its is None:
        raise ClosureUnknown(f"{clinic.slug} has no closure {number}")
    return its
