"""What a flag's verdict asks for becomes a cure of that tier, and a promotion that another person must approve."""

import pytest

from serving.training import wanted
from serving.training.errors import CureUnclear
from tests.kit.db import FreshDb
from tests.kit.registry_rows import TASK
from tests.kit.site import stream
from tests.kit.world import World
from tests.registry.promoting import begin


@pytest.mark.parametrize(
    ("verdict", "tiers"), [("recalibrate", ("T1",)), ("fine_tune", ("T1", "T2")), ("watch", ())]
)
def test_a_flag_names_clinic_task_and_tier(
    fresh_db: FreshDb, world: World, verdict: str, tiers: tuple[str, ...]
) -> None:
    line = begin(fresh_db)
    its = line.another("parque")
    stream(world, its.id, line.version(1).digest, shifted=9, verdict=verdict, flag=True, sentence="Worse.")
    ((number,),) = world.sql("select id from monitoring.flag")
    with line.system() as conn:
        if not tiers:
            with pytest.raises(CureUnclear, match="its verdict is watch"):
                wanted.by_flag(conn, number)
            return
        ask = wanted.by_flag(conn, number)
        assert (ask.clinic, ask.task, ask.scope, ask.tiers) == ("parque", TASK, "*", tiers)
        told = wanted.propose(conn, ask, line.version(2).digest, by="ada")
    ((state, by, reason),) = world.sql("select state, proposed_by, reason from registry.promotion")
    assert (state, by) == ("proposed", "ada")
    assert reason.startswith(f"flag {number}: ")
    assert "another person approves" in told
    with line.system() as conn, pytest.raises(CureUnclear, match="no such open flag"):
        wanted.by_flag(conn, number + 1)
