"""Rows of clinics, their senders on the wire and their API keys."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from psycopg.rows import class_row

from registry.core.db import Conn


@dataclass(frozen=True, slots=True)
class Clinic:
    """One clinic. ``quiet_s``: seconds without a new instance after which its study counts as whole."""

    id: UUID
    slug: str
    name: str
    state: str
    quiet_s: float


@dataclass(frozen=True, slots=True)
class Peer:
    """A sender on the wire: its AE title, the AE title it calls, and where it may call from (CIDR)."""

    calling_ae: str
    called_ae: str
    address: str
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Key:
    """An API key without its secret; ``valid`` by the database's clock."""

    key_id: str
    scopes: list[str]
    expires_at: datetime
    revoked_at: datetime | None
    last_used_on: str | None
    valid: bool


@dataclass(frozen=True, slots=True)
class KeyMatch:
    """What a door needs to judge a presented key."""

    id: UUID
    slug: str
    name: str
    state: str
    quiet_s: float
    sha256: bytes
    scopes: list[str]
    expired: bool
    revoked: bool
    unused_today: bool


# All conditions in one statement: the answer to a stranger takes as long whatever was wrong.
BY_AE = """
select c.id, c.slug, c.name, c.state, c.quiet_s
from registry.clinic_peer p join registry.clinic c on c.id = p.clinic_id
where p.called_ae = %(called_ae)s and p.calling_ae = %(calling_ae)s and %(address)s::inet <<= p.address
  and c.state <> 'suspended'"""


def by_ae(conn: Conn, called_ae: str, calling_ae: str, address: str) -> Clinic | None:
    """The one clinic that sends under this pair of AE titles from this address."""
    values = {"called_ae": called_ae, "calling_ae": calling_ae, "address": address}
    with conn.cursor(row_factory=class_row(Clinic)) as cursor:
        return cursor.execute(BY_AE, values).fetchone()


KEY_MATCH = """
select c.id, c.slug, c.name, c.state, c.quiet_s, k.sha256, k.scopes, k.expires_at <= now() as expired,
  k.revoked_at is not null as revoked, k.last_used_on is distinct from current_date as unused_today
from registry.clinic_key k join registry.clinic c on c.id = k.clinic_id where k.key_id = %(key_id)s"""


def key_match(conn: Conn, key_id: str) -> KeyMatch | None:
    """The key of this id with its clinic."""
    with conn.cursor(row_factory=class_row(KeyMatch)) as cursor:
        return cursor.execute(KEY_MATCH, {"key_id": key_id}).fetchone()


KEY_USED = "update registry.clinic_key set last_used_on = current_date where key_id = %(key_id)s"


def key_used(conn: Conn, key_id: str) -> None:
    """Note the day of use; the caller does so once a day, not once a request."""
    conn.execute(KEY_USED, {"key_id": key_id})


BY_SLUG = "select id, slug, name, state, quiet_s from registry.clinic where slug = %(slug)s"


def by_slug(conn: Conn, slug: str) -> Clinic | None:
    """The clinic of this short name."""
    with conn.cursor(row_factory=class_row(Clinic)) as cursor:
        return cursor.execute(BY_SLUG, {"slug": slug}).fetchone()


LOCK = "select id from registry.clinic where id = %(clinic_id)s for update"


def lock(conn: Conn, clinic_id: UUID) -> None:
    """Let one change of a clinic at a time pass until the transaction ends."""
    conn.execute(LOCK, {"clinic_id": clinic_id})


ADD = """
insert into registry.clinic(slug, name, quiet_s) values (%(slug)s, %(name)s, %(quiet_s)s)
on conflict (slug) do nothing returning id, slug, name, state, quiet_s"""


def add(conn: Conn, slug: str, name: str, quiet_s: float) -> Clinic | None:
    """Add a clinic; None where the short name is taken."""
    with conn.cursor(row_factory=class_row(Clinic)) as cursor:
        return cursor.execute(ADD, {"slug": slug, "name": name, "quiet_s": quiet_s}).fetchone()


PAGE = """
select id, slug, name, state, quiet_s from registry.clinic
where slug > %(after)s order by slug limit %(limit)s"""


def page(conn: Conn, after: str, limit: int) -> Sequence[Clinic]:
    """Clinics in the order of their short names, after the given one."""
    with conn.cursor(row_factory=class_row(Clinic)) as cursor:
        return cursor.execute(PAGE, {"after": after, "limit": limit}).fetchall()


SET_STATE = "update registry.clinic set state = %(state)s where id = %(clinic_id)s"


def set_state(conn: Conn, clinic_id: UUID, state: str) -> None:
    """Set registered, active or suspended."""
    conn.execute(SET_STATE, {"clinic_id": clinic_id, "state": state})


PEER = """
select calling_ae, called_ae, address::text, created_at from registry.clinic_peer
where clinic_id = %(clinic_id)s and called_ae = %(called_ae)s and calling_ae = %(calling_ae)s for update"""


def peer(conn: Conn, clinic_id: UUID, calling_ae: str, called_ae: str) -> Peer | None:
    """One sender of a clinic, locked for a change."""
    values = {"clinic_id": clinic_id, "calling_ae": calling_ae, "called_ae": called_ae}
    with conn.cursor(row_factory=class_row(Peer)) as cursor:
        return cursor.execute(PEER, values).fetchone()


# Only the clinic that has the pair may change its address; another clinic gets no row back.
ADD_PEER = """
insert into registry.clinic_peer as p (clinic_id, calling_ae, called_ae, address)
values (%(clinic_id)s, %(calling_ae)s, %(called_ae)s, %(address)s)
on conflict (called_ae, calling_ae) do update set address = excluded.address where p.clinic_id = excluded.clinic_id
returning calling_ae, called_ae, address::text, created_at"""


def add_peer(conn: Conn, clinic_id: UUID, calling_ae: str, called_ae: str, address: str) -> Peer | None:
    """Add a sender or change its address; None where another clinic has the pair of AE titles."""
    values = {"clinic_id": clinic_id, "calling_ae": calling_ae, "called_ae": called_ae, "address": address}
    with conn.cursor(row_factory=class_row(Peer)) as cursor:
        return cursor.execute(ADD_PEER, values).fetchone()


REMOVE_PEER = """
delete from registry.clinic_peer
where clinic_id = %(clinic_id)s and called_ae = %(called_ae)s and calling_ae = %(calling_ae)s"""


def remove_peer(conn: Conn, clinic_id: UUID, calling_ae: str, called_ae: str) -> None:
    """Remove a sender; what it sent stays."""
    conn.execute(REMOVE_PEER, {"clinic_id": clinic_id, "calling_ae": calling_ae, "called_ae": called_ae})


PEERS = """
select calling_ae, called_ae, address::text, created_at from registry.clinic_peer
where clinic_id = %(clinic_id)s order by called_ae, calling_ae limit %(limit)s"""


def peers(conn: Conn, clinic_id: UUID, limit: int) -> Sequence[Peer]:
    """A clinic's senders."""
    with conn.cursor(row_factory=class_row(Peer)) as cursor:
        return cursor.execute(PEERS, {"clinic_id": clinic_id, "limit": limit}).fetchall()


ADD_KEY = """
insert into registry.clinic_key(clinic_id, key_id, sha256, scopes, expires_at)
values (%(clinic_id)s, %(key_id)s, %(sha256)s, %(scopes)s, now() + make_interval(days => %(days)s))"""


def add_key(
    conn: Conn, clinic_id: UUID, key_id: str, sha256: bytes, scopes: Sequence[str], days: int
) -> None:
    """Store a key's hash."""
    values = {"clinic_id": clinic_id, "key_id": key_id, "sha256": sha256, "scopes": [*scopes], "days": days}
    conn.execute(ADD_KEY, values)


KEYS = """
select key_id, scopes, expires_at, revoked_at, last_used_on::text,
  revoked_at is null and expires_at > now() as valid
from registry.clinic_key where clinic_id = %(clinic_id)s order by created_at desc limit %(limit)s"""


def keys(conn: Conn, clinic_id: UUID, limit: int) -> Sequence[Key]:
    """A clinic's keys, the newest first."""
    with conn.cursor(row_factory=class_row(Key)) as cursor:
        return cursor.execute(KEYS, {"clinic_id": clinic_id, "limit": limit}).fetchall()


VALID_KEYS = """
select count(*) from registry.clinic_key
where clinic_id = %(clinic_id)s and revoked_at is null and expires_at > now()"""


def valid_keys(conn: Conn, clinic_id: UUID) -> int:
    """How many keys of the clinic open a door now."""
    row = conn.execute(VALID_KEYS, {"clinic_id": clinic_id}).fetchone()
    return int(row[0]) if row else 0


REVOKE_KEY = """
update registry.clinic_key set revoked_at = coalesce(revoked_at, now())
where clinic_id = %(clinic_id)s and key_id = %(key_id)s returning 1"""


def revoke_key(conn: Conn, clinic_id: UUID, key_id: str) -> bool:
    """Revoke a key from this transaction on; False where the clinic has no such key."""
    return conn.execute(REVOKE_KEY, {"clinic_id": clinic_id, "key_id": key_id}).fetchone() is not None


@dataclass(frozen=True, slots=True)
class Readiness:
    """How far a clinic has come: counts of what it needs, and the first key to expire."""

    peers: int
    keys: int
    key_expires_at: datetime | None
    bindings: int
    destinations: int
    studies: int
    done: int
    held: bool


READINESS = """
select
  (select count(*) from registry.clinic_peer where clinic_id = %(clinic_id)s) as peers,
  (select count(*) from registry.clinic_key
    where clinic_id = %(clinic_id)s and revoked_at is null and expires_at > now()) as keys,
  (select max(expires_at) from registry.clinic_key
    where clinic_id = %(clinic_id)s and revoked_at is null and expires_at > now()) as key_expires_at,
  (select count(*) from registry.binding where clinic_id = %(clinic_id)s and upper_inf(valid)) as bindings,
  (select count(*) from serving.destination where clinic_id = %(clinic_id)s and active) as destinations,
  (select count(*) from serving.study where clinic_id = %(clinic_id)s and state <> 'past') as studies,
  (select count(*) from serving.study where clinic_id = %(clinic_id)s and state = 'done') as done,
  exists (select from registry.hold
    where kind = 'clinic' and clinic_id = %(clinic_id)s and released_at is null) as held"""


def readiness(conn: Conn, clinic_id: UUID) -> Readiness:
    """What stands between a clinic and its first answered study."""
    with conn.cursor(row_factory=class_row(Readiness)) as cursor:
        row = cursor.execute(READINESS, {"clinic_id": clinic_id}).fetchone()
    assert row is not None
    return row
