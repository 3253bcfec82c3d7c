"""Tells an outside address about changes of flags: at most once each, and a failure loses nothing in Radfleet.

A refused connection or an answer of 429 or 503 surely delivered nothing, so it is tried again. After a time-out or a
broken connection nobody knows, so it is called unsure and never sent again.
"""

import httpx

from monitoring import notices_store
from registry.core.db import Database

TIMEOUT_S = 5.0
_AGAIN = (429, 503)


def send_one(db: Database, url: str) -> bool:
    """Send the next notice that is due as JSON; False where none is."""
    with db.monitor(write=True) as conn:
        notice = notices_store.claim(conn)
        body = notices_store.text(conn, notice) if notice else None
    if notice is None or body is None:
        return False
    state, code = _post(url, body | {"at": body["at"].isoformat()})
    if state == "ready" and notice["tries"] >= notices_store.TRIES_MAX:
        state = "given_up"
    with db.monitor(write=True) as conn:
        notices_store.end(conn, notice, state, code, wait_s=min(2.0 ** notice["tries"], 300))
    return True


def _post(url: str, body: dict[str, object]) -> tuple[str, str]:
    try:
        answer = httpx.post(url, json=body, timeout=TIMEOUT_S)
    except (httpx.ConnectError, httpx.ConnectTimeout, httpx.UnsupportedProtocol, httpx.InvalidURL) as error:
        return "ready", type(error).__name__
    except httpx.HTTPError as error:
        return "unsure", type(error).__name__
    if answer.status_code in _AGAIN:
        return "ready", str(answer.status_code)
    return ("sent" if answer.is_success else "given_up"), str(answer.status_code)
