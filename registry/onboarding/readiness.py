"""What a clinic still needs before its first study is answered and its result delivered."""

from collections.abc import Sequence
from dataclasses import dataclass

from registry import clinics_store
from registry.clinics_store import Clinic, Readiness
from registry.core.db import Conn


@dataclass(frozen=True, slots=True)
class Step:
    """One thing a clinic needs; ``cure`` is the command that brings it, empty when it is there."""

    name: str
    done: bool
    what: str
    cure: str


def check(conn: Conn, clinic: Clinic) -> Sequence[Step]:
    """The steps in their order. Needs a system transaction.

    The echo to a clinic's destinations is ``radfleet destination check``; the echo from its devices is a C-ECHO
    that they send.
    """
    return steps(clinic, clinics_store.readiness(conn, clinic.id))


def steps(clinic: Clinic, has: Readiness) -> Sequence[Step]:
    """The same from counts alone."""
    slug = clinic.slug
    way_in = has.peers + has.keys
    key_text = f"{has.keys} valid, until {has.key_expires_at:%Y-%m-%d}" if has.key_expires_at else "none"
    return [
        _step("state", clinic.state != "suspended", clinic.state, f"radfleet clinic activate {slug}"),
        _step("sender", way_in > 0, f"{has.peers} on the wire",
              f"radfleet clinic peer add {slug} --calling AE --address CIDR; then send a C-ECHO from the device"),
        _step("key", way_in > 0, key_text, f"radfleet clinic key add {slug}, where it sends over HTTP"),
        _step("binding", has.bindings > 0, f"{has.bindings} open",
              f"radfleet binding set {slug} TASK VERSION --reason TEXT"),
        _step("destination", has.destinations > 0, f"{has.destinations} active",
              f"radfleet destination add {slug} NAME --host HOST --port PORT --ae-title AE"),
        _step("delivery", not has.held, "held" if has.held else "not held",
              f"radfleet hold release clinic {slug} --reason TEXT"),
        _step("study", has.done > 0, f"{has.studies} received, {has.done} answered",
              f"radfleet study list --clinic {slug}" if has.studies else "radfleet study send PATH"),
    ]  # fmt: skip


def _step(name: str, done: bool, what: str, cure: str) -> Step:
    return Step(name, done, what, "" if done else cure)
