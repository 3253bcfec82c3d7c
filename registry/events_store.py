"""Rows of the hash-chained record."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from psycopg.rows import class_row

from registry.core.db import Conn

PAGE_ROWS = 500


@dataclass(frozen=True, slots=True)
class Event:
    """One decision: who did what when; ``body`` is RFC 8785 JSON text."""

    chain: str
    seq: int
    at: datetime
    actor: str
    type: str
    body: str
    prev_hash: bytes
    hash: bytes


APPEND = "select registry.append_event(%(chain)s, %(actor)s, %(type)s, %(body)s)"


def append(conn: Conn, chain: str, actor: str, kind: str, body: str) -> int:
    """Add one event under the lock of its chain's head; returns its sequence number."""
    row = conn.execute(APPEND, {"chain": chain, "actor": actor, "type": kind, "body": body}).fetchone()
    assert row is not None
    return int(row[0])


HEADS = """
select chain, seq, hash from registry.chain_head
where %(chain)s::text is null or chain = %(chain)s order by chain"""


def heads(conn: Conn, chain: str | None) -> Sequence[tuple[str, int, bytes]]:
    """Chains with their last sequence number and hash."""
    return [(str(c), int(s), bytes(h)) for c, s, h in conn.execute(HEADS, {"chain": chain})]


PAGE = """
select chain, seq, at, actor, type, body, prev_hash, hash from registry.event
where chain = %(chain)s and seq > %(after)s order by seq limit %(limit)s"""


def page(conn: Conn, chain: str, after: int, limit: int = PAGE_ROWS) -> Sequence[Event]:
    """The next events of one chain in their order."""
    with conn.cursor(row_factory=class_row(Event)) as cursor:
        return cursor.execute(PAGE, {"chain": chain, "after": after, "limit": limit}).fetchall()


LATEST = """
select chain, seq, at, actor, type, body, prev_hash, hash from registry.event
where (%(chain)s::text is null or chain = %(chain)s) and (%(before)s::bigint is null or seq < %(before)s)
order by at desc, chain, seq desc limit %(limit)s"""


def latest(conn: Conn, chain: str | None, limit: int, before: int | None) -> Sequence[Event]:
    """The latest events first."""
    with conn.cursor(row_factory=class_row(Event)) as cursor:
        return cursor.execute(LATEST, {"chain": chain, "limit": limit, "before": before}).fetchall()
