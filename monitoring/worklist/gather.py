"""Gathers the work list of one person, for the page and for the command line."""

from monitoring import flags_store
from monitoring.onboarding import standing
from monitoring.worklist import ranking, worklist_store
from monitoring.worklist.ranking import HARM_RULES, HOLD_RULE, Item
from registry import clinics
from registry.core.db import Conn, Database

ONBOARDINGS_MAX = 30
"""Each costs a dozen statements; the longest on its way come first."""


def watched(conn: Conn, me: str, clinic: str | None = None) -> list[Item]:
    """What flags, verdicts, silence and drawn studies ask of ``me``, in no order; the transaction says where."""
    flags = flags_store.flags(conn, clinic, resolved=False, limit=worklist_store.ROWS_MAX)
    items = [ranking.flag(row) for row in flags]
    rules = [*HARM_RULES, HOLD_RULE]
    items += [ranking.verdict(row) for row in worklist_store.verdicts(conn, clinic, rules)]
    items += [ranking.silence(row) for row in worklist_store.silent(conn, clinic)]
    items += [ranking.drawn(row) for row in worklist_store.drawn(conn, clinic, me)]
    items += [ranking.pointed(row) for row in worklist_store.pointed(conn, clinic)]
    return [it for it in items if it is not None]


def onboardings(db: Database, me: str, clinic: str | None = None) -> list[Item]:
    """What the onboardings on their way ask of ``me``, in no order."""
    with db.system() as conn:
        rows = worklist_store.onboarding(conn, clinic, ONBOARDINGS_MAX)
        its = [clinics.by_slug(conn, row["clinic"]) for row in rows]
    items = []
    for row, one in zip(rows, its, strict=True):
        found = standing.of(db, one)
        first = next((step for step in found.steps if not step.done), None)
        if first is not None:
            proposed = [a.proposed_by for a in found.acceptances if a.state == "proposed"]
            missing = [{"what": m.what, "who": m.who, "cure": m.cure} for m in first.missing]
            items.append(
                ranking.step(
                    one.slug, first.name, missing, since=row["begun_at"], proposed_by=proposed, me=me
                )
            )
    return [it for it in items if it is not None]
