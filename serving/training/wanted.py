"""What a flag's verdict asks for: whose version, which tiers; and the promotion that a made version is proposed by."""

from registry import clinics
from registry.core.db import Conn
from registry.promotions import moves
from serving.training import wanted_store
from serving.training.errors import CureUnclear
from serving.training.wanted_store import Wanted


def by_flag(conn: Conn, number: int) -> Wanted:
    """Clinic, task and tiers of a flag whose verdict asks for a cure: recalibrate is tier T1 alone, fine_tune all.

    Needs a system transaction. Raises CureUnclear where the verdict asks for none.
    """
    found = wanted_store.by_flag(conn, number)
    if found is None or not found.tiers:
        verdict = (
            "there is no such open flag" if found is None else f"its verdict is {found.verdict or 'none yet'}"
        )
        raise CureUnclear(f"flag {number} asks for no cure: {verdict}")
    return found


def propose(conn: Conn, ask: Wanted, digest: str, *, by: str) -> str:
    """Request the promotion of a made version, in the scope in which the flag arose; returns what comes next.

    The gates judge it, and another person approves it. Raises what ``moves.request`` raises.
    """
    reason = f"flag {ask.number}: {ask.verdict.replace('_', '-')}"
    made = moves.request(
        conn, clinics.by_slug(conn, ask.clinic), ask.task, digest, ask.scope, by=by, reason=reason
    )
    return f"another person approves promotion {made.id}: radfleet promotion approve {made.id}"
