"""A version that was fine-tuned on one clinic's people answers that clinic alone: by name, and by the database."""

import psycopg
import pytest

from registry import bindings, local_versions_store
from registry.errors import VersionElsewhere
from tests.kit.db import FreshDb
from tests.kit.registry_rows import TASK
from tests.registry.promoting import Line, begin


@pytest.fixture
def line(fresh_db: FreshDb) -> Line:
    """Version 2 is lakeside's own; seaside has version 1 too."""
    made = begin(fresh_db)
    made.another("seaside")
    values = {
        "clinic_id": made.clinic().id, "digest": made.version(2).digest, "parent": made.version(1).digest,
        "cohort": "sha256:" + "c" * 64, "people_train": 3, "people_evaluation": 8, "tier": "T1", "by": "bert",
    }  # fmt: skip
    with made.system() as conn:
        local_versions_store.add(conn, values)
        local_versions_store.add(conn, values)
    return made


def test_it_is_promoted_at_home_and_refused_elsewhere(line: Line) -> None:
    assert line.promote(2).state == "active"
    seaside = line.clinic("seaside")
    with pytest.raises(VersionElsewhere):
        line.request(2, clinic=seaside)
    with line.system() as conn, pytest.raises(VersionElsewhere):
        bindings.set(conn, seaside, TASK, line.version(2).digest, by="anna", reason="by hand")
    with line.system() as conn:
        assert bindings.show(conn, seaside)[0].digest == line.version(1).digest


def test_the_database_refuses_it_too(line: Line) -> None:
    """Mutant: a program that does not ask."""
    with (
        line.system() as conn,
        pytest.raises(psycopg.errors.InsufficientPrivilege, match="its own clinic alone"),
    ):
        conn.execute(
            "insert into registry.binding(clinic_id, task, scope, seq, digest, valid, bound_by, reason) "
            "values (%s, %s, 'serial:1', 1, %s, tstzrange(clock_timestamp(), null), 'x', 'x')",
            (line.clinic("seaside").id, TASK, line.version(2).digest),
        )


def test_the_record_is_fixed_and_fenced(line: Line) -> None:
    with line.db.connect() as conn, pytest.raises(psycopg.errors.InsufficientPrivilege):
        conn.execute("update registry.local_version set tier = 'T2'")
    with line.db.database.monitor() as conn:
        rows = conn.execute(
            "select clinic, parent_model, people_train from registry.local_version_v"
        ).fetchall()
    assert rows == [("lakeside", f"{TASK}@1.0.0", 3)]
