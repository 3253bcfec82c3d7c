"""A made-up row of a clinic in every table that has none, so that tables of tomorrow's migrations are probed too.

Only for a database that is thrown away: checks of the filled tables are dropped, and foreign keys are not asked.
"""

import random
from datetime import UTC, date, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

from psycopg import Connection, sql
from psycopg.types.json import Jsonb
from psycopg.types.range import TimestamptzRange

from tests.isolation.probes import canary
from tests.kit.world import World

TABLES = """
select n.nspname || '.' || c.relname, c.oid::bigint from pg_class c join pg_namespace n on n.oid = c.relnamespace
join pg_attribute a on a.attrelid = c.oid and a.attname = 'clinic_id' and not a.attisdropped
where n.nspname in ('registry', 'serving', 'monitoring') and c.relkind = 'r' order by 1"""
COLUMNS = """
select attname, format_type(atttypid, null) from pg_attribute
where attrelid = %s::oid and attnum > 0 and not attisdropped and attgenerated = '' and attidentity = ''
order by attnum"""
CHECKS = "select conname from pg_constraint where conrelid = %s::oid and contype = 'c'"


def fill(world: World, clinic: UUID) -> list[str]:
    """Fill every table in which the clinic has no row; their names. Afterwards no table is without one."""
    filled = []
    with world.db.connect() as conn:
        conn.execute("set session_replication_role = replica")
        for name, oid in conn.execute(TABLES).fetchall():
            table = sql.Identifier(*name.split("."))
            held = sql.SQL("select 1 from {} where clinic_id = %s limit 1").format(table)
            if conn.execute(held, (clinic,)).fetchone() is None:
                _one(conn, table, oid, clinic)
                filled.append(name)
    return filled


def _one(conn: Connection[Any], table: sql.Identifier, oid: int, clinic: UUID) -> None:
    for (check,) in conn.execute(CHECKS, (oid,)).fetchall():
        conn.execute(sql.SQL("alter table {} drop constraint {}").format(table, sql.Identifier(check)))
    row = {name: _value(kind, clinic) for name, kind in conn.execute(COLUMNS, (oid,))}
    row["clinic_id"] = clinic
    conn.execute(
        sql.SQL("insert into {}({}) values ({})").format(
            table, sql.SQL(", ").join(map(sql.Identifier, row)), sql.SQL(", ").join(sql.Placeholder() * len(row))
        ),
        [*row.values()],
    )  # fmt: skip


def _value(kind: str, clinic: UUID) -> Any:
    """Something of a column's type, the canary word in it (as JSON: some text is). Raises SystemExit for others."""
    if kind.endswith("[]"):
        return [_value(kind.removesuffix("[]"), clinic)]
    now, word = datetime.now(UTC), canary(clinic)
    values: dict[str, Any] = {
        "text": f'"{word}"', "uuid": uuid4(), "jsonb": Jsonb([{"c": word}]), "bytea": word.encode(), "boolean": True,
        "smallint": random.randrange(1, 2**15), "integer": random.randrange(1, 2**31),
        "bigint": random.randrange(1, 2**62), "double precision": 0.5, "real": 0.5, "numeric": 1,
        "timestamp with time zone": now, "date": date(2026, 1, 1), "interval": timedelta(hours=1),
        "tstzrange": TimestamptzRange(now, None),
    }  # fmt: skip
    if kind not in values:
        raise SystemExit(f"tests/isolation/fill.py does not know how to make a {kind}")
    return values[kind]
