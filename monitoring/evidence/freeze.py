"""Freezes reports: the rows before and since, drawn once, kept by digest; read back only if the digest still fits."""

import gzip
import hashlib
import time
from collections.abc import Callable
from dataclasses import asdict
from uuid import UUID

from monitoring.evidence import report, reports_store
from monitoring.evidence.errors import ReportAbsent, ReportDamaged, RowsTooFew
from monitoring.evidence.report import Report
from monitoring.evidence.reports_store import Frozen, Waiting
from monitoring.evidence.tables import CURRENT_MIN, Row, Tables, prepare
from registry.core.db import Conn, Database
from registry.core.errors import RadfleetError
from registry.core.logs import log

Make = Callable[[Tables], Report]
RETRY_S = 600.0  # a report that could not be drawn is tried again, but not at every turn of the loop
_rest: dict[int, float] = {}


def freeze(
    db: Database, its: Waiting, reference: list[Row], current: list[Row], *, kind: str = "flag",
    make: Make = report.make,
) -> bool:  # fmt: skip
    """Draw ``reference`` against ``current`` rows and keep it; False where the flag has a report already.

    No transaction is open while the library draws. Raises RowsTooFew, ReportFailed.
    """
    made = make(prepare(reference, current, its.watched))
    values = {
        "digest": digest_of(made.html), "html": gzip.compress(made.html, mtime=0), "size": len(made.html),
        "rows_digest": made.tables.digest, "reference_rows": len(reference), "current_rows": len(current),
        "methods": [asdict(method) for method in made.tables.methods], "opinion": dict(made.opinion),
        "library": made.library,
    }  # fmt: skip
    with db.monitor(write=True) as conn:
        return reports_store.add(conn, its, kind, values)


def freeze_one(db: Database, *, make: Make = report.make) -> bool:
    """Freeze the report of one flag that waits for it; False when none can be had now. A turn of the part "monitor".

    Whatever goes wrong with a report stops no follower: it is logged by code and tried again later.
    """
    now = time.monotonic()
    with db.monitor() as conn:
        resting = [number for number, until in _rest.items() if until > now]
        found = reports_store.waiting(conn, CURRENT_MIN, resting=resting)
        if not found:
            return False
        its = found[0]
    _rest[its.flag_id or 0] = now + RETRY_S
    attempt(db, its, make=make)
    return True


def attempt(db: Database, its: Waiting, *, kind: str = "flag", make: Make = report.make) -> None:
    """Freeze one report by itself: whatever goes wrong with it is logged by code."""
    about = {"clinic": its.clinic, "flag_id": its.flag_id}
    with db.monitor() as conn:
        reference, current = reports_store.rows(conn, its)
    try:
        done = freeze(db, its, reference, current, kind=kind, make=make)
    except RowsTooFew as error:
        log().info("report.waits", code=error.code, **about)
    except RadfleetError as error:
        log().warning("report.failed", code=error.code, **about)
    else:
        log().info("report.frozen", count=int(done), **about)


def of_flag(db: Database, flag_id: int, *, make: Make = report.make) -> Frozen:
    """The report of a flag, frozen now if it has none yet. Raises ReportAbsent, RowsTooFew, ReportFailed."""
    with db.monitor() as conn:
        if found := reports_store.reports(conn, None, flag_id, 1):
            return found[0]
        waits = reports_store.waiting(conn, CURRENT_MIN, flag_id)
        if not waits:
            raise ReportAbsent(f"there is no flag {flag_id} with {CURRENT_MIN} studies since its change")
        reference, current = reports_store.rows(conn, waits[0])
    freeze(db, waits[0], reference, current, make=make)
    with db.monitor() as conn:
        return reports_store.reports(conn, None, flag_id, 1)[0]


def of_month(db: Database, clinic: str, days: int, *, make: Make = report.make) -> list[Frozen]:
    """New reports of a clinic: each stream's last ``days`` against what came before in its epoch.

    Raises ReportAbsent where no stream has enough rows on both sides, ReportFailed.
    """
    with db.monitor() as conn:
        found = [(its, *reports_store.rows(conn, its)) for its in reports_store.streams(conn, clinic, days)]
    done = 0
    for its, reference, current in found:
        try:
            done += freeze(db, its, reference, current, kind="month", make=make)
        except RowsTooFew:
            continue
    if not done:
        raise ReportAbsent(f"no stream of {clinic} has enough studies before and within the last {days} days")
    with db.monitor() as conn:
        return reports_store.reports(conn, clinic, None, done)


def of_onboarding(db: Database, clinic: str, *, make: Make = report.make) -> list[Frozen]:
    """The first half of what each stream of a new clinic has against the second: is it steady enough to begin with?

    The same rows are drawn once. Raises ReportAbsent where no stream has 20 rows and 5 more, ReportFailed.
    """
    with db.monitor() as conn:
        found = [(its, *reports_store.rows(conn, its)) for its in reports_store.halves(conn, clinic)]
    wanted = []
    for its, reference, current in found:
        try:
            tables = prepare(reference, current, its.watched)
        except RowsTooFew:
            continue
        with db.monitor() as conn:
            digest = reports_store.same(conn, its, "onboarding", tables.digest)
        if digest is None:
            freeze(db, its, reference, current, kind="onboarding", make=make)
            with db.monitor() as conn:
                digest = reports_store.same(conn, its, "onboarding", tables.digest)
        wanted.append(digest)
    with db.monitor() as conn:
        frozen = [one for one in reports_store.reports(conn, clinic, None, 200) if one.digest in wanted]
    if not frozen:
        raise ReportAbsent(f"no stream of {clinic} has 20 studies in its first half and 5 in its second")
    return frozen


def html(conn: Conn, clinic_id: UUID, digest: str) -> bytes:
    """The HTML exactly as it was frozen; needs a monitor transaction. Raises ReportAbsent, ReportDamaged."""
    packed = reports_store.html(conn, clinic_id, digest)
    if packed is None:
        raise ReportAbsent
    try:
        found = gzip.decompress(packed)
    except (OSError, EOFError):
        raise ReportDamaged from None
    if digest_of(found) != digest:
        raise ReportDamaged
    return found


def digest_of(data: bytes) -> str:
    """The name of frozen bytes."""
    return "sha256:" + hashlib.sha256(data).hexdigest()
