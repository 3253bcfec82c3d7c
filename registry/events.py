"""The hash-chained record of decisions: append an event, recompute a chain, list what was decided.

Chains: ``clinic:<id>`` for everything about one clinic, ``models`` for versions, ``fleet`` for accounts. A chain
shows an edit inside it; only a head kept elsewhere shows that a whole chain was replaced, so ``audit verify``
prints the heads for keeping.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC
from uuid import UUID

from registry import events_store
from registry.canonical import canonical_json
from registry.core.db import Conn
from registry.events_store import Event

FLEET = "fleet"
MODELS = "models"
# The unit separator cannot occur in a chain, actor or type, so no two field lists join to the same text.
_SEPARATOR = "\x1f"


@dataclass(frozen=True, slots=True)
class ChainState:
    """What recomputing one chain found. ``head`` is the hex hash of the last event; ``fault`` is empty when whole."""

    chain: str
    events: int
    whole: bool
    fault: str
    head: str


def of_clinic(clinic_id: UUID) -> str:
    """The name of a clinic's chain."""
    return f"clinic:{clinic_id}"


def append(conn: Conn, chain: str, actor: str, kind: str, body: Mapping[str, object]) -> int:
    """Add one event in the caller's (system) transaction and return its sequence number.

    The body is stored as RFC 8785 text, so that a checker in another language hashes the same bytes.
    """
    return events_store.append(conn, chain, actor, kind, canonical_json(body).decode())


def verify(conn: Conn, chain: str | None = None) -> Sequence[ChainState]:
    """Recompute every hash of one chain or of all chains, on this machine and not in the database."""
    return [_recompute(conn, name, seq, head) for name, seq, head in events_store.heads(conn, chain)]


def list(
    conn: Conn, chain: str | None = None, *, limit: int = 50, before: int | None = None
) -> Sequence[Event]:
    """The latest events first; ``before`` is a sequence number for paging inside one chain."""
    return events_store.latest(conn, chain, limit, before)


def _recompute(conn: Conn, chain: str, head_seq: int, head: bytes) -> ChainState:
    seq, last = 0, hashlib.sha256(f"radfleet:{chain}".encode()).digest()
    for event in _all(conn, chain):
        seq += 1
        fault = ""
        if event.seq != seq:
            fault = f"event {seq} is missing"
        elif event.prev_hash != last:
            fault = f"event {seq} does not follow event {seq - 1}"
        elif event.hash != hash_of(event):
            fault = f"event {seq} was changed"
        if fault:
            return ChainState(chain, head_seq, False, fault, head.hex())
        last = event.hash
    if (seq, last) != (head_seq, head):
        return ChainState(
            chain, head_seq, False, f"the head names event {head_seq}, the last one is {seq}", head.hex()
        )
    return ChainState(chain, seq, True, "", head.hex())


def _all(conn: Conn, chain: str) -> Iterator[Event]:
    after = 0
    while page := events_store.page(conn, chain, after):
        yield from page
        after = page[-1].seq


def hash_of(event: Event) -> bytes:
    """The hash that this event must have, as the database computed it when it was appended."""
    at = event.at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")
    text = _SEPARATOR.join((event.chain, str(event.seq), at, event.actor, event.type, event.body))
    return hashlib.sha256(event.prev_hash + text.encode()).digest()
