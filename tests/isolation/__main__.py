"""``make isolation``: thousands of probes from one clinic into another, over pool, both doors and the pages.

Goals: not one foreign row, at least 2,000 probes, every planted hole found. Writes build/isolation.json.
"""

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from registry import accounts, cluster_store, postgres
from registry.core import logs
from registry.core.migrate import migrate
from registry.core.settings import settings
from tests.bench.record import Goal, record, versions
from tests.isolation import doors, fill, pages, probes
from tests.isolation.catalogue import faults
from tests.kit.db import PASSWORD, FreshDb, Server, free_port
from tests.kit.world import DIGEST_B, World

QUICK, WHOLE = 2_000, 10_000
HOLES = ("serving.study", "serving.result", "registry.job", "serving.feature")


@contextmanager
def standalone() -> Iterator[World]:
    """A migrated database on an embedded PostgreSQL of this run alone."""
    with tempfile.TemporaryDirectory(prefix="radfleet-isolation-", ignore_cleanup_errors=True) as folder:
        # PostgreSQL runs as another user when we are root, and must be able to reach its folder.
        Path(folder).chmod(0o711)
        cluster = postgres.Cluster(Path(folder) / "pg", free_port(), Path(folder) / "pg.log", durable=False)
        postgres.init(cluster, PASSWORD)
        process = postgres.start(cluster)
        try:
            server, words = Server(cluster.port), dict.fromkeys(cluster_store.ROLES, PASSWORD)
            cluster_store.ensure(server.dsn(postgres.SUPERUSER, "postgres"), words, databases={})
            with server.connect("postgres") as admin:
                cluster_store.create_database(admin, "isolation", "radfleet_owner")
            with server.connect("isolation", "radfleet_owner") as conn:
                migrate(conn)
            os.environ["RADFLEET_HOME"] = str(Path(folder) / "home")
            os.environ["RADFLEET_DATABASE_URL"] = server.dsn("{role}", "isolation")
            settings.cache_clear()
            world = World(FreshDb(server, "isolation", settings()))
            yield world
            world.db.database.close()
        finally:
            postgres.stop(process, 5)


def run(world: World, goal: int) -> tuple[probes.Tally, dict[str, int], dict[str, bool]]:
    """All probes, then the planted holes: (tally, probes by way, hole -> found)."""
    world.version()
    clinics = probes.plant(world, world.clinic("north")), probes.plant(world, world.clinic("south"))
    world.sql(
        "insert into registry.clinic_peer(clinic_id, calling_ae, address) values (%s, %s, '10.9.0.0/16')",
        clinics[0].clinic, doors.ELSEWHERE,
    )  # fmt: skip
    sides = tuple(
        doors.side(world, slug, probes.canary(its.clinic))
        for slug, its in zip(("north", "south"), clinics, strict=True)
    )
    tally, ways, rounds = probes.Tally(), dict[str, int](), max(8, goal // 100)
    with doors.opened(world) as open_doors:
        for name, probe in {
            "dicom": doors.dicom_door, "stranger": doors.strangers, "http": doors.http_door,
        }.items():  # fmt: skip
            before = tally.probes
            probe(open_doors, sides, rounds, tally)  # type: ignore[arg-type]
            ways[name] = tally.probes - before
    before, caught = tally.probes, look_at_pages(world, clinics, tally)
    ways["pages"] = tally.probes - before
    for its in clinics:
        fill.fill(world, its.clinic)
    before = tally.probes
    once = probes.Tally()
    probes.pool(world, world.db.database, clinics, 1, once)
    rounds = max(1, -(-(goal - tally.probes) // once.probes))
    probes.pool(world, world.db.database, clinics, rounds, tally)
    ways["pool"] = tally.probes - before
    caught |= holes(world, clinics)
    caught["the DICOM door takes everybody for one clinic"] = doors.mixed_up(world, sides) > 0  # type: ignore[arg-type]
    return tally, ways, caught


def look_at_pages(
    world: World, clinics: tuple[probes.Planted, probes.Planted], tally: probes.Tally
) -> dict[str, bool]:
    """One clinic's key against all of the other, both ways; and whether pages that read the fleet are noticed."""
    world.version(DIGEST_B, version="2.0.0")
    with world.db.database.system() as conn:
        accounts.add(conn, "anna", "admin", by="isolation")
        accounts.add(conn, "bert", "ml", by="anna")
    north, south = (
        pages.plant(world, slug, its.clinic) for slug, its in zip(("north", "south"), clinics, strict=True)
    )
    with pages.site(world, (north, south)) as site:
        for victim, intruder in ((north, south), (south, north)):
            pages.probe(site, victim, intruder, tally)
        seen = probes.Tally()
        with pages.reading_the_fleet():
            pages.probe(site, north, south, seen)
    return {"pages that read as the fleet": len(seen.foreign) > 0}


def holes(world: World, clinics: tuple[probes.Planted, probes.Planted]) -> dict[str, bool]:
    """Each hole is planted, looked for, and closed again."""
    found = {}
    for table in HOLES:
        seen = probes.Tally()
        world.sql(f"alter table {table} disable row level security")
        probes.pool(world, world.db.database, clinics, 1, seen)
        world.sql(f"alter table {table} enable row level security")
        found[f"{table} without row security"] = any(table in name for name in seen.foreign)
    with world.db.connect() as conn:
        for table in HOLES:
            with conn.transaction(force_rollback=True):
                conn.execute(f"alter table {table} no force row level security")  # type: ignore[arg-type]
                texts = faults(conn)
            found[f"{table} without FORCE"] = any(text.startswith(f"{table}: row-level") for text in texts)
        found["nothing planted, nothing found"] = faults(conn) == []
    return found


def main() -> int:
    """Run, write build/isolation.json, and fail where a goal is missed."""
    parser = argparse.ArgumentParser(prog="make isolation")
    parser.add_argument("--quick", action="store_true", help=f"{QUICK} probes instead of {WHOLE}")
    goal = QUICK if parser.parse_args().quick else WHOLE
    # Every stranger at the door is a warning, and strangers come by the dozen here.
    logs.configure("isolation", level="error")
    began = time.monotonic()
    with standalone() as world:
        tally, ways, caught = run(world, goal)
    missed = sorted(name for name, seen in caught.items() if not seen)
    for name in sorted(set(tally.foreign)):
        print(f"saw the other clinic: {name} ({tally.foreign.count(name)} times)", file=sys.stderr)
    for name in missed:
        print(f"planted and not noticed: {name}", file=sys.stderr)
    goals = [
        Goal("probes", tally.probes, goal),
        Goal("foreign rows", len(tally.foreign), 0, at_least=False),
        Goal("planted holes not noticed", len(missed), 0, at_least=False),
    ]
    return record(
        "isolation", goals, probes=tally.probes, probes_by_way=ways, foreign_rows=len(tally.foreign),
        foreign=sorted(set(tally.foreign)), mutants_caught=caught, seconds=round(time.monotonic() - began, 1),
        seed=7, versions=versions(["radfleet", "psycopg", "pynetdicom", "pydicom", "fastapi", "uvicorn"], {}),
    )  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
