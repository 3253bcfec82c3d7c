"""Flags: raised once, said again, acknowledged, muted or resolved by a person with a reason, and their chained record.

No flag ends by itself: studies that look normal again, or no studies at all, clear nothing. A person resolves it, or a
promotion binds another version where it arose.
"""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from monitoring import flags_store, notices_store, sentences
from monitoring.errors import FlagResolved, FlagUnknown, MuteUnfit, ReasonLacking
from monitoring.flags_store import Raised
from monitoring.streams import epochs, streams_store
from registry.canonical import canonical_json
from registry.core.db import Conn
from registry.events import hash_of
from registry.events_store import Event

WATCHER = "radfleet"
MUTE_HOURS_MAX = 24 * 30
WOULD_CHANGE = "a person who resolves it with a reason, or a promotion that binds another version"


def raise_or_update(
    conn: Conn, clinic_id: UUID, stream_id: UUID, its: Raised, *, notify: Sequence[str]
) -> int | None:
    """Raise a flag; one that is open already only takes the newer sentence. Returns its number where something changed.

    Needs monitoring's writing transaction: flag, event and notice are one with the state that caused them.
    """
    body = {"kind": its.kind, "sentence": its.sentence, "since_seq": its.since_seq, "seq": its.seq}
    if number := flags_store.raise_one(conn, clinic_id, stream_id, its):
        _record(conn, clinic_id, number, WATCHER, "raised", body, notify=notify)
        return number
    if number := flags_store.reword(conn, clinic_id, stream_id, its):
        _record(conn, clinic_id, number, WATCHER, "changed", body, notify=notify)
    return number


def show(conn: Conn, number: int) -> dict[str, Any]:
    """One flag as a page needs it. Raises FlagUnknown."""
    found = flags_store.flag(conn, number)
    if found is None:
        raise FlagUnknown(f"there is no flag {number}")
    return found


def acknowledge(conn: Conn, number: int, *, by: str, reason: str, notify: Sequence[str]) -> dict[str, Any]:
    """Somebody looks after it; it stays open. Raises FlagUnknown, FlagResolved, ReasonLacking."""
    its = _open(conn, number, reason)
    flags_store.acknowledge(conn, its["clinic_id"], number, by=by, reason=reason)
    _record(conn, its["clinic_id"], number, by, "acknowledged", {"reason": reason}, notify=notify)
    return show(conn, number)


def mute(conn: Conn, number: int, hours: int, *, by: str, reason: str) -> dict[str, Any]:
    """Tell nobody about it for 1 to 720 hours; it stays open.

    Raises FlagUnknown, FlagResolved, MuteUnfit, ReasonLacking.
    """
    its = _open(conn, number, reason)
    if not 1 <= hours <= MUTE_HOURS_MAX:
        raise MuteUnfit(f"a flag is not muted for {hours} hours")
    flags_store.mute(conn, its["clinic_id"], number, hours, by=by, reason=reason)
    _record(conn, its["clinic_id"], number, by, "muted", {"hours": hours, "reason": reason}, notify=())
    return show(conn, number)


def resolve(
    conn: Conn, number: int, *, by: str, reason: str, notify: Sequence[str], new_reference: bool = False
) -> dict[str, Any]:
    """A person ends it, and its stream is watched again from nothing: drift and harm must be shown anew.

    Against the old reference, or with ``new_reference`` against the next 50 studies. A flag of an acquisition or of the
    volume alone leaves the sums as they are. Raises FlagUnknown, FlagResolved, ReasonLacking.
    """
    streams_store.lock(conn, show(conn, number)["clinic_id"])  # before the flag, as the follower does
    its = _open(conn, number, reason)
    _resolve(conn, its, by, reason, None, notify=notify)
    if its["kind"] not in ("acquisition", "volume") or new_reference:
        why = f"flag {number}: {reason}"
        epochs.begin(conn, its["clinic_id"], its["stream_id"], fresh=new_reference, by=by, reason=why)
    return show(conn, number)


def resolve_superseded(conn: Conn, row: Mapping[str, Any], *, notify: Sequence[str]) -> None:
    """Resolve an open flag where another version is bound since (a row of ``flags_store.superseded``)."""
    if flags_store.lock(conn, row["clinic_id"], row["flag_id"]) == "resolved":
        return
    kind = {"promote": "promotion", "rollback": "rollback"}.get(row["promotion_kind"] or "", "binding")
    reason = sentences.resolved_by(kind, row["promotion_id"], row["model"], row["reason"])
    its = show(conn, row["flag_id"])
    _resolve(conn, its, row["by_whom"], reason, row["promotion_id"], notify=notify)


def record_is_whole(events: Sequence[Event]) -> bool:
    """Recompute a flag's record on this machine: an edit, a gap or a swap inside it shows."""
    last = b""
    for n, event in enumerate(events, 1):
        last = last or hashlib.sha256(f"radfleet:flag:{event.chain}".encode()).digest()
        if (event.seq, event.prev_hash) != (n, last) or event.hash != hash_of(event):
            return False
        last = event.hash
    return True


def _resolve(
    conn: Conn,
    its: Mapping[str, Any],
    by: str,
    reason: str,
    promotion_id: int | None,
    *,
    notify: Sequence[str],
) -> None:
    flags_store.resolve(conn, its["clinic_id"], its["id"], by=by, reason=reason, promotion_id=promotion_id)
    body: dict[str, object] = {"reason": reason} | ({"promotion": promotion_id} if promotion_id else {})
    _record(conn, its["clinic_id"], its["id"], by, "resolved", body, notify=notify)


def _open(conn: Conn, number: int, reason: str) -> dict[str, Any]:
    if not reason.strip():
        raise ReasonLacking
    its = show(conn, number)
    if flags_store.lock(conn, its["clinic_id"], number) == "resolved":
        raise FlagResolved(f"flag {number} was resolved already")
    return its


def _record(
    conn: Conn,
    clinic_id: UUID,
    number: int,
    by: str,
    kind: str,
    body: dict[str, object],
    *,
    notify: Sequence[str],
) -> None:
    seq = flags_store.append(conn, clinic_id, number, by, kind, canonical_json(body).decode())
    for channel in notify:
        notices_store.add(conn, clinic_id, number, seq, channel)
