"""Tells the outside about changes of flags, by webhook and e-mail: at most once each, and a failure loses nothing.

A refused connection or an answer of 429 or 503 surely delivered nothing, so it is tried again. After a time-out or a
broken connection nobody knows, so it is called unsure and never sent again.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import httpx

from monitoring import mail, notices_store
from registry.core.db import Database
from registry.core.settings import Settings

TIMEOUT_S = 5.0
_AGAIN = (429, 503)
Body = Mapping[str, Any]
# Sends one change; the state that the notice then has (ready: surely not delivered) and a word why.
Send = Callable[[Body], tuple[str, str]]


def channels(settings: Settings) -> dict[str, Send]:
    """What sends, by channel; only what is set."""
    found: dict[str, Send] = {
        "webhook": partial(post, settings.webhook_url),
        "email": partial(mail.send, settings),
    }
    return {name: found[name] for name in settings.channels()}


def send_one(db: Database, by: Mapping[str, Send]) -> bool:
    """Send the next notice that is due by its channel; False where none is."""
    with db.monitor(write=True) as conn:
        notice = notices_store.claim(conn, [*by])
        body = notices_store.text(conn, notice) if notice else None
    if notice is None or body is None:
        return False
    state, code = by[notice["channel"]](body | {"at": body["at"].isoformat()})
    if state == "ready" and notice["tries"] >= notices_store.TRIES_MAX:
        state = "given_up"
    with db.monitor(write=True) as conn:
        notices_store.end(conn, notice, state, code, wait_s=min(2.0 ** notice["tries"], 300))
    return True


def post(url: str, body: Body) -> tuple[str, str]:
    """Post a change as JSON."""
    try:
        answer = httpx.post(url, json=body, timeout=TIMEOUT_S)
    except (httpx.ConnectError, httpx.ConnectTimeout, httpx.UnsupportedProtocol, httpx.InvalidURL) as error:
        return "ready", type(error).__name__
    except httpx.HTTPError as error:
        return "unsure", type(error).__name__
    if answer.status_code in _AGAIN:
        return "ready", str(answer.status_code)
    return ("sent" if answer.is_success else "given_up"), str(answer.status_code)
