"""The work list: what to do first, and why."""

from collections.abc import Sequence

from monitoring.web import words
from monitoring.web.desk import Visit
from monitoring.web.render import Page
from monitoring.worklist import gather, ranking
from monitoring.worklist.ranking import Item, Urgency

SHOWN = 100
# The kinds of status (words): red is harm or silence, yellow waits for a person, hollow may wait.
KINDS = dict.fromkeys((Urgency.HARM, Urgency.SILENT), words.BAD)
KINDS |= dict.fromkeys((Urgency.ROUTINE, Urgency.POINTED, Urgency.SEEN), words.NONE)


def show(visit: Visit) -> Page:
    """The page: of a clinic's account its clinic alone, without onboarding, which is the fleet's to decide."""
    me = visit.who.account
    with visit.reading() as conn:
        items = gather.watched(conn, me)
    if not visit.who.clinic_id:
        items += gather.onboardings(visit.desk.db, me)
    found = ranking.ranked(items)
    rows = [it.plain() | {"kind": KINDS.get(it.urgency, words.WATCH)} for it in found[:SHOWN]]
    if visit.who.clinic_id:  # a command needs an account of the fleet
        rows = [row | {"command": ""} for row in rows]
    return Page("work.html", "/work", heading(found), {"items": rows, "all": len(found)})


def heading(found: Sequence[Item]) -> str:
    """What to do first, in a sentence."""
    if not found:
        return "Nothing to do: no flag, no study to read, no onboarding waits for anybody."
    first = found[0]
    do = first.do[:1].lower() + first.do[1:]
    return f"{words.count(len(found), 'thing')} to do, first at {first.clinic}: {do}."
