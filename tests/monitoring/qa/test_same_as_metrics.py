"""The same rows, the same numbers: what /metrics exports of quality is what `monitor qa` counts."""

from datetime import timedelta
from uuid import UUID

from monitoring.qa import qa_store
from monitoring.qa.metrics import By, Metrics, metrics
from tests.kit.world import DIGEST_A, World
from tests.monitoring import fleet
from tests.monitoring.metrics.test_collector import Read, at, read

REVIEW = """
insert into serving.review(clinic_id, study_id, revision, task, result_id, digest, decision, reader, blinded, dice,
  delivered_ml, corrected_ml, mask_kind, mask_path, mask_size, mask_sha256)
values (%s, %s, 1, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)"""


def told(world: World, days: int) -> Metrics:
    """The QA metrics of clinic north over a window."""
    window = timedelta(days=days)
    with world.db.database.monitor() as conn:
        now = qa_store.now(conn)
        rows = qa_store.outcomes(conn, "north", now - window), qa_store.reviews(conn, "north", now - window)
        (found,) = metrics(*rows, By.CLINIC, now, window, qa_store.last_studies(conn, "north"))
    return found


def reviewed(world: World, north: fleet.Clinic) -> None:
    """Two readers of one study, blinded; three open ones; one without a mask; one that was withdrawn."""
    for number, (study, reader, decision, blinded, dice) in enumerate((
        (0, "ada", "edit", True, 0.8), (0, "bea", "edit", True, 0.6), (1, "ada", "edit", True, 0.5),
        (1, "bea", "edit", False, 0.9), (2, "bea", "accept", False, None), (3, "ada", "reject", False, None),
        (4, "ada", "edit", False, 0.1),
    )):  # fmt: skip
        its = north.studies[study]
        ((result,),) = world.sql("select id from serving.result where study_id = %s", its)
        mask = (None,) * 6 if dice is None else (1.0, 1.0, "nifti", f"m{number}", 1, bytes(32))
        world.sql(
            REVIEW, north.id, its, fleet.TASK, result, DIGEST_A, decision, reader, blinded, dice, *mask
        )  # fmt: skip
    world.sql("update serving.review set withdrawn_at = now(), withdrawn_by = 'ada', withdrawn_reason = 'wrong study'"
              " where study_id = %s", north.studies[4])  # fmt: skip


def of(scrape: Read, name: str, label: str, **labels: str) -> dict[str, float]:
    """Values by one label of the samples that carry the others."""
    want = labels.items()
    return {
        dict(have)[label]: value for (found, have), value in scrape.items() if found == name and want <= {*have}
    }  # fmt: skip


def test_the_same_rows_give_the_same_numbers(world: World) -> None:
    world.version()
    north = fleet.Clinic(world)
    world.bind(north.id)
    north.many(9)
    bad: list[tuple[UUID, str]] = []
    for number, state in enumerate(("rejected", "dead", "dead")):
        bad.append((world.study(north.id, uid=f"1.9.{number}", state=state), state))
    world.sql(
        "update registry.job set state = 'done', payload = jsonb_build_object('task', %s::text)", fleet.TASK
    )
    world.sql("update serving.study set finished_at = now(), last_at = now() - interval '1 min'")
    reviewed(world, north)
    scrape, day, month = read(world), told(world, 1), told(world, 30)
    ended = of(scrape, "radfleet_studies_ended_24h", "outcome", clinic="north")
    assert ended == {"done": day.failed.n - day.failed.count - day.rejected.count, "dead": day.failed.count,
                     "rejected": day.rejected.count}  # fmt: skip
    assert ended == {"done": 9, "rejected": 1, "dead": 2}
    said: dict[str, float] = {}
    for blinded in ("yes", "no"):
        for decision, count in of(
            scrape, "radfleet_reviews_30d", "decision", clinic="north", blinded=blinded
        ).items():
            said[decision] = said.get(decision, 0) + count
    assert said == month.decisions == {"accept": 1, "edit": 4, "reject": 1}
    for blinded, name, n, mean in (("yes", "blinded", 2, 0.6), ("no", "open", 1, 0.9)):
        labels = {"clinic": "north", "task": fleet.TASK, "blinded": blinded}
        assert at(scrape, "radfleet_review_dice_cases", **labels) == month.dice[name].n == n
        value = at(scrape, "radfleet_review_dice", **labels)
        assert value is not None and month.dice[name].mean is not None
        assert abs(value - month.dice[name].mean) < 1e-12 and abs(value - mean) < 1e-9
