"""Rows of sign-in: keys of accounts and the sessions that they opened."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg.rows import class_row
from psycopg.types.json import Jsonb

from registry.core.db import Conn


@dataclass(frozen=True, slots=True)
class AccountKey:
    """A key without its secret; ``clinic`` is None where it opens the whole fleet."""

    key_id: str
    clinic: str | None
    expires_at: datetime
    revoked_at: datetime | None
    last_used_on: datetime | None
    valid: bool


@dataclass(frozen=True, slots=True)
class KeyMatch:
    """What is needed to judge a presented key; ``good``: not revoked, not expired, of an active account."""

    id: UUID
    account: str
    sha256: bytes
    good: bool


@dataclass(frozen=True, slots=True)
class Session:
    """Who is signed in. ``clinic_id`` and ``clinic`` are None where all clinics may be seen."""

    account: str
    role: str
    clinic_id: UUID | None
    clinic: str | None
    expires_at: datetime
    said: dict[str, Any] | None


ADD_KEY = """
insert into registry.account_key(clinic_id, account, key_id, sha256, expires_at)
values (%(clinic_id)s, %(account)s, %(key_id)s, %(sha256)s, now() + make_interval(days => %(days)s))"""


def add_key(conn: Conn, account: str, clinic_id: UUID | None, key_id: str, sha256: bytes, days: int) -> None:
    """Keep the hash of a new key."""
    values = {"account": account, "clinic_id": clinic_id, "key_id": key_id, "sha256": sha256, "days": days}
    conn.execute(ADD_KEY, values)


KEYS = """
select k.key_id, c.slug as clinic, k.expires_at, k.revoked_at, k.last_used_on,
  k.revoked_at is null and k.expires_at > now() as valid
from registry.account_key k left join registry.clinic c on c.id = k.clinic_id
where k.account = %(account)s order by k.created_at desc limit %(limit)s"""


def keys(conn: Conn, account: str, limit: int) -> Sequence[AccountKey]:
    """An account's keys, the newest first."""
    with conn.cursor(row_factory=class_row(AccountKey)) as cursor:
        return cursor.execute(KEYS, {"account": account, "limit": limit}).fetchall()


REVOKE = """
update registry.account_key set revoked_at = now()
where account = %(account)s and key_id = %(key_id)s and revoked_at is null returning 1"""


def revoke(conn: Conn, account: str, key_id: str) -> bool:
    """Refuse a key from now on; False where the account has no such key that is valid."""
    return conn.execute(REVOKE, {"account": account, "key_id": key_id}).fetchone() is not None


MATCH = """
select k.id, k.account, k.sha256, k.revoked_at is null and k.expires_at > now() and a.active as good
from registry.account_key k join registry.account a on a.name = k.account where k.key_id = %(key_id)s"""


def match(conn: Conn, key_id: str) -> KeyMatch | None:
    """The key of this id."""
    with conn.cursor(row_factory=class_row(KeyMatch)) as cursor:
        return cursor.execute(MATCH, {"key_id": key_id}).fetchone()


USED = "update registry.account_key set last_used_on = current_date where id = %(id)s"
SWEEP = "delete from registry.session where expires_at < now()"
OPEN = """
insert into registry.session(sha256, account_key_id, expires_at)
values (%(sha256)s, %(id)s, now() + make_interval(hours => %(hours)s))"""


def open_session(conn: Conn, key: UUID, sha256: bytes, hours: int) -> None:
    """Begin a session of this key, and forget the sessions that are over."""
    conn.execute(USED, {"id": key})
    conn.execute(SWEEP)
    conn.execute(OPEN, {"sha256": sha256, "id": key, "hours": hours})


# All ends of a session in one place: its time, an idle time, its key's end, its account's.
SESSION = """
select a.name as account, a.role, k.clinic_id, c.slug as clinic, s.expires_at, s.said
from registry.session s join registry.account_key k on k.id = s.account_key_id
join registry.account a on a.name = k.account left join registry.clinic c on c.id = k.clinic_id
where s.sha256 = %(sha256)s and s.expires_at > now() and s.seen_at > now() - make_interval(hours => %(idle)s)
  and k.revoked_at is null and k.expires_at > now() and a.active"""
SEEN = """
update registry.session set seen_at = now(), said = null
where sha256 = %(sha256)s and (said is not null or seen_at < now() - interval '1 minute')"""


def session(conn: Conn, sha256: bytes, idle: int) -> Session | None:
    """The living session of this token, noted as seen; what it was told is forgotten with that."""
    with conn.cursor(row_factory=class_row(Session)) as cursor:
        found = cursor.execute(SESSION, {"sha256": sha256, "idle": idle}).fetchone()
    if found:
        conn.execute(SEEN, {"sha256": sha256})
    return found


SAY = "update registry.session set said = %(said)s where sha256 = %(sha256)s"


def say(conn: Conn, sha256: bytes, said: dict[str, Any]) -> None:
    """Keep what a form did for the page that follows."""
    conn.execute(SAY, {"sha256": sha256, "said": Jsonb(said)})


CLOSE = "delete from registry.session where sha256 = %(sha256)s"


def close(conn: Conn, sha256: bytes) -> None:
    """End a session."""
    conn.execute(CLOSE, {"sha256": sha256})
