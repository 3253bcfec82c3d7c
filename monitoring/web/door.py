"""What the pages ask of the HTTP door, which holds the store: pictures, masks, and a place for readings."""

import http.client
import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from monitoring.web.errors import DoorAway
from registry import explain, secrets
from registry.core.errors import RadfleetError
from registry.core.settings import Settings
from registry.errors import CodeUnknown


def ask(
    settings: Settings, address: str, *, body: bytes | None = None, said: Mapping[str, Any] | None = None,
    seconds: float = 10, most: int = 8 << 20,
) -> bytes:  # fmt: skip
    """The bytes of an answer with 200 that has ``most`` bytes at most.

    ``said`` goes as JSON in a header beside ``body``, which is sent by POST.
    Raises DoorAway, and what the door refused by its own name.
    """
    local = "127.0.0.1" if settings.bind in ("0.0.0.0", "::") else settings.bind  # noqa: S104 - compared, not bound
    where = urlsplit(settings.door_url or f"http://{local}:{settings.http_port}")
    door = http.client.HTTPConnection(where.hostname or local, where.port or 80, timeout=seconds)
    headers = {"Authorization": f"Bearer {secrets.ensure(settings, 'door-token')}"}
    if said is not None:
        headers["Radfleet-Review"] = json.dumps(said)
    try:
        door.request("GET" if body is None else "POST", address, body, headers)
        answer = door.getresponse()
        data = answer.read(most + 1)
    except (OSError, http.client.HTTPException) as error:
        raise DoorAway from error
    finally:
        door.close()
    if answer.status == http.client.OK and len(data) <= most:
        return data
    raise _refusal(answer.status, data)


def _refusal(status: int, data: bytes) -> RadfleetError:
    """The door's problem document (RFC 9457) as the error that it names."""
    try:
        its = json.loads(data)
        return explain.find(its["code"])(its["title"], its["detail"], its["cure"])
    except (ValueError, KeyError, TypeError, CodeUnknown):
        return DoorAway(why=f"The HTTP door answered with {status}.")
