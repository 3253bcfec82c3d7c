"""What a page says to do is so: what was given up is not on its way, and what waits is on the list."""

from datetime import UTC, datetime

import pytest

from monitoring.web.desk import Desk, Visit
from monitoring.web.pages import promotion
from monitoring.web.pages.study import heading
from registry.sign_in.sessions_store import Session
from tests.kit.db import FreshDb
from tests.registry.promoting import begin

DONE = {"state": "done"}


@pytest.mark.parametrize(
    ("states", "silent", "said"),
    [
        (["delivered", "ready"], False, "Answered; 1 object of 2 still to be delivered."),
        (["delivered", "failed", "ready"], False, "Answered, and 1 object of 3 given up: see what the archive said, "
         "then radfleet study retry."),
        (["delivered"], False, "Nothing to do: answered by 1 version, all objects delivered."),
        ([], False, "Answered, and delivered to nobody: no destination is set for this clinic."),
        ([], True, "Answered silently: nothing is delivered until two people have accepted this clinic's answers."),
    ],
)  # fmt: skip
def test_the_sentence_of_an_answered_study(states: list[str], silent: bool, said: str) -> None:
    assert (
        heading(DONE, [{"blind": False}], [{"state": state} for state in states], None, silent=silent) == said
    )


def test_a_promotion_that_waits_is_listed_however_many_came_after_it(fresh_db: FreshDb) -> None:
    line = begin(fresh_db)
    waiting = line.request().id
    with fresh_db.connect() as conn:
        conn.execute(
            "insert into registry.promotion(clinic_id, task, scope, kind, state, digest, active_digest, expected_seq,"
            " restored_seq, proposed_by, reason) select clinic_id, task, '*', 'rollback', 'active', active_digest,"
            " digest, 1, 1, 'anna', 'worse' from registry.promotion, generate_series(1, 101)"
        )
    who = Session("anna", "admin", None, None, datetime.now(UTC), None)
    page = promotion.many(Visit(Desk(fresh_db.settings, fresh_db.database), who, {}, {}))
    assert page.heading == "1 promotion waits for approval."
    assert page.facts["promotions"][0]["id"] == waiting
