"""The rules of row-level security as a question to PostgreSQL's catalogue: what breaks them, in words.

After every migration each table of the three schemas must either belong to a clinic and be fenced, or stand in a
reviewed list below. Reviewed means: somebody thought about what another clinic could learn through it.
"""

from collections.abc import Iterator
from typing import Any

import psycopg

Conn = psycopg.Connection[Any]
SCHEMAS = ("registry", "serving", "monitoring")
OWNER = "radfleet_owner"

# Tables without a clinic_id, and why that is right.
NO_CLINIC = {
    "registry.clinic": "the clinic itself: fenced on its id",
    "registry.account": "the operator's people; no grant to the tenant role",
    "registry.model_version": "versions are the fleet's; no clinic's data may stand in a card",
    "registry.chain_head": "the operator's record; no grant to the tenant role",
    "registry.event": "the operator's record; no grant to the tenant role",
    "registry.policy": "margins are the fleet's; no grant to the tenant role",
    "registry.session": "hashes of tokens; no grant to the tenant role",
}
# Tables whose rows need not have a clinic, and why.
LOOSE = {
    "registry.hold": "a hold on a version has no clinic; every clinic obeys it",
    "registry.evidence": "the global set is no clinic's; no grant to the tenant role",
    "registry.account_key": "without a clinic it opens the fleet's pages; no grant to the tenant role",
}
# Unique indexes that do not begin with clinic_id, and why they are no oracle for another clinic's values.
FREE_UNIQUE = {
    "registry.clinic_pkey": "a random id",
    "registry.clinic_slug_key": "written by the operator only",
    "registry.clinic_peer_pkey": "a random id",
    "registry.clinic_peer_called_ae_calling_ae_key": "written by the operator only",
    "registry.clinic_key_pkey": "a random id",
    "registry.clinic_key_key_id_key": "written by the operator only",
    "registry.account_key_pkey": "a random id",
    "registry.account_key_key_id_key": "written by the operator only",
    "registry.scanner_id_key": "a random id",
    "registry.hold_pkey": "a random id",
    "registry.hold_open": "written by the operator only",
    "registry.evidence_pkey": "given by the database",
    "registry.promotion_pkey": "given by the database",
    "registry.job_pkey": "given by the database",
    "serving.step_pkey": "given by the database",
    "serving.feature_pkey": "given by the database",
    "serving.outbox_pkey": "given by the database",
    "monitoring.flag_pkey": "given by the database",
}
# Foreign keys from a clinic's table to a table that no clinic owns.
FLEET_TABLES = {
    "registry.clinic",
    "registry.model_version",
    "registry.account",
    "registry.policy",
    "registry.account_key",
}
TENANT_MAY_NOT = ("DELETE", "TRUNCATE", "REFERENCES", "TRIGGER")


def faults(conn: Conn) -> list[str]:
    """Every broken rule of the migrated database behind ``conn`` (a superuser's connection)."""
    return [text for rule in RULES for text in rule(conn)]


TABLES = """
select n.nspname || '.' || c.relname as name, c.relkind, c.relrowsecurity, c.relforcerowsecurity,
  pg_get_userbyid(c.relowner) as owner, c.reloptions,
  coalesce(a.attnotnull, false) as clinic_id, coalesce(not a.attnotnull, false) as loose
from pg_class c join pg_namespace n on n.oid = c.relnamespace
left join pg_attribute a on a.attrelid = c.oid and a.attname = 'clinic_id'
where n.nspname = any(%s) and c.relkind in ('r', 'p', 'v', 'm', 'f') order by 1"""


def tables(conn: Conn) -> Iterator[str]:
    """Each table is a clinic's and fenced, or reviewed; each view asks with its caller's rights."""
    rows = conn.execute(TABLES, ([*SCHEMAS],)).fetchall()
    if not rows:
        yield "no table at all: the database is not migrated"
    for name, kind, enabled, forced, owner, options, clinic_id, loose in rows:
        if owner != OWNER:
            yield f"{name} belongs to {owner}"
        if kind in "mf":
            yield f"{name}: row-level security cannot protect a materialized view or a foreign table"
        elif kind == "v":
            if "security_invoker=true" not in (options or []):
                yield f"view {name} is not security_invoker"
        elif clinic_id or loose or name == "registry.clinic":
            if not enabled or not forced:
                yield f"{name}: row-level security is not {'enabled' if not enabled else 'forced'}"
            if loose and name not in LOOSE:
                yield f"{name}.clinic_id may be null"
        elif name not in NO_CLINIC:
            yield f"{name} has no clinic_id and is not in the reviewed list"


POLICIES = """
select schemaname || '.' || tablename, policyname, roles::text[], cmd, qual, with_check
from pg_policies where schemaname = any(%s) order by 1, 2"""


def policies(conn: Conn) -> Iterator[str]:
    """The tenant role reads and writes its own clinic's rows alone; nobody but the service roles has a policy."""
    rows = conn.execute(POLICIES, ([*SCHEMAS],)).fetchall()
    fenced = {row[0] for row in rows if row[1] == "tenant"}
    for name, kind, _, _, _, _, clinic_id, loose in conn.execute(TABLES, ([*SCHEMAS],)):
        if kind == "r" and (clinic_id or loose or name == "registry.clinic") and name not in fenced:
            yield f"{name} has no policy named tenant"
    for table, policy, roles, command, using, check in rows:
        where = f"policy {policy} on {table}"
        if not set(roles) <= {"radfleet_app", "radfleet_system", "radfleet_monitor"}:
            yield f"{where} is for {', '.join(roles)}"
        if "radfleet_app" not in roles:
            continue
        if policy == "version_hold" and table == "registry.hold" and command == "SELECT":
            continue
        own = "id" if table == "registry.clinic" else "clinic_id"
        for text in (using, check) if command != "SELECT" else (using,):
            if f"{own} = ( SELECT registry.current_clinic()" not in (text or ""):
                yield f"{where} does not compare {own} with the transaction's clinic"


UNIQUES = """
select n.nspname || '.' || c.relname, n.nspname || '.' || t.relname,
  (select a.attname from pg_attribute a where a.attrelid = t.oid and a.attnum = i.indkey[0]) as first
from pg_index i join pg_class c on c.oid = i.indexrelid join pg_class t on t.oid = i.indrelid
join pg_namespace n on n.oid = t.relnamespace
where i.indisunique and n.nspname = any(%s) and t.relkind in ('r', 'p')
  and exists (select from pg_attribute a where a.attrelid = t.oid and a.attname = 'clinic_id') order by 1"""


def uniques(conn: Conn) -> Iterator[str]:
    """A unique index without clinic_id in front tells a clinic that another one has a value."""
    for index, table, first in conn.execute(UNIQUES, ([*SCHEMAS],)):
        if first != "clinic_id" and index not in FREE_UNIQUE:
            yield f"unique index {index} of {table} does not begin with clinic_id"


FOREIGN = """
select k.conname, n.nspname || '.' || t.relname, fn.nspname || '.' || f.relname,
  exists (select from unnest(k.conkey, k.confkey) as u(a, b)
    join pg_attribute x on x.attrelid = k.conrelid and x.attnum = u.a and x.attname = 'clinic_id'
    join pg_attribute y on y.attrelid = k.confrelid and y.attnum = u.b and y.attname = 'clinic_id') as composite
from pg_constraint k join pg_class t on t.oid = k.conrelid join pg_namespace n on n.oid = t.relnamespace
join pg_class f on f.oid = k.confrelid join pg_namespace fn on fn.oid = f.relnamespace
where k.contype = 'f' and n.nspname = any(%s) order by 1"""


def foreign_keys(conn: Conn) -> Iterator[str]:
    """A check of a foreign key sees every row, so a key between clinics' tables must carry the clinic."""
    for name, table, other, composite in conn.execute(FOREIGN, ([*SCHEMAS],)):
        if not composite and other not in FLEET_TABLES:
            yield f"foreign key {name} of {table} to {other} does not carry clinic_id"


FUNCTIONS = """
select n.nspname || '.' || p.proname from pg_proc p join pg_namespace n on n.oid = p.pronamespace
where p.prosecdef and n.nspname = any(%s || array['public'])"""


def functions(conn: Conn) -> Iterator[str]:
    """A security definer function runs past the fence."""
    for (name,) in conn.execute(FUNCTIONS, ([*SCHEMAS],)):
        yield f"function {name} is security definer"


ROLES = """
select rolname, rolsuper, rolbypassrls, rolcreaterole, rolcreatedb, pg_has_role(rolname, %s, 'usage') from pg_roles
where rolname in ('radfleet_app', 'radfleet_system', 'radfleet_monitor') order by 1"""
CREATORS = """
select r.rolname, n.nspname from pg_namespace n, pg_roles r
where n.nspname = any(%s || array['public']) and has_schema_privilege(r.oid, n.oid, 'create')
  and r.rolname in ('radfleet_app', 'radfleet_system', 'radfleet_monitor')"""


def roles(conn: Conn) -> Iterator[str]:
    """No service role is above the fence, and none can make a table of its own."""
    for name, *strong in conn.execute(ROLES, (OWNER,)):
        if any(strong):
            yield f"{name} is a superuser, bypasses row security, makes roles or databases, or acts as the owner"
    for name, schema in conn.execute(CREATORS, ([*SCHEMAS],)):
        yield f"{name} may create in schema {schema}"


GRANTS = """
select grantee, table_schema || '.' || table_name, privilege_type from information_schema.role_table_grants
where table_schema = any(%s) and grantee in ('radfleet_app', 'radfleet_system', 'radfleet_monitor', 'PUBLIC')
order by 1, 2, 3"""
# The tenant role has nothing to look for here, whatever a policy says.
OPERATORS = {
    "registry.account",
    "registry.event",
    "registry.chain_head",
    "registry.clinic_key",
    "registry.clinic_peer",
    "registry.policy",
    "registry.evidence",
    "registry.promotion",
    "registry.account_key",
    "registry.session",
}


def grants(conn: Conn) -> Iterator[str]:
    """TRUNCATE ignores row security; the tenant role deletes nothing and sees none of the operator's tables.

    The monitor writes its own schema and no other.
    """
    for role, table, right in conn.execute(GRANTS, ([*SCHEMAS],)):
        if role == "PUBLIC":
            yield f"everybody has {right} on {table}"
        if right in ("TRUNCATE", "REFERENCES", "TRIGGER"):
            yield f"{role} has {right} on {table}"
        if role == "radfleet_app" and (right in TENANT_MAY_NOT or table in OPERATORS):
            yield f"{role} has {right} on {table}"
        if (
            role == "radfleet_monitor"
            and right != "SELECT"
            and not (table.startswith("monitoring.") and right in ("INSERT", "UPDATE"))
        ):
            yield f"{role} has {right} on {table}"


RULES = (tables, policies, uniques, foreign_keys, functions, roles, grants)
