"""SQL of the outbox: claim under a lease and a fence, mark, give back, reap, expire.

Delivery is at least once and harmless when repeated, because UIDs are derived. One row is one object for
one destination, with its own attempts: a batch is never "complete" when one of it failed. An answer that a newer
one replaced is not sent any more, and the newer one waits while an older one is on its way.
"""

from dataclasses import dataclass
from uuid import UUID

from psycopg.rows import class_row

from registry.core.db import Conn
from registry.core.queue_store import Fenced
from registry.core.settings import LIMITS
from serving.studies.errors import Superseded

FIRST_WAIT_S = 5
LONGEST_WAIT_S = 3600


@dataclass(frozen=True, slots=True)
class Parcel:
    """One leased outbox row with its file and its destination."""

    id: int
    clinic_id: UUID
    study_id: UUID
    job_id: int
    destination_id: UUID
    fence: int
    tries: int
    object_kind: str
    path: str
    size: int
    kind: str
    host: str
    port: int
    ae_title: str
    url: str


# A hold on the clinic, the scanner, the version or its answers here, a suspended clinic, or a clinic whose onboarding
# began before its first answers arrived anywhere: nothing leaves.
_HELD = """(
  exists (select 1 from registry.hold h where h.released_at is null and (
    (h.kind = 'clinic' and h.clinic_id = o.clinic_id)
    or (h.kind = 'scanner' and h.clinic_id = o.clinic_id and h.target = o.scanner_id::text)
    or (h.kind = 'version' and h.target = o.digest)
    or (h.kind = 'answers' and h.clinic_id = o.clinic_id and h.target = o.clinic_id || ' ' || o.digest)))
  or exists (select 1 from registry.clinic c where c.id = o.clinic_id and c.state = 'suspended')
  or registry.is_silent(o.clinic_id, (select j.payload ->> 'task' from registry.job j
    where j.clinic_id = o.clinic_id and j.id = o.job_id)))"""

# A newer revision of the study was answered by the same task.
_REPLACED = """exists (select from registry.job j
  join serving.result n on n.clinic_id = j.clinic_id and n.study_id = j.study_id and n.task = j.payload ->> 'task'
    and n.revision > j.revision
  where j.clinic_id = o.clinic_id and j.id = o.job_id)"""

# A sender has an object of an older answer in hand, perhaps on the wire: what is newer must not overtake it.
_BEHIND = """exists (select from serving.outbox e
  join registry.job k on k.clinic_id = e.clinic_id and k.id = e.job_id
  join registry.job j on j.clinic_id = o.clinic_id and j.id = o.job_id
  where e.state = 'leased' and e.clinic_id = o.clinic_id and e.study_id = o.study_id
    and e.destination_id = o.destination_id and k.revision < j.revision
    and k.payload ->> 'task' = j.payload ->> 'task')"""

_MAY_GO = f"not {_HELD} and not {_REPLACED} and not {_BEHIND}"

# First the destination that has waited longest and is not resting, then what waits for it, in the order written:
# a report refers to its segmentation, so that one goes first. The attempt is counted here: a crash counts too.
CLAIM = f"""
with first as (
  select o.clinic_id, o.destination_id from serving.outbox o
    join serving.destination d on d.clinic_id = o.clinic_id and d.id = o.destination_id and d.active
  where o.state = 'ready' and o.next_at <= now() and o.destination_id <> all(%(resting)s::uuid[]) and {_MAY_GO}
  order by o.next_at, o.id limit 1),
candidate as (
  select o.id from serving.outbox o join first f on f.clinic_id = o.clinic_id and f.destination_id = o.destination_id
  where o.state = 'ready' and o.next_at <= now() and {_MAY_GO}
  order by o.id limit %(batch)s for update of o skip locked)
update serving.outbox o set state = 'leased', owner = %(owner)s, fence = nextval('registry.fence_seq'),
  tries = o.tries + 1, lease_until = now() + make_interval(secs => %(lease_s)s)
from candidate, serving.destination d, serving.result_object r
where o.id = candidate.id and d.clinic_id = o.clinic_id and d.id = o.destination_id
  and r.clinic_id = o.clinic_id and r.id = o.result_object_id
returning o.id, o.clinic_id, o.study_id, o.job_id, o.destination_id, o.fence, o.tries, r.kind as object_kind, r.path,
  r.size, d.kind, d.host, d.port, d.ae_title, d.url"""  # noqa: S608 - joined from constants of this module only


def claim(
    conn: Conn, owner: str, *, batch: int, resting: list[UUID], lease_s: float = LIMITS.lease_s
) -> list[Parcel]:
    """Lease up to ``batch`` rows of one destination that is not in ``resting``; for the system role."""
    values = {"owner": owner, "batch": batch, "resting": resting, "lease_s": lease_s}
    with conn.cursor(row_factory=class_row(Parcel)) as cursor:
        return sorted(cursor.execute(CLAIM, values).fetchall(), key=lambda parcel: parcel.id)


PROCEED = f"""
update serving.outbox o set lease_until = now() + make_interval(secs => %(lease_s)s)
where o.id = %(id)s and o.fence = %(fence)s and o.state = 'leased' and not {_HELD} and not {_REPLACED}
returning 1"""  # noqa: S608


def proceed(conn: Conn, parcel: Parcel, lease_s: float = LIMITS.lease_s) -> bool:
    """Extend the lease just before sending; False when held, replaced or not ours any more."""
    values = {"id": parcel.id, "fence": parcel.fence, "lease_s": lease_s}
    return conn.execute(PROCEED, values).fetchone() is not None


FINISH = """
update serving.outbox set state = %(state)s, lease_until = null, owner = null, finished_at = now(), last_code = %(code)s
where id = %(id)s and fence = %(fence)s and state = 'leased' returning 1"""

# Two objects of one job may end at the same moment in two transactions; the lock lets the second see the first.
LOCK_JOB = "select pg_advisory_xact_lock(hashtext('serving.outbox'), (%(job_id)s %% 2147483647)::int)"

TRACE = """
insert into serving.step(clinic_id, study_id, revision, step, detail)
select j.clinic_id, j.study_id, j.revision,
  case when s.superseded > 0 then 'delivery_superseded' when s.failed > 0 then 'delivery_failed' else 'delivered' end,
  jsonb_build_object('delivered', s.delivered, 'failed', s.failed)
    || case when s.superseded > 0 then jsonb_build_object('superseded', s.superseded) else '{}' end
from registry.job j, lateral (
  select count(*) filter (where o.state = 'delivered') as delivered,
    count(*) filter (where o.state = 'failed') as failed,
    count(*) filter (where o.state = 'superseded') as superseded,
    count(*) filter (where o.state in ('ready', 'leased')) as waiting
  from serving.outbox o where o.clinic_id = j.clinic_id and o.job_id = j.id) s
where j.clinic_id = %(clinic_id)s and j.id = %(job_id)s and s.waiting = 0"""


def finish(conn: Conn, parcel: Parcel, state: str, code: str | None = None) -> None:
    """Mark as ``delivered`` or ``failed``; the last one of a job also writes a step of the trace. Raises Fenced.

    What failed and is replaced is ``superseded``: nobody has to mend its delivery.
    """
    conn.execute(LOCK_JOB, {"job_id": parcel.job_id})
    values = {"id": parcel.id, "fence": parcel.fence, "state": state, "code": code}
    if conn.execute(FINISH, values).fetchone() is None:
        raise Fenced("the lease of this delivery is no longer ours")
    if state == "delivered" or not _supersede(conn, parcel.clinic_id, parcel.job_id):
        conn.execute(TRACE, {"clinic_id": parcel.clinic_id, "job_id": parcel.job_id})


# 5 s, doubled with each try up to an hour, and a fifth of it at random so that a crowd does not return as one.
# Given up only after a try that failed: what a hold kept back for days still gets its chance.
RETRY = """
update serving.outbox set lease_until = null, owner = null, last_code = %(code)s,
  state = case when %(burn)s and created_at < now() - make_interval(hours => %(hours)s) then 'failed' else 'ready' end,
  finished_at = case when %(burn)s and created_at < now() - make_interval(hours => %(hours)s) then now() end,
  tries = tries - case when %(burn)s then 0 else 1 end,
  next_at = now() + make_interval(secs => case when %(burn)s
    then least(%(longest_s)s, %(first_s)s * power(2, least(tries, 20) - 1)) * (1 + 0.2 * random()) else 0 end)
where id = %(id)s and fence = %(fence)s and state = 'leased' returning state"""


def retry(
    conn: Conn, parcel: Parcel, code: str | None, *, burn: bool, hours: int = LIMITS.delivery_hours_max
) -> str | None:
    """Give the row back for another try, or fail it when it is older than ``hours``.

    Without ``burn`` (a hold) the try does not count; what is replaced is ``superseded``. Returns the new state; None
    when the lease was lost.
    """
    conn.execute(LOCK_JOB, {"job_id": parcel.job_id})
    values = {"id": parcel.id, "fence": parcel.fence, "code": code, "burn": burn, "hours": hours,
              "first_s": FIRST_WAIT_S, "longest_s": LONGEST_WAIT_S}  # fmt: skip
    row = conn.execute(RETRY, values).fetchone()
    if row is not None and _supersede(conn, parcel.clinic_id, parcel.job_id):
        return "superseded"
    if row is not None and row[0] == "failed":
        conn.execute(TRACE, {"clinic_id": parcel.clinic_id, "job_id": parcel.job_id})
    return None if row is None else str(row[0])


# Rows that somebody is just marking are left to the next look: no claim takes them, whatever state they get.
SUPERSEDE = f"""
with old as (
  select o.id from serving.outbox o where o.state in ('ready', 'failed') and {_REPLACED}
    and (%(job_id)s::bigint is null or (o.clinic_id = %(clinic_id)s and o.job_id = %(job_id)s))
  order by o.id limit 1000 for update of o skip locked)
update serving.outbox o set state = 'superseded', finished_at = now(), last_code = %(code)s
from old where o.id = old.id returning o.clinic_id, o.job_id"""  # noqa: S608 - joined from constants


def _supersede(conn: Conn, clinic_id: UUID | None, job_id: int | None) -> int:
    values = {"clinic_id": clinic_id, "job_id": job_id, "code": Superseded.code}
    rows = conn.execute(SUPERSEDE, values).fetchall()
    for its_clinic, its_job in sorted(set(rows)):
        conn.execute(TRACE, {"clinic_id": its_clinic, "job_id": its_job})
    return len(rows)


OLDER = f"""
select distinct o.job_id from serving.outbox o
where o.clinic_id = %(clinic_id)s and o.study_id = %(study_id)s and o.state in ('ready', 'failed') and {_REPLACED}
order by 1"""  # noqa: S608 - joined from constants of this module only


def supersede(conn: Conn, clinic_id: UUID, study_id: UUID) -> int:
    """Give up what was not delivered of replaced answers to a study, in the transaction that stores the new one.

    What a sender has in hand is left to it: its next ``proceed`` is refused. Returns how many were given up.
    """
    values = {"clinic_id": clinic_id, "study_id": study_id}
    count = 0
    for (job_id,) in conn.execute(OLDER, values).fetchall():
        conn.execute(LOCK_JOB, {"job_id": job_id})
        count += _supersede(conn, clinic_id, job_id)
    return count


def sweep_superseded(conn: Conn) -> int:
    """Give up what came back from a sender after its answer had been replaced; for the system role."""
    return _supersede(conn, None, None)


LAST = f"""
update serving.outbox o set state = 'ready', next_at = now(), finished_at = null
from registry.job k, registry.job j
where k.clinic_id = %(clinic_id)s and k.id = %(job_id)s and j.clinic_id = k.clinic_id and j.study_id = k.study_id
  and j.payload ->> 'task' = k.payload ->> 'task' and j.revision > k.revision
  and o.clinic_id = j.clinic_id and o.job_id = j.id and o.destination_id = %(destination_id)s and o.state = 'delivered'
  and not {_REPLACED}
returning o.id"""  # noqa: S608 - joined from constants of this module only


def send_last(conn: Conn, parcel: Parcel) -> int:
    """After ``parcel`` arrived though its lease had run out: send again what is newer, to be the last that arrives.

    Returns how many objects; an archive that has them keeps them, for their UIDs are the same.
    """
    its = {"clinic_id": parcel.clinic_id, "job_id": parcel.job_id, "destination_id": parcel.destination_id}
    return len(conn.execute(LAST, its).fetchall())


COUNTS = """
select state, count(*) from serving.outbox where clinic_id = %(clinic_id)s and study_id = %(study_id)s
group by 1 order by 1"""


def counts(conn: Conn, clinic_id: UUID, study_id: UUID) -> dict[str, int]:
    """How many objects of a study are in which state of delivery."""
    return dict(conn.execute(COUNTS, {"clinic_id": clinic_id, "study_id": study_id}).fetchall())


AGAIN = f"""
update serving.outbox o set state = 'ready', tries = 0, next_at = now(), created_at = now(), finished_at = null
from serving.destination d
where o.clinic_id = %(clinic_id)s and o.study_id = %(study_id)s and o.state = 'failed'
  and d.clinic_id = o.clinic_id and d.id = o.destination_id and d.active and not {_REPLACED}
returning o.id"""  # noqa: S608 - joined from constants of this module only


def again(conn: Conn, clinic_id: UUID, study_id: UUID) -> int:
    """Send once more what was given up of answers that stand, where its destination is not off; returns how many."""
    return len(conn.execute(AGAIN, {"clinic_id": clinic_id, "study_id": study_id}).fetchall())


REAP = """
with expired as (
  select id from serving.outbox where state = 'leased' and lease_until < now() for update skip locked limit 100)
update serving.outbox o set state = 'ready', lease_until = null, owner = null, next_at = now(),
  last_code = 'core.lease_expired'
from expired where o.id = expired.id returning o.id"""


def reap(conn: Conn) -> int:
    """Return rows whose sender died; the fence keeps a late writer out."""
    return len(conn.execute(REAP).fetchall())


EXPIRE = """
with late as (
  select o.id from serving.outbox o
    join serving.destination d on d.clinic_id = o.clinic_id and d.id = o.destination_id and not d.active
  where o.state = 'ready' and o.created_at < now() - make_interval(hours => %(hours)s)
  for update of o skip locked limit 100)
update serving.outbox o set state = 'failed', finished_at = now(), last_code = 'results.destination_disabled'
from late where o.id = late.id returning o.clinic_id, o.job_id"""


def expire(conn: Conn, hours: int = LIMITS.delivery_hours_max) -> int:
    """Fail rows older than ``hours`` whose destination was disabled, so that nothing waits for ever unseen."""
    rows = conn.execute(EXPIRE, {"hours": hours}).fetchall()
    for clinic_id, job_id in {(row[0], row[1]) for row in rows}:
        conn.execute(TRACE, {"clinic_id": clinic_id, "job_id": job_id})
    return len(rows)
