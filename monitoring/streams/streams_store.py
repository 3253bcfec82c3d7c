"""Rows of streams: where the follower stands, what it reads, and what one batch writes, all in one transaction."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from math import isfinite
from typing import Any
from uuid import UUID

from psycopg.rows import class_row, dict_row
from psycopg.types.json import Jsonb

from monitoring.streams import groups
from monitoring.streams.parts import SLOTS, Place
from monitoring.streams.state import Row
from registry.core.db import Conn


@dataclass(frozen=True, slots=True)
class Policy:
    """How a clinic is watched."""

    per_day: float = 10.0
    budget: float = 1.0
    silent_after: timedelta = timedelta(days=3)
    reject_max: float = 0.10
    """Rates that are accepted, tolerance included; beyond them the bets speak (judge/counts)."""
    edit_max: float = 0.90
    failure_max: float = 0.10
    late_max: float = 0.10
    late_after: timedelta = timedelta(hours=1)
    holds: bool = True
    """Whether a verdict that says hold stops delivery."""
    version: int = 0
    """Its number in the clinic's history; 0: nobody set one."""


@dataclass(frozen=True, slots=True)
class Key:
    """What a stream is, within its clinic."""

    task: str
    sequence: str
    digest: str


@dataclass(frozen=True, slots=True)
class Stored:
    """A stream with its state as bytes (``parts.hot``)."""

    stream_id: UUID
    task: str
    sequence: str
    digest: str
    seq: int
    state: bytes

    @property
    def key(self) -> Key:
        """Its natural key."""
        return Key(self.task, self.sequence, self.digest)


@dataclass(frozen=True, slots=True)
class Epoch:
    """One boundary of a stream's rows: those after ``from_seq`` are judged against what it begins."""

    epoch: int
    from_seq: int
    cause: str
    fresh: bool
    threshold: float
    promotion_id: int | None
    by_whom: str
    reason: str


@dataclass(frozen=True, slots=True)
class Observation:
    """What one row did."""

    seq: int
    study_id: str
    at: str
    epoch: int
    scanner_group: str
    outcome: str
    statistic: float
    top_feature: str | None


LAST = "select coalesce(max(seq), 0), pg_current_xact_id()::text::bigint from serving.feature_v"
OLDEST = "select pg_snapshot_xmin(pg_current_snapshot())::text::bigint"


def last(conn: Conn) -> tuple[int, int]:
    """The highest sequence that can be seen, and a transaction number later than that of whoever drew a lower one."""
    row = conn.execute(LAST).fetchone()
    assert row is not None
    return int(row[0]), int(row[1])


def oldest(conn: Conn) -> int:
    """The oldest transaction that still writes: all before it have ended."""
    row = conn.execute(OLDEST).fetchone()
    assert row is not None
    return int(row[0])


NEWS = """
select c.id from registry.clinic c where exists (
  select from serving.feature f where f.clinic_id = c.id and f.seq <= %(settled)s
    and f.seq > coalesce((select k.seq from monitoring.cursor k where k.clinic_id = c.id), 0))
  or exists (select from monitoring.cursor k where k.clinic_id = c.id and k.acquired < k.seq)
order by c.slug limit 10000"""


def clinics_with_news(conn: Conn, settled: int) -> list[UUID]:
    """Clinics that have settled rows which were not taken yet, or whose scanners an earlier version did not count."""
    return [row[0] for row in conn.execute(NEWS, {"settled": settled})]


BEGIN_CURSOR = "insert into monitoring.cursor(clinic_id) values (%(clinic_id)s) on conflict do nothing"
LOCK_CURSOR = "select seq from monitoring.cursor where clinic_id = %(clinic_id)s for update"
MOVE_CURSOR = "update monitoring.cursor set seq = %(seq)s where clinic_id = %(clinic_id)s"


def lock(conn: Conn, clinic_id: UUID) -> int:
    """Be the only one that follows this clinic until the transaction ends; returns where it stands."""
    conn.execute(BEGIN_CURSOR, {"clinic_id": clinic_id})
    row = conn.execute(LOCK_CURSOR, {"clinic_id": clinic_id}).fetchone()
    assert row is not None
    return int(row[0])


def move(conn: Conn, clinic_id: UUID, seq: int) -> None:
    """Stand at this row from now on."""
    conn.execute(MOVE_CURSOR, {"clinic_id": clinic_id, "seq": seq})


ROWS = """
select seq, study_id, task, digest, profile, values, at, binding_scope, binding_seq from serving.feature_v
where clinic_id = %(clinic_id)s and seq > %(after)s and seq <= %(settled)s order by seq limit %(limit)s"""


def rows(conn: Conn, clinic_id: UUID, after: int, settled: int, limit: int) -> list[tuple[Key, Row]]:
    """The next settled rows of a clinic in sequence order."""
    values = {"clinic_id": clinic_id, "after": after, "settled": settled, "limit": limit}
    return [_row(*row) for row in conn.execute(ROWS, values)]


def _row(
    seq: int, study: UUID, task: str, digest: str, profile: Any, values: Any, at: datetime, *binding: Any
) -> tuple[Key, Row]:
    profile = profile if isinstance(profile, dict) else {}
    values = values if isinstance(values, dict) else {}
    numbers = {n: float(v) for n, v in values.items() if isinstance(v, int | float) and isfinite(v)}
    blank = tuple(sorted(set(values) - set(numbers)))
    scope, binding_seq = binding
    bound = (str(scope), int(binding_seq)) if scope is not None else None
    key = Key(task, str(profile.get("sequence_class") or "UNKNOWN"), digest)
    return key, Row(int(seq), str(study), at.isoformat(), groups.facts(profile), numbers, bound, blank)


SEEN = """
select stream_id, study_id from monitoring.observation
where clinic_id = %(clinic_id)s and study_id = any(%(studies)s) and outcome <> 'nothing'"""


def seen(conn: Conn, clinic_id: UUID, studies: Sequence[str]) -> set[tuple[UUID, str]]:
    """Which of these studies a stream has counted already."""
    values = {"clinic_id": clinic_id, "studies": [UUID(study) for study in studies]}
    return {(row[0], str(row[1])) for row in conn.execute(SEEN, values)}


STREAMS = """
select s.id as stream_id, s.task, s.sequence, s.digest, t.seq, t.state
from monitoring.stream s join monitoring.stream_state t on t.clinic_id = s.clinic_id and t.stream_id = s.id
where s.clinic_id = %(clinic_id)s order by s.began_seq"""


def streams(conn: Conn, clinic_id: UUID) -> list[Stored]:
    """A clinic's streams, the oldest first."""
    with conn.cursor(row_factory=class_row(Stored)) as cursor:
        return cursor.execute(STREAMS, {"clinic_id": clinic_id}).fetchall()


KEPT = """
select part, epoch, scanner_group, number, body from monitoring.kept_row
where clinic_id = %(clinic_id)s and stream_id = %(stream_id)s and (part <> 'reference' or epoch = %(base)s)"""


def kept(conn: Conn, clinic_id: UUID, stream_id: UUID, base: int) -> dict[Place, bytes]:
    """The rows that are kept of a stream, references of the epoch ``base`` alone."""
    values = {"clinic_id": clinic_id, "stream_id": stream_id, "base": base}
    return {
        (part, epoch, group, number): bytes(body)
        for part, epoch, group, number, body in conn.execute(KEPT, values)
    }


KEEP = """
insert into monitoring.kept_row(clinic_id, stream_id, part, epoch, scanner_group, slot, number, body)
values (%(clinic_id)s, %(stream_id)s, %(part)s, %(epoch)s, %(group)s, %(slot)s, %(number)s, %(body)s)
on conflict (clinic_id, stream_id, part, epoch, scanner_group, slot) do update
  set number = excluded.number, body = excluded.body"""


def keep(conn: Conn, clinic_id: UUID, stream_id: UUID, rows: Mapping[Place, bytes]) -> None:
    """Keep rows; each takes the place of the oldest of its part where that is full."""
    found = [
        {"clinic_id": clinic_id, "stream_id": stream_id, "part": part, "epoch": epoch, "group": group,
         "slot": number % SLOTS.get(part, number + 1), "number": number, "body": body}
        for (part, epoch, group, number), body in rows.items()
    ]  # fmt: skip
    with conn.cursor() as cursor:
        cursor.executemany(KEEP, found)


POLICY = """
select per_day::float8, budget::float8, silent_after, reject_max::float8, edit_max::float8, failure_max::float8,
  late_max::float8, late_after, holds, version from monitoring.policy
where clinic_id = %(clinic_id)s order by version desc limit 1"""


def policy(conn: Conn, clinic_id: UUID) -> Policy:
    """The clinic's newest policy, or the first margins."""
    with conn.cursor(row_factory=class_row(Policy)) as cursor:
        return cursor.execute(POLICY, {"clinic_id": clinic_id}).fetchone() or Policy()


CARD = "select card from registry.model_version where digest = %(digest)s"


def card(conn: Conn, digest: str) -> dict[str, Any]:
    """The card of a version."""
    row = conn.execute(CARD, {"digest": digest}).fetchone()
    return dict(row[0]) if row else {}


BINDING = """
select promotion_id, promotion_kind, coalesce(approved_by, bound_by) as by_whom, reason from registry.binding_v
where clinic_id = %(clinic_id)s and task = %(task)s and scope = %(scope)s and seq = %(seq)s"""


def binding_cause(
    conn: Conn, clinic_id: UUID, task: str, binding: tuple[str, int]
) -> tuple[str, int | None, str, str] | None:
    """Why a binding began: cause of an epoch, promotion, by whom, reason. None: there is no such binding."""
    values = {"clinic_id": clinic_id, "task": task, "scope": binding[0], "seq": binding[1]}
    row = conn.execute(BINDING, values).fetchone()
    if row is None:
        return None
    cause = {"promote": "promotion", "rollback": "rollback"}.get(row[1] or "", "binding")
    return cause, row[0], str(row[2]), str(row[3])


ADD_STREAM = """
insert into monitoring.stream(clinic_id, task, sequence, digest, began_seq)
values (%(clinic_id)s, %(task)s, %(sequence)s, %(digest)s, %(seq)s) returning id"""


def add_stream(conn: Conn, clinic_id: UUID, key: Key, seq: int) -> UUID:
    """A stream that begins with this row."""
    row = conn.execute(ADD_STREAM, {"clinic_id": clinic_id, "seq": seq, **asdict(key)}).fetchone()
    assert row is not None
    return UUID(str(row[0]))


ADD_EPOCH = """
insert into monitoring.reference_epoch(clinic_id, stream_id, epoch, from_seq, cause, fresh, threshold, promotion_id,
  by_whom, reason)
values (%(clinic_id)s, %(stream_id)s, %(epoch)s, %(from_seq)s, %(cause)s, %(fresh)s, %(threshold)s, %(promotion_id)s,
  %(by_whom)s, %(reason)s)"""


def add_epoch(conn: Conn, clinic_id: UUID, stream_id: UUID, epoch: Epoch) -> None:
    """Write down an epoch, once."""
    conn.execute(ADD_EPOCH, {"clinic_id": clinic_id, "stream_id": stream_id, **asdict(epoch)})


EPOCHS = """
select epoch, from_seq, cause, fresh, threshold, promotion_id, by_whom, reason from monitoring.reference_epoch
where clinic_id = %(clinic_id)s and stream_id = %(stream_id)s order by epoch"""


def epochs(conn: Conn, clinic_id: UUID, stream_id: UUID) -> list[Epoch]:
    """A stream's epochs in their order."""
    with conn.cursor(row_factory=class_row(Epoch)) as cursor:
        return cursor.execute(EPOCHS, {"clinic_id": clinic_id, "stream_id": stream_id}).fetchall()


REFERENCES = """
select * from monitoring.epoch_v where clinic_id = %(clinic_id)s
  and (%(task)s::text is null or task = %(task)s) and (%(sequence)s::text is null or sequence = %(sequence)s)
order by task, sequence, digest, epoch limit 10000"""


def references(conn: Conn, clinic_id: UUID, task: str | None, sequence: str | None) -> list[dict[str, Any]]:
    """Epochs of a clinic's streams, who began them and why, those that hold marked."""
    values = {"clinic_id": clinic_id, "task": task, "sequence": sequence}
    with conn.cursor(row_factory=dict_row) as cursor:
        return cursor.execute(REFERENCES, values).fetchall()


SAVE = """
insert into monitoring.stream_state(clinic_id, stream_id, seq, epoch, state, facts, n, ranked, statistic, threshold,
  watching, flagged_seq, since_seq, last_at)
values (%(clinic_id)s, %(stream_id)s, %(seq)s, %(epoch)s, %(state)s, %(facts)s, %(n)s, %(ranked)s, %(statistic)s,
  %(threshold)s, %(watching)s, %(flagged_seq)s, %(since_seq)s, %(last_at)s)
on conflict (clinic_id, stream_id) do update set seq = excluded.seq, epoch = excluded.epoch, state = excluded.state,
  facts = excluded.facts, n = excluded.n, ranked = excluded.ranked, statistic = excluded.statistic,
  threshold = excluded.threshold, watching = excluded.watching, flagged_seq = excluded.flagged_seq,
  since_seq = excluded.since_seq, last_at = excluded.last_at"""


def save(conn: Conn, clinic_id: UUID, stream_id: UUID, values: dict[str, Any]) -> None:
    """Write a stream's state: its bytes, and the same in columns for those who read."""
    conn.execute(
        SAVE, {"clinic_id": clinic_id, "stream_id": stream_id, **values, "facts": Jsonb(values["facts"])}
    )


ADD_OBSERVATION = """
insert into monitoring.observation(clinic_id, stream_id, seq, study_id, at, epoch, scanner_group, outcome, statistic,
  top_feature)
values (%(clinic_id)s, %(stream_id)s, %(seq)s, %(study_id)s, %(at)s, %(epoch)s, %(scanner_group)s, %(outcome)s,
  %(statistic)s, %(top_feature)s)"""


def add_observations(conn: Conn, clinic_id: UUID, stream_id: UUID, found: Sequence[Observation]) -> None:
    """Write down what each row did."""
    base = {"clinic_id": clinic_id, "stream_id": stream_id}
    with conn.cursor() as cursor:
        cursor.executemany(ADD_OBSERVATION, [base | asdict(one) for one in found])
