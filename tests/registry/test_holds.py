"""A hold stops results of a clinic, a scanner or a version, and says so once."""

from uuid import uuid4

import psycopg
import pytest

from registry import events, holds_store, scanners_store
from registry.errors import HoldOpen, HoldUnknown, ReasonMissing
from registry.holds_store import Kind
from tests.kit.db import FreshDb
from tests.kit.registry_rows import add_clinic, add_version

WHY = {"by": "anna", "reason": "artefacts"}


def test_each_kind_holds_what_it_names_and_nothing_else(fresh_db: FreshDb) -> None:
    with fresh_db.database.system() as conn:
        one, two = add_clinic(conn, "one"), add_clinic(conn, "two")
        digest = add_version(conn).digest
    with fresh_db.database.tenant(one.id) as conn:
        scanner = scanners_store.upsert(conn, one.id, "GE", "MR750", "1", "DV26", 3.0)

    def seen(clinic_id: object, *args: object) -> list[Kind | None]:
        with fresh_db.database.tenant(clinic_id) as a, fresh_db.database.system() as b:  # type: ignore[arg-type]
            return [holds_store.is_held(conn, clinic_id, *args) for conn in (a, b)]  # type: ignore[arg-type]

    for kind, clinic_id, target in (
        (Kind.CLINIC, one.id, str(one.id)),
        (Kind.SCANNER, one.id, str(scanner)),
        (Kind.VERSION, None, digest),
        (Kind.ANSWERS, one.id, holds_store.answers(one.id, digest)),
    ):
        assert seen(one.id, scanner, digest) == [None, None]
        with fresh_db.database.system() as conn:
            holds_store.place(conn, kind, clinic_id, target, **WHY)
        assert seen(one.id, scanner, digest) == [kind, kind]
        assert seen(one.id, uuid4(), None) == ([kind] * 2 if kind is Kind.CLINIC else [None] * 2)
        # A version is held for every clinic; the rest stays with its own.
        assert seen(two.id, scanner, digest) == ([kind] * 2 if kind is Kind.VERSION else [None] * 2)
        with fresh_db.database.system() as conn:
            holds_store.release(conn, kind, target, **WHY)


def test_a_target_is_held_once_and_released_once(fresh_db: FreshDb) -> None:
    with fresh_db.database.system() as conn:
        its = add_clinic(conn)
        holds_store.place(conn, Kind.CLINIC, its.id, str(its.id), **WHY)
        with pytest.raises(HoldOpen):
            holds_store.place(conn, Kind.CLINIC, its.id, str(its.id), **WHY)
        released = holds_store.release(conn, Kind.CLINIC, str(its.id), by="bert", reason="cured")
        assert released.released_by == "bert"
        with pytest.raises(HoldUnknown):
            holds_store.release(conn, Kind.CLINIC, str(its.id), **WHY)
        holds_store.place(conn, Kind.CLINIC, its.id, str(its.id), **WHY)
        assert len(holds_store.list(conn, clinic_id=its.id)) == 1
        assert len(holds_store.list(conn, clinic_id=its.id, released=True)) == 2
        types = [e.type for e in events.list(conn, events.of_clinic(its.id), limit=3)]
        assert types == ["hold.placed", "hold.released", "hold.placed"]


def test_a_hold_needs_a_reason(fresh_db: FreshDb) -> None:
    with fresh_db.database.system() as conn:
        its = add_clinic(conn)
        with pytest.raises(ReasonMissing):
            holds_store.place(conn, Kind.CLINIC, its.id, str(its.id), by="x", reason=" ")
        with pytest.raises(ReasonMissing):
            holds_store.release(conn, Kind.CLINIC, str(its.id), by="x", reason="")


def test_a_clinic_cannot_release_a_hold(fresh_db: FreshDb) -> None:
    with fresh_db.database.system() as conn:
        its = add_clinic(conn)
        holds_store.place(conn, Kind.CLINIC, its.id, str(its.id), **WHY)
    with pytest.raises(psycopg.errors.InsufficientPrivilege), fresh_db.database.tenant(its.id) as conn:
        holds_store.release(conn, Kind.CLINIC, str(its.id), **WHY)
