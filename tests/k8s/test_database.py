"""The Cluster's SQL makes of a bare PostgreSQL what `radfleet up` makes of it, and every workload can log in."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from registry import cluster_store, doctor_store, postgres
from registry.core.settings import Settings
from tests.k8s.checks import SERVICE, named_settings
from tests.k8s.render import Object, kind, render
from tests.kit.db import free_port

pytestmark = pytest.mark.tool("kubectl")

WORD = "a-word-of-this-test"
RIGHTS = """
select rolname::text, rolcanlogin, rolsuper, rolcreatedb, rolcreaterole, rolreplication, rolbypassrls
from pg_roles where rolname !~ '^pg_' and rolname <> %s order by 1"""
ENTRY = """
select r.rolname::text, d.datname::text, has_database_privilege(r.rolname, d.datname, 'connect'),
  has_database_privilege(r.rolname, d.datname, 'create'), pg_get_userbyid(d.datdba)::text
from pg_roles r, pg_database d where d.datname in ('radfleet', 'mlflow') and r.rolname !~ '^pg_' order by 2, 1"""


class Bare:
    """A PostgreSQL of one test, with nothing in it but its superuser."""

    def __init__(self, folder: Path) -> None:
        self.cluster = postgres.Cluster(folder / "pg", free_port(), folder / "postgres.log", durable=False)
        postgres.init(self.cluster, WORD)

    def dsn(self, role: str, database: str) -> str:
        return f"host=127.0.0.1 port={self.cluster.port} dbname={database} user={role} password={WORD}"

    def run(self, database: str, statements: list[str]) -> None:
        with psycopg.connect(self.dsn(postgres.SUPERUSER, database), autocommit=True) as conn:
            for one in statements:
                conn.execute(one.encode())

    def facts(self) -> tuple[list[Any], list[Any]]:
        with psycopg.connect(self.dsn(postgres.SUPERUSER, "postgres")) as conn:
            return conn.execute(RIGHTS, [postgres.SUPERUSER]).fetchall(), conn.execute(ENTRY).fetchall()


@pytest.fixture
def bare(tmp_path: Path) -> Iterator[Bare]:
    made = Bare(tmp_path)
    process = postgres.start(made.cluster)
    yield made
    postgres.stop(process, 5)


def as_cloudnative_pg(bare: Bare, objects: list[Object]) -> None:
    """The order in which CloudNativePG runs initdb's SQL, then what it manages of the roles."""
    spec = kind(objects, "Cluster")[0]["spec"]
    initdb = spec["bootstrap"]["initdb"]
    bare.run("postgres", [f"create role {initdb['owner']} login password '{WORD}'"])
    bare.run("postgres", initdb["postInitSQL"])
    bare.run("postgres", [f"create database {initdb['database']} owner {initdb['owner']}"])
    bare.run(initdb["database"], initdb["postInitApplicationSQL"])
    for role in spec["managed"]["roles"]:
        rights = [
            f"{'' if role.get(right) else 'no'}{right}"
            for right in ("login", "superuser", "createdb", "createrole", "replication", "bypassrls")
        ]
        word = "null" if role.get("disablePassword") else f"'{WORD}'"
        bare.run("postgres", [f"alter role {role['name']} with {' '.join(rights)} password {word}"])


def reference(bare: Bare) -> tuple[list[Any], list[Any]]:
    """What `radfleet up` makes, in the same server: the manifest's databases and roles must be gone before."""
    bare.run("postgres", ["drop database radfleet", "drop database mlflow"])
    bare.run("postgres", [f"drop role {role}" for role in cluster_store.ROLES])
    cluster_store.ensure(bare.dsn(postgres.SUPERUSER, "postgres"), dict.fromkeys(cluster_store.ROLES, WORD))
    return bare.facts()


def test_roles_and_databases_are_those_of_one_machine(bare: Bare) -> None:
    as_cloudnative_pg(bare, render("prod"))
    here = bare.facts()
    there = reference(bare)
    assert here == there
    bare.run("postgres", ["drop database radfleet", "drop database mlflow"])
    bare.run("postgres", [f"drop role {role}" for role in cluster_store.ROLES])
    # Mutants: a right too many, a database open to all.
    for broken in ("create role radfleet_app login bypassrls", "select 1"):
        objects = render("prod")
        initdb = kind(objects, "Cluster")[0]["spec"]["bootstrap"]["initdb"]
        if "bypassrls" in broken:
            managed = kind(objects, "Cluster")[0]["spec"]["managed"]["roles"]
            next(role for role in managed if role["name"] == "radfleet_app")["bypassrls"] = True
        else:
            initdb["postInitApplicationSQL"][0] = broken
        as_cloudnative_pg(bare, objects)
        assert bare.facts() != there, broken
        bare.run("postgres", ["drop database radfleet", "drop database mlflow"])
        bare.run("postgres", [f"drop role {role}" for role in cluster_store.ROLES])


def test_every_workload_can_log_in_and_the_schema_can_be_made(
    bare: Bare, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The very connection string of the manifest, with this server's address and without its certificate."""
    objects = render("prod")
    as_cloudnative_pg(bare, objects)
    url = named_settings(objects)["RADFLEET_DATABASE_URL"]
    for old, new in (
        ("host=radfleet-db-rw port=5432", f"host=127.0.0.1 port={bare.cluster.port}"),
        (" sslmode=verify-full sslrootcert=/etc/radfleet/database/ca.crt", ""),
    ):
        assert old in url
        url = url.replace(old, new)
    passwords = tmp_path / "pgpass"
    passwords.write_text(
        "".join(f"*:*:*:{role}:{WORD}\n" for role in (*sorted(SERVICE), "radfleet_monitor", "mlflow"))
    )
    passwords.chmod(0o600)
    monkeypatch.setenv("PGPASSFILE", str(passwords))
    here = Settings(home=tmp_path, database_url=url)
    assert [row.state for row in doctor_store.migration_states(here) if row.state != "missing"] == []
    assert doctor_store.migrate(here) != []
    assert {row.state for row in doctor_store.migration_states(here)} == {"applied"}
    for role, database in (
        ("radfleet_app", "radfleet"),
        ("radfleet_system", "radfleet"),
        ("radfleet_monitor", "radfleet"),
        ("mlflow", "mlflow"),
    ):
        psycopg.connect(here.dsn(role, database)).close()
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(here.dsn("mlflow", "radfleet"))
    passwords.chmod(0o640)  # what a Secret's own file would be
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(here.dsn("radfleet_app"))
