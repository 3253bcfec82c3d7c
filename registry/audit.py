"""Whether the record is whole: every chain recomputed, and every promotion and piece of evidence as its event says."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from registry import audit_store, events
from registry.core.db import Conn
from registry.events import ChainState
from registry.promotions import evidence, evidence_store, moves, moves_store


def verify(conn: Conn, chain: str | None = None) -> Sequence[ChainState]:
    """The state of one chain or of all. A row that is not as its last event says breaks its chain too."""
    faults: dict[str, str] = {}
    for name, fault in _altered(conn):
        faults.setdefault(name, fault)
    return [
        replace(state, whole=False, fault=faults[state.chain])
        if state.whole and state.chain in faults
        else state
        for state in events.verify(conn, chain)
    ]


def _altered(conn: Conn) -> Iterator[tuple[str, str]]:
    """Chain and fault of every row that was altered, removed, or put there without an event."""
    for kind, rows in (("promotion", _promotions(conn)), ("evidence", _evidence(conn))):
        told = audit_store.proofs(conn, kind)
        for id, chain, proof in rows:
            if told.pop(id, ("", ""))[1] != proof:
                yield chain, f"{kind} {id} is not as its event says"
        for id, (chain, _) in told.items():
            yield chain, f"{kind} {id} is gone"


def _promotions(conn: Conn) -> Iterator[tuple[int, str, str]]:
    last = 0
    while page := moves_store.after(conn, last):
        for row in page:
            yield row.id, events.of_clinic(row.clinic_id), moves.proof(row)
        last = page[-1].id


def _evidence(conn: Conn) -> Iterator[tuple[int, str, str]]:
    last = 0
    while page := evidence_store.after(conn, last):
        for row in page:
            yield (
                row.id,
                events.of_clinic(row.clinic_id) if row.clinic_id else events.MODELS,
                evidence.proof(row),
            )
        last = page[-1].id
