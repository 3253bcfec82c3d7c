"""Sign-in to the pages: an account's key, shown once, opens a session that ends by itself.

Keys and session tokens are 256 random bits each and stored as plain sha256, as a clinic's keys are. All functions
need a system transaction.
"""

import hashlib
import hmac
import re
import secrets
from collections.abc import Sequence
from typing import Any

from registry import accounts_store, events
from registry.clinics_store import Clinic
from registry.core.db import Conn
from registry.core.settings import LIMITS
from registry.errors import AccountUnknown, ExpiryInvalid
from registry.sign_in import sessions_store
from registry.sign_in.errors import AccountKeyUnknown, SessionOver, SignInWrong
from registry.sign_in.sessions_store import AccountKey, Session

KEY_DAYS, KEY_DAYS_MAX = 90, 1095
SESSION_HOURS, IDLE_HOURS = 12, 2
_KEY = re.compile(r"rfa_([0-9a-f]{8})_([0-9A-Za-z_-]{43})")
# Compared against when the key id is unknown, so that a wrong id costs what a wrong secret costs.
_NO_HASH = bytes(32)


def add_key(conn: Conn, name: str, *, by: str, clinic: Clinic | None = None, days: int = KEY_DAYS) -> str:
    """Make a key for an account and return it: it cannot be read again. With a clinic it opens that clinic alone.

    Raises AccountUnknown, ExpiryInvalid.
    """
    if accounts_store.by_name(conn, name) is None:
        raise AccountUnknown
    if not 1 <= days <= KEY_DAYS_MAX:
        raise ExpiryInvalid
    key_id = secrets.token_hex(4)
    key = f"rfa_{key_id}_{secrets.token_urlsafe(32)}"
    sessions_store.add_key(conn, name, clinic.id if clinic else None, key_id, _sha256(key), days)
    body = {"name": name, "key": key_id, "days": days, "clinic": clinic.slug if clinic else None}
    events.append(conn, events.FLEET, by, "account.key_added", body)
    return key


def keys(conn: Conn, name: str, *, limit: int = LIMITS.page_rows) -> Sequence[AccountKey]:
    """An account's keys without their secrets, the newest first. Raises AccountUnknown."""
    if accounts_store.by_name(conn, name) is None:
        raise AccountUnknown
    return sessions_store.keys(conn, name, limit)


def revoke_key(conn: Conn, name: str, key_id: str, *, by: str) -> None:
    """Refuse a key from now on; its sessions end with it. Raises AccountKeyUnknown."""
    if not sessions_store.revoke(conn, name, key_id):
        raise AccountKeyUnknown
    events.append(conn, events.FLEET, by, "account.key_revoked", {"name": name, "key": key_id})


def begin(conn: Conn, name: str, key: str) -> str:
    """Open a session and return its token. Raises SignInWrong, whatever was wrong."""
    parts = _KEY.fullmatch(key.strip())
    found = sessions_store.match(conn, parts[1]) if parts else None
    same = hmac.compare_digest(_sha256(key.strip()), found.sha256 if found else _NO_HASH)
    if found is None or not (same and found.good and found.account == name.strip()):
        raise SignInWrong
    token = secrets.token_urlsafe(32)
    sessions_store.open_session(conn, found.id, _sha256(token), SESSION_HOURS)
    return token


def find(conn: Conn, token: str) -> Session:
    """Who holds this token; it counts as a sign of life. Raises SessionOver."""
    session = sessions_store.session(conn, _sha256(token), IDLE_HOURS) if token else None
    if session is None:
        raise SessionOver
    return session


def say(conn: Conn, token: str, said: dict[str, Any]) -> None:
    """Keep what a form did, to be told once by the next ``find``."""
    sessions_store.say(conn, _sha256(token), said)


def end(conn: Conn, token: str) -> None:
    """Close a session; an unknown one is no error."""
    sessions_store.close(conn, _sha256(token))


def _sha256(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()
