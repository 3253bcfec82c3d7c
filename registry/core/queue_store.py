"""The fenced queue: claim, beat, finish, release and reap jobs under leases in PostgreSQL.

A lease carries a fencing token from one sequence. Every write of a worker names its token, and a write whose
token is no longer the job's is refused (``Fenced``): a paused worker that wakes up cannot overwrite the result
of the worker that took over. Only the database's clock is used.
"""

from dataclasses import dataclass
from typing import Any
from uuid import UUID

from psycopg.rows import class_row
from psycopg.types.json import Jsonb

from registry.core.db import Conn
from registry.core.errors import Conflict
from registry.core.settings import LIMITS

LANES = {"stat": 10, "routine": 0, "shadow": -10, "backfill": -20}


class Fenced(Conflict):
    """This worker's lease ran out and another worker has the job."""

    code = "core.fenced"
    why = "The fencing token of the write is not the job's present one."
    cure = "Discard this attempt's output; the job goes on under its new lease. No person needs to act."


@dataclass(frozen=True, slots=True)
class Job:
    """One leased job, as the claim returned it."""

    id: int
    clinic_id: UUID
    kind: str
    study_id: UUID
    revision: int
    attempts: int
    fence: int
    payload: dict[str, Any]


ADD = """
insert into registry.job(clinic_id, kind, dedup_key, study_id, revision, priority, payload)
values (%(clinic_id)s, %(kind)s, %(dedup_key)s, %(study_id)s, %(revision)s, %(priority)s, %(payload)s)
on conflict (clinic_id, dedup_key) do nothing returning id"""


def add(
    conn: Conn, clinic_id: UUID, kind: str, dedup_key: str, *, study_id: UUID, revision: int, lane: str = "routine",
    payload: dict[str, Any] | None = None,
) -> int | None:  # fmt: skip
    """Add a job in the caller's transaction; None when the same dedup_key is there already."""
    row = conn.execute(
        ADD,
        {
            "clinic_id": clinic_id, "kind": kind, "dedup_key": dedup_key, "study_id": study_id,
            "revision": revision, "priority": LANES[lane], "payload": Jsonb(payload or {}),
        },
    ).fetchone()  # fmt: skip
    if row is not None:
        conn.execute("select pg_notify('radfleet_job', %s)", (kind,))
    return row[0] if row else None


# The in-flight cap is read without locks, so two claims at one instant may exceed it by one: it is for fairness,
# not for safety. A clinic with a hold is passed over; its jobs wait.
CLAIM = """
with candidate as (
  select j.id from registry.job j join registry.clinic c on c.id = j.clinic_id
  where j.state = 'ready' and j.run_at <= now() and j.kind = any(%(kinds)s) and c.state <> 'suspended'
    and (select count(*) from registry.job l where l.clinic_id = j.clinic_id and l.state = 'leased') < c.in_flight_max
  order by j.priority desc, j.run_at, j.id limit 1 for update of j skip locked)
update registry.job j set state = 'leased', owner = %(owner)s, fence = nextval('registry.fence_seq'),
  attempts = j.attempts + 1, lease_until = now() + make_interval(secs => %(lease_s)s)
from candidate where j.id = candidate.id
returning j.id, j.clinic_id, j.kind, j.study_id, j.revision, j.attempts, j.fence, j.payload"""


def claim(conn: Conn, owner: str, kinds: list[str], lease_s: float = LIMITS.lease_s) -> Job | None:
    """Lease the next job, or None. The attempt is counted here, so that a crash counts too."""
    with conn.cursor(row_factory=class_row(Job)) as cursor:
        return cursor.execute(CLAIM, {"owner": owner, "kinds": kinds, "lease_s": lease_s}).fetchone()


BEAT = """
update registry.job set lease_until = now() + make_interval(secs => %(lease_s)s)
where id = %(id)s and fence = %(fence)s and state = 'leased' returning 1"""


def beat(conn: Conn, job: Job, lease_s: float = LIMITS.lease_s) -> None:
    """Extend the lease. Raises Fenced when it is no longer ours."""
    _own(conn.execute(BEAT, {"id": job.id, "fence": job.fence, "lease_s": lease_s}).fetchone())


FINISH = """
update registry.job set state = %(state)s, lease_until = null, finished_at = now(), last_error = %(error)s
where id = %(id)s and fence = %(fence)s and state = 'leased' returning 1"""


def finish(conn: Conn, job: Job, state: str = "done", error: str | None = None) -> None:
    """End the job (done, rejected or dead) in the transaction that writes what it made. Raises Fenced."""
    _own(conn.execute(FINISH, {"id": job.id, "fence": job.fence, "state": state, "error": error}).fetchone())


RELEASE = """
update registry.job set state = case when not %(burn)s or attempts < max_attempts then 'ready' else 'dead' end,
  finished_at = case when not %(burn)s or attempts < max_attempts then null else now() end,
  attempts = attempts - case when %(burn)s then 0 else 1 end, lease_until = null, owner = null, last_error = %(error)s,
  run_at = now() + least(interval '10 min',
    make_interval(secs => case when %(burn)s then 2.5 * power(2, attempts) else %(wait_s)s end))
where id = %(id)s and fence = %(fence)s and state = 'leased' returning state"""


def release(conn: Conn, job: Job, error: str, *, burn: bool, wait_s: float = 2.0) -> str:
    """Give the job back. ``burn`` keeps the attempt counted (its own failure) and may end in ``dead``;
    without it a dependency was away and the attempt does not count. Returns the state. Raises Fenced."""
    row = conn.execute(
        RELEASE, {"id": job.id, "fence": job.fence, "error": error, "burn": burn, "wait_s": wait_s}
    ).fetchone()
    return str(_own(row)[0])


REAP = """
with expired as (
  select id from registry.job where state = 'leased' and lease_until < now()
    and pg_postmaster_start_time() < now() - make_interval(secs => %(grace_s)s) for update skip locked limit 100)
update registry.job j set state = case when attempts >= max_attempts then 'dead' else 'ready' end,
  finished_at = case when attempts >= max_attempts then now() end,
  lease_until = null, owner = null, last_error = 'core.lease_expired',
  run_at = now() + least(interval '10 min', make_interval(secs => power(2, attempts)))
from expired where j.id = expired.id
returning j.id, j.clinic_id, j.study_id, j.revision, j.state"""


def reap(conn: Conn, grace_s: float = 0) -> list[tuple[int, UUID, UUID, int, str]]:
    """Return expired leases to the queue, or to ``dead`` after the last attempt.

    None within ``grace_s`` of the server's start: while it was down nobody could beat, and no worker is to blame.
    Each row: (id, clinic, study, revision, state).
    """
    return conn.execute(REAP, {"grace_s": grace_s}).fetchall()


REQUEUE = """
update registry.job set state = 'ready', attempts = 0, run_at = now(), created_at = now(), finished_at = null,
  last_error = null
where clinic_id = %(clinic_id)s and study_id = %(study_id)s and revision = %(revision)s
  and state in ('dead', 'rejected')
returning id"""


def requeue(conn: Conn, clinic_id: UUID, study_id: UUID, revision: int) -> int:
    """Bring dead or rejected jobs of one study revision back; returns how many."""
    rows = conn.execute(
        REQUEUE, {"clinic_id": clinic_id, "study_id": study_id, "revision": revision}
    ).fetchall()
    return len(rows)


def _own(row: Any) -> Any:
    if row is None:
        raise Fenced("the lease of this job is no longer ours")
    return row
