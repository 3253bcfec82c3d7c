"""Rows of notices: what is to be told to the outside, at most once a change."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from psycopg.rows import dict_row

from registry.core.db import Conn

TRIES_MAX = 8
# Nothing is told of a flag while it is muted.
ADD = """
insert into monitoring.notice(clinic_id, flag_id, event_seq, channel)
select f.clinic_id, f.id, %(event_seq)s, %(channel)s from monitoring.flag f
where f.clinic_id = %(clinic_id)s and f.id = %(flag_id)s
  and (f.muted_until is null or f.muted_until < clock_timestamp())"""


def add(conn: Conn, clinic_id: UUID, flag_id: int, event_seq: int, channel: str) -> None:
    """Tell this change by one channel, in the transaction that made it."""
    values = {"clinic_id": clinic_id, "flag_id": flag_id, "event_seq": event_seq, "channel": channel}
    conn.execute(ADD, values)


# What is still 'sending' was begun by a process that died: nobody knows whether it arrived.
LEFT = """
update monitoring.notice set state = 'unsure', finished_at = clock_timestamp(), last_code = 'died while sending'
where state = 'sending' and next_at < clock_timestamp() - interval '2 min'"""
CLAIM = """
update monitoring.notice n set state = 'sending', tries = tries + 1, next_at = clock_timestamp()
from (select clinic_id, flag_id, event_seq, channel from monitoring.notice
  where state = 'ready' and next_at <= clock_timestamp() and channel = any(%(channels)s)
  order by next_at limit 1 for update skip locked) one
where n.clinic_id = one.clinic_id and n.flag_id = one.flag_id and n.event_seq = one.event_seq
  and n.channel = one.channel
returning n.clinic_id, n.flag_id, n.event_seq, n.channel, n.tries"""


def claim(conn: Conn, channels: Sequence[str]) -> dict[str, Any] | None:
    """The next notice of these channels, marked as being sent.

    Commit before sending: a crash then sends it never rather than twice.
    """
    conn.execute(LEFT)
    with conn.cursor(row_factory=dict_row) as cursor:
        return cursor.execute(CLAIM, {"channels": [*channels]}).fetchone()


TEXT = """
select f.id as flag, f.clinic, f.task, f.sequence, f.kind, f.state, f.sentence, f.verdict, e.seq as change, e.type, e.at
from monitoring.flag_v f join monitoring.flag_event_v e on e.clinic_id = f.clinic_id and e.flag_id = f.id
where f.clinic_id = %(clinic_id)s and f.id = %(flag_id)s and e.seq = %(event_seq)s"""


def text(conn: Conn, notice: dict[str, Any]) -> dict[str, Any]:
    """What is told: the flag and the change, without any patient's data."""
    with conn.cursor(row_factory=dict_row) as cursor:
        row = cursor.execute(TEXT, notice).fetchone()
    assert row is not None
    return row


END = """
update monitoring.notice set state = %(state)s, last_code = %(code)s, finished_at =
    case when %(state)s <> 'ready' then clock_timestamp() end,
  next_at = clock_timestamp() + make_interval(secs => %(wait_s)s)
where clinic_id = %(clinic_id)s and flag_id = %(flag_id)s and event_seq = %(event_seq)s
  and channel = %(channel)s and state = 'sending'"""


def end(conn: Conn, notice: dict[str, Any], state: str, code: str, wait_s: float = 0) -> None:
    """What became of it: sent, unsure, given_up, or ready again after ``wait_s`` where it surely did not arrive."""
    conn.execute(END, notice | {"state": state, "code": code, "wait_s": wait_s})
