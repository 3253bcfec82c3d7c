"""Row-level security as migrated breaks no rule, and every seeded hole is found (promise P5)."""

import pytest

from registry.core.db import Database
from tests.isolation.catalogue import FREE_UNIQUE, NO_CLINIC, faults
from tests.kit.db import FreshDb
from tests.kit.registry_rows import TASK, add_clinic


def test_the_migrated_schema_breaks_no_rule(fresh_db: FreshDb) -> None:
    with fresh_db.connect() as conn:
        assert faults(conn) == []


def test_the_reviewed_lists_name_what_exists(fresh_db: FreshDb) -> None:
    with fresh_db.connect() as conn:
        for name in (*NO_CLINIC, *FREE_UNIQUE):
            assert conn.execute("select to_regclass(%s)", (name,)).fetchone() != (None,), name


MUTANTS = {
    "alter table serving.study no force row level security": "serving.study: row-level security is not forced",
    "alter table serving.feature disable row level security": "serving.feature: row-level security is not enabled",
    "alter table registry.clinic no force row level security": "registry.clinic: row-level security is not forced",
    "drop policy tenant on serving.result": "serving.result has no policy named tenant",
    "alter policy tenant on serving.result using (true)": "policy tenant on serving.result does not compare clinic_id",
    "alter policy tenant on serving.result with check (true)": "policy tenant on serving.result does not compare",
    "alter policy fleet on serving.study to public": "policy fleet on serving.study is for public",
    "create policy more on serving.study to radfleet_app using (true)": "policy more on serving.study does not",
    'create unique index leak on serving.study("StudyInstanceUID")': "unique index serving.leak",
    "alter table serving.study add unique (id); alter table serving.step add foreign key (study_id) "
    "references serving.study(id)": "foreign key step_study_id_fkey of serving.step",
    "alter view serving.study_v reset (security_invoker)": "view serving.study_v is not security_invoker",
    "create materialized view serving.m as select 1": "serving.m: row-level security cannot protect",
    "create table serving.loose(id int)": "serving.loose has no clinic_id",
    "create table serving.unfenced(clinic_id uuid not null)": "serving.unfenced: row-level security is not enabled",
    "alter table serving.study alter clinic_id drop not null": "serving.study.clinic_id may be null",
    "create function serving.f() returns int language sql security definer as 'select 1'": "function serving.f",
    "alter table serving.study owner to radfleet_admin": "serving.study belongs to radfleet_admin",
    "grant truncate on serving.study to radfleet_app": "radfleet_app has TRUNCATE on serving.study",
    "grant delete on serving.study to radfleet_app": "radfleet_app has DELETE on serving.study",
    "grant select on registry.clinic_key to radfleet_app": "radfleet_app has SELECT on registry.clinic_key",
    "grant select on registry.event to public": "everybody has SELECT on registry.event",
    "grant insert on serving.feature to radfleet_monitor": "radfleet_monitor has INSERT on serving.feature",
    "grant update on registry.binding to radfleet_monitor": "radfleet_monitor has UPDATE on registry.binding",
    "grant delete on monitoring.flag to radfleet_monitor": "radfleet_monitor has DELETE on monitoring.flag",
    "grant create on schema serving to radfleet_app": "radfleet_app may create in schema serving",
    "alter role radfleet_app bypassrls": "radfleet_app is a superuser, bypasses",
    "grant radfleet_owner to radfleet_app": "radfleet_app is a superuser, bypasses",
}


@pytest.fixture(scope="module")
def mutable(postgres_server: object, template_db: str) -> object:
    """One database for all mutants, each rolled back: roles belong to the server and would outlive a commit."""
    from registry import cluster_store

    with postgres_server.connect("postgres") as admin:  # type: ignore[attr-defined]
        cluster_store.create_database(admin, "mutable", "radfleet_owner", template=template_db)
    with postgres_server.connect("mutable") as conn:  # type: ignore[attr-defined]
        yield conn
    with postgres_server.connect("postgres") as admin:  # type: ignore[attr-defined]
        cluster_store.drop_database(admin, "mutable")


@pytest.mark.parametrize(("change", "found"), MUTANTS.items())
def test_every_seeded_hole_is_found(mutable: object, change: str, found: str) -> None:
    with mutable.transaction(force_rollback=True):  # type: ignore[attr-defined]
        # A view's or policy's own dependants must not hide the mutation.
        mutable.execute(
            change.replace(
                "alter clinic_id drop not null",
                "drop constraint study_pkey cascade, alter clinic_id drop not null",
            )
        )  # type: ignore[attr-defined]
        assert any(text.startswith(found) for text in faults(mutable)), faults(mutable)  # type: ignore[arg-type]


def test_without_force_the_owner_would_see_every_clinic(fresh_db: FreshDb) -> None:
    """Why FORCE: the rule that the mutant above breaks is the one that holds the owner."""
    with fresh_db.database.system() as conn:
        add_clinic(conn, "one")
    with fresh_db.connect("radfleet_owner") as owner:
        assert owner.execute("select count(*) from registry.clinic").fetchone() == (0,)
        owner.execute("alter table registry.clinic no force row level security")
        assert owner.execute("select count(*) from registry.clinic").fetchone() == (1,)


def test_the_setting_ends_with_its_transaction(fresh_db: FreshDb) -> None:
    db: Database = fresh_db.database
    with db.system() as conn:
        one, two = add_clinic(conn, "one"), add_clinic(conn, "two")
    for clinic in (one, two, one):
        with db.tenant(clinic.id) as conn:
            assert conn.execute("select slug from registry.clinic").fetchall() == [(clinic.slug,)]
            backend = conn.info.backend_pid
        # The next borrower of the very same connection, without a clinic, sees nothing.
        with db._transaction("radfleet_app") as conn:
            assert conn.info.backend_pid == backend
            assert conn.execute("select slug from registry.clinic").fetchall() == []
            assert conn.execute(
                "select count(*) from registry.binding where task = %s", (TASK,)
            ).fetchone() == (0,)
