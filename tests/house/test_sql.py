"""Every SQL statement of the stores fits the migrated schema and the rights of a service role: EXPLAINed, never run."""

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import LiteralString, cast

import psycopg
import pytest

from registry import cluster_store
from tests.house.statements import Statement, in_module, stores
from tests.kit.db import Server

SERVICE_ROLES = ("radfleet_app", "radfleet_system", "radfleet_monitor")
# Run by the superuser of the embedded cluster or by the schema's owner, before any service role exists.
BY_OWNER = {"registry/cluster_store.py", "registry/doctor_store.py"}
STATEMENTS = stores()
Connection = psycopg.Connection[tuple[object, ...]]


@pytest.fixture(scope="module")
def schema(postgres_server: Server, template_db: str) -> Iterator[Connection]:
    """The superuser on a migrated, empty database; not the template: that may not be in use when it is cloned."""
    with postgres_server.connect("postgres") as admin:
        cluster_store.create_database(admin, "house", "radfleet_owner", template=template_db)
    with postgres_server.connect("house") as conn:
        yield conn
    with postgres_server.connect("postgres") as admin:
        cluster_store.drop_database(admin, "house")


def explain(conn: Connection, statement: Statement, role: str | None = None) -> str:
    """Empty when PostgreSQL can plan the statement with NULL parameters (as this role), else what it says."""
    sql = "explain " + statement.sql
    try:
        with conn.transaction(force_rollback=True):
            if role:
                conn.execute(cast(LiteralString, f"set local role {role}"))
            conn.execute(cast(LiteralString, sql), statement.parameters)
    except psycopg.Error as error:
        return f"{type(error).__name__}: {error}"
    return ""


def ident(statement: Statement) -> str:
    return f"{statement.path.stem}.{statement.name}"


@pytest.mark.parametrize("statement", STATEMENTS, ids=ident)
def test_a_statement_fits_the_schema(schema: Connection, statement: Statement) -> None:
    assert explain(schema, statement) == ""


@pytest.mark.parametrize("statement", [s for s in STATEMENTS if str(s.path) not in BY_OWNER], ids=ident)
def test_a_service_role_may_run_a_statement(schema: Connection, statement: Statement) -> None:
    answers = {role: explain(schema, statement, role) for role in SERVICE_ROLES}
    assert "" in answers.values(), answers


def test_there_are_statements_to_check() -> None:
    assert len(STATEMENTS) > 50, "the reader of statements has lost them"


def test_the_rules_bite(schema: Connection) -> None:
    """Mutants: a misspelt column, a missing table, a statement that no service role may run."""
    source = (
        'COLUMNS = "id, slug"\nGOOD = f"select {COLUMNS} from registry.clinic where slug = %(slug)s"\n'
        'MISSPELT = "select id, slgu from registry.clinic where slug = %(slug)s"\n'
        'GONE = "update registry.assignment set id = %s"\nFORBIDDEN = "delete from serving.study"\n'
        'def f(conn):\n    conn.execute("select nothing from registry.clinic")\n'
    )
    found = {s.name: s for s in in_module(Path("x_store.py"), ast.parse(source))}
    assert explain(schema, found["GOOD"]) == ""
    assert "UndefinedColumn" in explain(schema, found["MISSPELT"])
    assert "UndefinedTable" in explain(schema, found["GONE"])
    assert "UndefinedColumn" in explain(schema, found["line 7"])
    assert explain(schema, found["FORBIDDEN"]) == ""
    assert all("InsufficientPrivilege" in explain(schema, found["FORBIDDEN"], role) for role in SERVICE_ROLES)
