"""Clinics and how they prove who they are: AE titles with an address on the wire, API keys over HTTP."""

import hashlib
import hmac
import ipaddress
import re
import secrets
import string
from collections.abc import Collection, Mapping, Sequence
from enum import StrEnum
from uuid import UUID

from registry import clinics_store, events
from registry.clinics_store import Clinic, Key, Peer
from registry.core.db import Conn
from registry.core.settings import LIMITS
from registry.errors import (
    AddressInvalid,
    AeTitleInvalid,
    ClinicExists,
    ClinicSuspended,
    ClinicUnknown,
    ExpiryInvalid,
    KeyExpired,
    KeyRevoked,
    KeyScope,
    KeysFull,
    KeyUnknown,
    KeyWrong,
    PeerTaken,
    PeerUnknown,
    QuietInvalid,
    ScopeInvalid,
    SlugInvalid,
    UnknownAeTitle,
)

BASE62 = string.digits + string.ascii_uppercase + string.ascii_lowercase
KEYS_VALID_MAX = 2
KEY_DAYS = 365
KEY_DAYS_MAX = 1095
_SLUG = re.compile(r"[a-z0-9][a-z0-9-]{1,30}")
_AE_TITLE = re.compile(r"[ -\[\]-~]{1,16}")
_TOKEN = re.compile(r"rf_([0-9A-Za-z]{8})_([0-9A-Za-z]{43})")
# Compared against when the key id is unknown, so that a wrong id costs what a wrong secret costs.
_NO_HASH = bytes(32)


class Scope(StrEnum):
    """What a key may do."""

    SUBMIT = "submit"
    READ = "read"


def by_ae(conn: Conn, called_ae: str, calling_ae: str, address: str) -> Clinic:
    """The clinic that sends under these AE titles from this IP address. Needs a system transaction.

    Raises UnknownAeTitle, with one text for every cause: a stranger must not learn which name exists.
    """
    called, calling = called_ae.strip(), calling_ae.strip()
    try:
        ip = ipaddress.ip_address(address)
    except ValueError as error:
        raise UnknownAeTitle from error
    # An IPv6 socket reports IPv4 senders as ::ffff:a.b.c.d, which no IPv4 range contains.
    mapped = ip.ipv4_mapped if isinstance(ip, ipaddress.IPv6Address) else None
    if not (_AE_TITLE.fullmatch(called) and _AE_TITLE.fullmatch(calling)):
        raise UnknownAeTitle
    clinic = clinics_store.by_ae(conn, called, calling, str(mapped or ip))
    if clinic is None:
        raise UnknownAeTitle
    return clinic


def by_key(conn: Conn, token: str, scope: str) -> Clinic:
    """The clinic of an API key that has this scope. Needs a system transaction.

    Raises KeyWrong, KeyRevoked, KeyExpired, KeyScope, ClinicSuspended. Only a holder of the whole secret
    is told more than KeyWrong.
    """
    parts = _TOKEN.fullmatch(token)
    if parts is None:
        raise KeyWrong
    found = clinics_store.key_match(conn, parts[1])
    same = hmac.compare_digest(_sha256(token), found.sha256 if found else _NO_HASH)
    if found is None or not same:
        raise KeyWrong
    if found.revoked:
        raise KeyRevoked
    if found.expired:
        raise KeyExpired
    if found.state == "suspended":
        raise ClinicSuspended
    if scope not in found.scopes:
        raise KeyScope(f"this API key has no scope {scope}")
    if found.unused_today:
        clinics_store.key_used(conn, parts[1])
    return Clinic(found.id, found.slug, found.name, found.state, found.quiet_s)


def by_slug(conn: Conn, slug: str) -> Clinic:
    """The clinic of this short name. Raises ClinicUnknown."""
    clinic = clinics_store.by_slug(conn, slug) if _SLUG.fullmatch(slug) else None
    if clinic is None:
        raise ClinicUnknown("there is no clinic of this name")
    return clinic


def add(conn: Conn, slug: str, name: str, *, by: str, quiet_s: float = 30.0) -> Clinic:
    """Register a clinic. Raises SlugInvalid, QuietInvalid, ClinicExists."""
    if not _SLUG.fullmatch(slug):
        raise SlugInvalid
    if not 0.2 <= quiet_s <= 3600:
        raise QuietInvalid
    clinic = clinics_store.add(conn, slug, name, quiet_s)
    if clinic is None:
        raise ClinicExists(f"there is a clinic {slug} already")
    _note(conn, clinic.id, by, "clinic.added", {"slug": slug, "name": name, "quiet_s": quiet_s})
    return clinic


def list(conn: Conn, *, limit: int = LIMITS.page_rows, after: str = "") -> Sequence[Clinic]:
    """Clinics in the order of their short names; ``after`` is the last one of the page before."""
    return clinics_store.page(conn, after, limit)


def suspend(conn: Conn, clinic: Clinic, *, by: str, reason: str) -> None:
    """Refuse everything this clinic sends from now on, and pass over its jobs."""
    clinics_store.set_state(conn, clinic.id, "suspended")
    _note(conn, clinic.id, by, "clinic.suspended", {"before": clinic.state, "reason": reason})


def activate(conn: Conn, clinic: Clinic, *, by: str) -> None:
    """Let this clinic send (again)."""
    clinics_store.set_state(conn, clinic.id, "active")
    _note(conn, clinic.id, by, "clinic.activated", {"before": clinic.state})


def add_peer(
    conn: Conn, clinic: Clinic, *, calling_ae: str, called_ae: str, address: str, by: str
) -> tuple[Peer | None, Peer]:
    """Register a sender (its AE title, the one it calls, its address or CIDR range), or change its address.

    Returns it before and after. Raises AeTitleInvalid, AddressInvalid, PeerTaken.
    """
    calling, called = calling_ae.strip(), called_ae.strip()
    for title in (calling, called):
        if not _AE_TITLE.fullmatch(title):
            raise AeTitleInvalid
    try:
        network = str(ipaddress.ip_network(address))
    except ValueError as error:
        raise AddressInvalid from error
    before = clinics_store.peer(conn, clinic.id, calling, called)
    after = clinics_store.add_peer(conn, clinic.id, calling, called, network)
    if after is None:
        raise PeerTaken(f"{calling} calling {called} is a sender already")
    body = {
        "calling_ae": calling,
        "called_ae": called,
        "address": network,
        "before": before and before.address,
    }
    _note(conn, clinic.id, by, "peer.set", body)
    return before, after


def remove_peer(conn: Conn, clinic: Clinic, *, calling_ae: str, called_ae: str, by: str) -> Peer:
    """Refuse a sender from now on. Returns what it was. Raises PeerUnknown."""
    peer = clinics_store.peer(conn, clinic.id, calling_ae.strip(), called_ae.strip())
    if peer is None:
        raise PeerUnknown
    clinics_store.remove_peer(conn, clinic.id, peer.calling_ae, peer.called_ae)
    body = {"calling_ae": peer.calling_ae, "called_ae": peer.called_ae, "address": peer.address}
    _note(conn, clinic.id, by, "peer.removed", body)
    return peer


def peers(conn: Conn, clinic: Clinic, *, limit: int = LIMITS.page_rows) -> Sequence[Peer]:
    """A clinic's senders."""
    return clinics_store.peers(conn, clinic.id, limit)


def add_key(
    conn: Conn, clinic: Clinic, *, by: str, scopes: Collection[str] = tuple(Scope), days: int = KEY_DAYS
) -> str:
    """Create an API key and return it: the only moment at which it can be read, for its hash alone is stored.

    A random 256-bit secret needs no slow hash. Raises ScopeInvalid, ExpiryInvalid, KeysFull.
    """
    if not scopes or any(scope not in tuple(Scope) for scope in scopes):
        raise ScopeInvalid("a key needs a scope: submit, read or both")
    if not 1 <= days <= KEY_DAYS_MAX:
        raise ExpiryInvalid
    clinics_store.lock(conn, clinic.id)
    if clinics_store.valid_keys(conn, clinic.id) >= KEYS_VALID_MAX:
        raise KeysFull
    key_id = "".join(secrets.choice(BASE62) for _ in range(8))
    token = f"rf_{key_id}_{_base62(secrets.token_bytes(32))}"
    wanted = sorted({str(scope) for scope in scopes})
    clinics_store.add_key(conn, clinic.id, key_id, _sha256(token), wanted, days)
    _note(conn, clinic.id, by, "key.added", {"key": key_id, "scopes": wanted, "days": days})
    return token


def keys(conn: Conn, clinic: Clinic, *, limit: int = LIMITS.page_rows) -> Sequence[Key]:
    """A clinic's keys without their secrets, the newest first."""
    return clinics_store.keys(conn, clinic.id, limit)


def revoke_key(conn: Conn, clinic: Clinic, key_id: str, *, by: str) -> None:
    """Refuse this key from now on. Raises KeyUnknown."""
    if not clinics_store.revoke_key(conn, clinic.id, key_id):
        raise KeyUnknown
    _note(conn, clinic.id, by, "key.revoked", {"key": key_id})


def _note(conn: Conn, clinic_id: UUID, by: str, kind: str, body: Mapping[str, object]) -> None:
    events.append(conn, events.of_clinic(clinic_id), by, kind, body)


def _sha256(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()


def _base62(data: bytes) -> str:
    """32 bytes as 43 characters, with leading zeros kept so that every key has one length."""
    number, digits = int.from_bytes(data), ""
    for _ in range(43):
        number, digit = divmod(number, 62)
        digits = BASE62[digit] + digits
    return digits
