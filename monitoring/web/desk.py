"""Who asks, what may be seen and changed: the one place where a request becomes a session and a transaction."""

import hashlib
import hmac
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from typing import Any
from urllib.parse import parse_qsl

from fastapi import Request
from multipart import MultipartError, MultipartParser, parse_options_header
from starlette.concurrency import run_in_threadpool

from monitoring.web.errors import FormInvalid, FormStale, PageUnknown, ReadOnly
from registry import accounts
from registry.accounts import Act
from registry.core.db import Conn, Database
from registry.core.settings import LIMITS, Settings
from registry.sign_in import sessions
from registry.sign_in.sessions_store import Session

# Where to go after a form, and what it did: before, after, undo, note.
Told = tuple[str, Mapping[str, Any]]
COOKIE, DOOR_COOKIE = "radfleet_session", "radfleet_door"
FORM_BYTES_MAX = 16_384


@dataclass(frozen=True, slots=True)
class Desk:
    """The database and settings that every page works with."""

    settings: Settings
    db: Database


@dataclass(frozen=True, slots=True)
class Visit:
    """One request of somebody who is signed in: ``args`` of the address, ``query`` after it."""

    desk: Desk
    who: Session
    args: Mapping[str, str]
    query: Mapping[str, str]

    @contextmanager
    def reading(self) -> Iterator[Conn]:
        """A transaction that sees what this session may see: row-level security decides, no page does."""
        db = self.desk.db
        with db.tenant(self.who.clinic_id) if self.who.clinic_id else db.monitor() as conn:
            yield conn

    def fleet_only(self) -> None:
        """Raises PageUnknown for a session that sees one clinic."""
        if self.who.clinic_id:
            raise PageUnknown

    @contextmanager
    def deciding(self) -> Iterator[Conn]:
        """A system transaction, for what the fleet's people decide. Raises PageUnknown for a clinic's session."""
        self.fleet_only()
        with self.desk.db.system() as conn:
            yield conn

    def actor(self, conn: Conn, act: Act) -> str:
        """The account that makes a change, when its role allows it. Raises ReadOnly, RoleUnfit, ActorUnknown."""
        if self.who.clinic_id:
            raise ReadOnly
        return accounts.actor(conn, act, self.who.account)

    def may(self, act: Act) -> bool:
        """Whether a form for this change is worth showing; the change itself asks again."""
        role = accounts.Role(self.who.role)
        return not self.who.clinic_id and (role is accounts.Role.ADMIN or role in accounts.ALLOWED[act])

    def number(self, name: str) -> int:
        """A number out of the address. Raises PageUnknown."""
        text = self.args[name]
        if not text.isdecimal() or len(text) > 12:
            raise PageUnknown
        return int(text)


def session(desk: Desk, request: Request) -> Session:
    """Who is signed in. Raises SessionOver."""
    with desk.db.system() as conn:
        return sessions.find(conn, request.cookies.get(COOKIE, ""))


def mark(token: str) -> str:
    """What a form must send back: made from the session's token, which no other site can read."""
    return hmac.new(token.encode(), b"radfleet form", hashlib.sha256).hexdigest()


async def form(request: Request, token: str) -> dict[str, str]:
    """The fields of a form. Raises FormInvalid, FormStale."""
    if _kind(request) != "application/x-www-form-urlencoded":
        raise FormInvalid("this is no form")
    body = await _body(request, FORM_BYTES_MAX)
    try:
        fields = dict(parse_qsl(body.decode("ascii"), keep_blank_values=True, max_num_fields=40))
    except (ValueError, UnicodeDecodeError):
        raise FormInvalid("the form is damaged") from None
    return _checked(fields, token)


async def form_alone(request: Request, token: str) -> tuple[dict[str, str]]:
    """The fields of a form without a file. Raises FormInvalid, FormStale."""
    return (await form(request, token),)


async def form_with_file(request: Request, token: str) -> tuple[dict[str, str], bytes]:
    """The fields of a form and its one file, empty where none was chosen. Raises FormInvalid, FormStale."""
    if _kind(request) != "multipart/form-data":
        raise FormInvalid("this is no form with a file")
    boundary = parse_options_header(request.headers["content-type"])[1].get("boundary", "")
    body = await _body(request, LIMITS.mask_bytes_max + FORM_BYTES_MAX)
    limit = len(body) + 1
    try:
        parser = MultipartParser(
            BytesIO(body),
            boundary,
            len(body),
            strict=True,
            part_limit=40,
            spool_limit=limit,
            memory_limit=limit,
        )
        parts = await run_in_threadpool(parser.parts)
        if sum(part.size for part in parts if not part.filename) > FORM_BYTES_MAX:
            raise FormInvalid("the form is too long")
        fields = {part.name: part.value for part in parts if not part.filename}
    except (MultipartError, UnicodeDecodeError):
        raise FormInvalid("the form is damaged") from None
    return _checked(fields, token), b"".join(part.raw for part in parts if part.filename)


def _kind(request: Request) -> str:
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


async def _body(request: Request, most: int) -> bytes:
    body = bytearray()
    async for piece in request.stream():
        body += piece
        if len(body) > most:
            raise FormInvalid("the form is too long")
    return bytes(body)


def _checked(fields: dict[str, str], token: str) -> dict[str, str]:
    fields = {name: value.strip() for name, value in fields.items()}
    if any("\0" in value or "\ufffd" in value for value in fields.values()):
        raise FormInvalid("the form holds bytes that are no text")
    if not token or not hmac.compare_digest(fields.get("mark", "").encode(), mark(token).encode()):
        raise FormStale
    return fields


def cookie(name: str, value: str, request: Request, seconds: int) -> dict[str, Any]:
    """How a cookie is set: not for scripts, not sent by forms of other sites, and over TLS only where there is TLS."""
    return {
        "key": name, "value": value, "max_age": seconds, "httponly": True, "samesite": "lax", "path": "/",
        "secure": "https" in (request.url.scheme, request.headers.get("x-forwarded-proto", "")),
    }  # fmt: skip


def fresh_token() -> str:
    """256 random bits for a browser that is not signed in yet."""
    return secrets.token_urlsafe(32)


def local(address: str) -> str:
    """Where to go after sign-in: a path of these pages, never another site."""
    ok = address.startswith("/") and not address.startswith(("//", "/\\", "/sign-"))
    return address if ok and address.isascii() and address.isprintable() else "/"


def first(who: Session, address: str) -> str:
    """Where somebody who has just signed in goes: what was asked for, else the QA team to its work list."""
    where = local(address)
    return "/work" if where == "/" and who.role == accounts.Role.QA else where
