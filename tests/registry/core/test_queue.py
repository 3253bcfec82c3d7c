"""The fenced queue (promises P2, P3): one winner a job, zombies refused, nothing forgotten."""

import random
import threading
from uuid import UUID

import pytest

from registry.core import queue_store
from registry.core.queue_store import Fenced, Job
from tests.kit.world import World


def _claim(world: World, owner: str = "w", lease_s: float = 60) -> Job | None:
    with world.db.database.system() as conn:
        return queue_store.claim(conn, owner, ["infer"], lease_s)


def _finish(world: World, job: Job) -> None:
    with world.db.database.tenant(job.clinic_id) as conn:
        queue_store.finish(conn, job)


def _expire(world: World) -> None:
    world.sql("update registry.job set lease_until = now() - interval '1 s' where state = 'leased'")
    with world.db.database.system() as conn:
        queue_store.reap(conn)
    world.sql("update registry.job set run_at = now() where state = 'ready'")


def test_a_zombie_is_refused_and_its_successor_wins(world: World) -> None:
    clinic = world.clinic()
    world.job(clinic, world.study(clinic))
    zombie = _claim(world)
    assert zombie is not None
    _expire(world)
    successor = _claim(world)
    assert successor is not None
    assert successor.fence > zombie.fence
    for late in (_finish, lambda w, j: _beat(w, j)):
        with pytest.raises(Fenced):
            late(world, zombie)
    _finish(world, successor)
    assert world.sql("select state, attempts from registry.job") == [("done", 2)]


def _beat(world: World, job: Job) -> None:
    with world.db.database.system() as conn:
        queue_store.beat(conn, job)


def test_the_mutant_without_a_fence_is_caught(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same scenario with the fence taken out of FINISH must fail: this test can tell the difference."""
    monkeypatch.setattr(queue_store, "FINISH", queue_store.FINISH.replace("and fence = %(fence)s", ""))
    with pytest.raises(pytest.fail.Exception, match="DID NOT RAISE"):
        test_a_zombie_is_refused_and_its_successor_wins(world)


def test_nobody_is_to_blame_while_the_server_was_down(world: World) -> None:
    clinic = world.clinic()
    world.job(clinic, world.study(clinic))
    assert _claim(world) is not None
    world.sql("update registry.job set lease_until = now() - interval '1 s'")
    with world.db.database.system() as conn:
        assert queue_store.reap(conn, grace_s=1e9) == [], "the server began within the grace"
        assert len(queue_store.reap(conn)) == 1


def test_a_job_dies_after_three_claims_and_comes_back_by_command(world: World) -> None:
    clinic = world.clinic()
    study = world.study(clinic)
    world.job(clinic, study)
    for _ in range(3):
        assert _claim(world) is not None
        _expire(world)
    assert _claim(world) is None
    assert world.sql("select state, last_error from registry.job") == [("dead", "core.lease_expired")]
    with world.db.database.tenant(clinic) as conn:
        assert queue_store.requeue(conn, clinic, study, 1) == 1
    assert _claim(world) is not None


def test_an_away_dependency_burns_no_attempt(world: World) -> None:
    clinic = world.clinic()
    world.job(clinic, world.study(clinic))
    for _ in range(5):
        job = _claim(world)
        assert job is not None
        with world.db.database.tenant(clinic) as conn:
            assert queue_store.release(conn, job, "engine.away", burn=False, wait_s=0) == "ready"
    assert world.sql("select attempts from registry.job") == [(0,)]


def test_lanes_order_and_a_backlog_leaves_room_for_others(world: World) -> None:
    busy, quiet = world.clinic("busy"), world.clinic("quiet")
    study = world.study(busy)
    for i in range(20):
        world.job(busy, study, f"b{i}")
    world.job(busy, study, "urgent", "stat")
    world.job(quiet, world.study(quiet), "q")
    claims = [_claim(world) for _ in range(4)]
    owners = [job.clinic_id for job in claims if job]
    # in_flight_max is 2: the busy clinic gets two leases, its stat job first, and the other clinic is not starved.
    assert owners == [busy, busy, quiet]
    first = world.sql("select dedup_key from registry.job where id = %s", claims[0].id if claims[0] else 0)
    assert first == [("urgent",)]


def test_the_same_key_is_one_job(world: World) -> None:
    clinic = world.clinic()
    study = world.study(clinic)
    world.job(clinic, study, "same")
    with world.db.database.tenant(clinic) as conn:
        assert queue_store.add(conn, clinic, "infer", "same", study_id=study, revision=1) is None


@pytest.mark.slow
def test_chaos_of_pausing_workers_gives_exactly_one_result_a_job(world: World) -> None:
    clinic = world.clinic()
    world.sql("update registry.clinic set in_flight_max = 100")
    study = world.study(clinic)
    jobs = {world.job(clinic, study, f"j{i}") for i in range(120)}
    world.sql("update registry.job set max_attempts = 100")
    world.sql("create table result(job_id bigint)")
    world.sql("grant all on result to radfleet_app")
    stop, fenced = threading.Event(), []

    def work(seed: int) -> None:
        dice = random.Random(seed)
        while not stop.is_set():
            job = _claim(world, f"w{seed}", lease_s=0.04)
            if job is None:
                stop.wait(0.01)
                continue
            stop.wait(0.12 if dice.random() < 0.15 else 0.002)
            try:
                with world.db.database.tenant(clinic) as conn:
                    conn.execute("insert into result values (%s)", (job.id,))
                    queue_store.finish(conn, job)
            except Fenced:
                fenced.append(job.id)

    def reap() -> None:
        while not stop.wait(0.02):
            with world.db.database.system() as conn:
                queue_store.reap(conn)
            world.sql("update registry.job set run_at = now() where state = 'ready' and run_at > now()")

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)] + [threading.Thread(target=reap)]
    for thread in threads:
        thread.start()
    for _ in range(600):
        if world.sql("select count(*) from registry.job where state <> 'done'") == [(0,)]:
            break
        stop.wait(0.05)
    stop.set()
    for thread in threads:
        thread.join(10)
    results = [row[0] for row in world.sql("select job_id from result")]
    assert sorted(results) == sorted(jobs)
    assert fenced, "no worker was ever fenced: this run proved nothing"


def test_one_clinic_cannot_touch_anothers_job(world: World) -> None:
    mine, other = world.clinic("mine"), world.clinic("other")
    world.job(other, world.study(other))
    job = _claim(world)
    assert job is not None
    with pytest.raises(Fenced), world.db.database.tenant(mine) as conn:
        queue_store.finish(conn, job)
    assert isinstance(mine, UUID)
