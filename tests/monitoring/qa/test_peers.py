"""A clinic among its peers: percentiles in groups of five and more, of what has cases enough."""

from typing import Any

import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitoring.qa import daily, peers, peers_store
from monitoring.qa.peers import Figure, Standing, standings
from tests.kit.world import World
from tests.monitoring.fleet import TASK, Clinic, drain

MODEL = "ms-lesion@1.0.0"


def group(values: list[float], name: str = "failed", model: str = MODEL) -> list[Figure]:
    return [Figure(f"c{i}", "ms-lesion", model, name, value, 60) for i, value in enumerate(values)]


def of(figures: list[Figure], clinic: str = "c0", name: str = "failed") -> Standing | None:
    return standings(figures).get((clinic, "ms-lesion", MODEL), {}).get(name)


def knows_its_place() -> bool:
    """Whether a place is what it must be: fewer failures are better, more Dice is, equals count half, five at least."""
    return (
        of(group([0.1, 0.2, 0.3, 0.0, 0.1])) == Standing(62.5, 4)
        and of(group([0.9, 0.8, 0.8, 0.8, 0.8, 0.8], "dice"), name="dice") == Standing(100, 5)
        and of(group([0.1, 0.2, 0.3, 0.0])) is None
        and of([*group([0.1, 0.2, 0.3]), *group([0.0, 0.4], model="other@1")]) is None
    )


def test_a_place_among_five_is_said_and_among_four_is_not() -> None:
    assert knows_its_place()


MUTANTS: dict[str, tuple[str, Any]] = {
    "a group of one is enough": ("CLINICS_LEAST", 1),
    "takes every figure for a failure": ("MORE_IS_BETTER", frozenset()),
    "counts equals as worse": ("bisect_left", peers.bisect_right),
}


@pytest.mark.parametrize("mutant", MUTANTS)
def test_a_planted_fault_is_caught(mutant: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peers, *MUTANTS[mutant])
    assert not knows_its_place()


@given(st.lists(st.sampled_from([0.0, 0.1, 0.2, 0.5]), min_size=5, max_size=30))
def test_places_are_between_0_and_100_and_balance(values: list[float]) -> None:
    """Whoever is better than some is worse than others: places are 50 on the mean."""
    found = [of(group(values), f"c{i}") for i in range(len(values))]
    places = [one.percentile for one in found if one]
    assert len(places) == len(values)
    assert all(0 <= place <= 100 for place in places)
    assert sum(places) / len(places) == pytest.approx(50)


def test_figures_are_kept_daily_from_rows_and_no_clinic_reads_them(world: World) -> None:
    world.version()
    for n in range(5):
        its = Clinic(world, slug=f"peer{n}")
        world.bind(its.id)
        its.many(50)
        world.sql(
            "update registry.job set payload = jsonb_build_object('task', %s::text), finished_at = now(), "
            "state = case when study_id = any(%s) then 'dead' else 'done' end where clinic_id = %s",
            TASK, its.studies[:n], its.id,
        )  # fmt: skip
        world.sql(
            "insert into serving.attempt(clinic_id, job_id, study_id, revision, fence, task, binding_scope, "
            "binding_seq, digest) select clinic_id, id, study_id, 1, 1, %s, '*', 1, %s from registry.job "
            "where clinic_id = %s and state = 'dead'", TASK, its.digest, its.id,
        )  # fmt: skip
    drain(world)
    turns = daily.Figures(world.db.database)
    assert turns.turn() == 5
    assert daily.Figures(world.db.database).turn() == 0, "once a day"
    with world.db.database.monitor() as conn:
        found = standings(peers_store.beside(conn, "peer0"))
    places = {clinic: of_it["failed"] for (clinic, *_), of_it in found.items()}
    assert places == {f"peer{n}": Standing(100 - 25 * n, 4) for n in range(5)}
    with pytest.raises(psycopg.errors.InsufficientPrivilege), world.db.database.tenant(its.id) as conn:
        conn.execute("select * from monitoring.figure")
