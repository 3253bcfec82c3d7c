"""The steps of a clinic's way, computed from what is there: what is missing, and who has to do it. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

from monitoring.judge.verdict import LEVEL, Word
from monitoring.onboarding import acceptance
from monitoring.onboarding.acceptance import Trial
from monitoring.onboarding.facts_store import Bound
from registry.clinics_store import Clinic, Readiness
from registry.onboarding.decisions_store import Acceptance, Onboarding
from registry.vendors import written

STEPS: Final = (
    "registered",
    "connectivity",
    "conformance",
    "silent_run",
    "acceptance",
    "active",
    "probation",
)
DONE: Final = "onboarded"
ABSENT: Final = "not_begun"
QA, ML, THEM, ONCALL = "QA team", "ML engineer", "clinic", "on-call"


@dataclass(frozen=True, slots=True)
class Missing:
    """One thing that is missing: what, who brings it, and how."""

    what: str
    who: str
    cure: str


@dataclass(frozen=True, slots=True)
class Step:
    """One step. ``what``: its evidence in words; ``waived``: who let it pass, and why, else empty."""

    name: str
    what: str
    missing: tuple[Missing, ...] = ()
    waived: str = ""

    @property
    def done(self) -> bool:
        """Nothing is missing, or somebody let it pass."""
        return not self.missing or bool(self.waived)


@dataclass(frozen=True, slots=True)
class Facts:
    """All that the steps are computed from. ``judged``: tasks that a standard speaks of; times by the DB's clock."""

    clinic: Clinic
    onboarding: Onboarding
    readiness: Readiness
    now: datetime
    bound: Sequence[Bound] = ()
    judged: frozenset[str] = frozenset()
    arrivals: Sequence[Mapping[str, Any]] = ()
    echoes: Sequence[Mapping[str, Any]] = ()
    newest: Sequence[Mapping[str, Any]] = ()
    trials: Mapping[str, Trial] = field(default_factory=dict)
    acceptances: Sequence[Acceptance] = ()
    first_delivered: datetime | None = None

    @property
    def signed(self) -> Mapping[str, Acceptance]:
        """The first signed acceptance of each task."""
        return {a.task: a for a in reversed(self.acceptances) if a.state == "signed"}


def steps(facts: Facts) -> list[Step]:
    """All seven in their order; a later one may be fulfilled before an earlier one is."""
    return [
        _registered(facts), _connectivity(facts), _waivable(facts, _conformance(facts)),
        _waivable(facts, _silent_run(facts)), _acceptance(facts), _active(facts), _probation(facts),
    ]  # fmt: skip


def state(found: Sequence[Step]) -> str:
    """The first step that is not done."""
    return next((step.name for step in found if not step.done), DONE)


def _registered(facts: Facts) -> Step:
    has, slug, missing = facts.readiness, facts.clinic.slug, []
    if not has.peers + has.keys:
        missing.append(Missing("no sender and no key", QA, f"radfleet clinic peer add {slug} --calling AE"))
    if not facts.bound:
        missing.append(
            Missing("no version is bound", ML, f"radfleet binding set {slug} TASK VERSION --reason TEXT")
        )
    what = (
        f"{has.peers} senders, {has.keys} keys; {', '.join(b.model for b in facts.bound) or 'nothing'} bound"
    )
    return Step("registered", what, tuple(missing))


def _connectivity(facts: Facts) -> Step:
    slug, missing, said = facts.clinic.slug, [], []
    heard = [a for a in facts.arrivals if a["door"] != "submit"]
    if heard:
        said += [f"{a['instances']} instances of {a['studies']} studies by {a['door']}" for a in heard]
    else:
        missing.append(
            Missing("nothing came in from its own senders", THEM, "send one study from the scanner")
        )
    if not facts.echoes:
        cure = f"radfleet destination add {slug} NAME --host HOST --port PORT --ae-title AE"
        missing.append(Missing("no destination", QA, cure))
    for echo in facts.echoes:
        name, call = echo["destination"], f"radfleet destination check {slug}"
        if echo["ok"] is None or not echo["present"]:
            missing.append(Missing(f"{name} was not called at its present address", QA, call))
        elif not echo["ok"]:
            missing.append(
                Missing(f"{name} did not answer ({echo['code']})", THEM, f"open its archive to us; {call}")
            )
        else:
            said.append(f"{name} answered in {echo['milliseconds']:.0f} ms")
    return Step("connectivity", "; ".join(said) or "nothing yet", tuple(missing))


def _conformance(facts: Facts) -> Step:
    asked, slug, missing, said = facts.onboarding, facts.clinic.slug, [], []
    for b in facts.bound:
        if b.task not in facts.judged:
            said.append(f"{b.task}: no rule speaks of it")
            continue
        rows = [row for row in facts.newest if row["task"] == b.task]
        if not any(row["studies"] >= asked.conform_studies for row in rows):
            most = max((row["studies"] for row in rows), default=0)
            missing.append(Missing(
                f"{b.task}: {most} of {asked.conform_studies} studies of one scanner are judged", THEM,
                "send studies; they are judged when they are answered",
            ))  # fmt: skip
        for row in rows:
            where = f"{b.task} on {written(row['scanner'])}"
            said.append(f"{where}: {row['fit']} of {row['studies']} fit")
            if row["fit"] < asked.conform_share * row["studies"]:
                unsaid = f", {row['unknown']} headers do not say" if row["unknown"] else ""
                missing.append(Missing(
                    f"{where}: {row['fit']} of its newest {row['studies']} fit{unsaid}", THEM,
                    f"change its protocol as radfleet clinic conformance {slug} advises",
                ))  # fmt: skip
    return Step("conformance", "; ".join(said) or "nothing judged yet", tuple(missing))


def _silent_run(facts: Facts) -> Step:
    asked, slug, missing, said = facts.onboarding, facts.clinic.slug, [], []
    for b in facts.bound:
        of = [f"{b.past} of its past" if b.past else "", f"{b.simulated} simulated" if b.simulated else ""]
        more = f" ({', '.join(part for part in of if part)})" if any(of) else ""
        said.append(f"{b.task}: {b.studies} of {asked.silent_studies} studies{more}")
        if b.studies < asked.silent_studies:
            missing.append(Missing(
                f"{b.task}: {asked.silent_studies - b.studies} more studies", THEM,
                f"send studies, or take over its past: radfleet study backfill {slug} TABLE --task {b.task}",
            ))  # fmt: skip
        if b.open_flags:
            missing.append(
                Missing(f"{b.task}: {b.open_flags} open flags", QA, f"radfleet flag list --clinic {slug}")
            )
    return Step("silent_run", "; ".join(said) or "nothing bound", tuple(missing))


def _acceptance(facts: Facts) -> Step:
    slug, missing, said = facts.clinic.slug, [], []
    for b in facts.bound:
        signed = facts.signed.get(b.task)
        if signed:
            said.append(
                f"{b.task}: {signed.model} by {signed.reviews} reviews, {signed.minutes:.0f} expert minutes, signed by "
                f"{signed.proposed_by} and {signed.signed_by}"
            )
            continue
        trial = facts.trials[b.task]
        said.append(f"{b.task}: {trial.sentence} {trial.minutes:.0f} expert minutes.")
        missing.append(_unsigned(facts, b, trial, slug))
    return Step("acceptance", " ".join(said) or "nothing bound", tuple(missing))


def _unsigned(facts: Facts, b: Bound, trial: Trial, slug: str) -> Missing:
    command = f"radfleet clinic accept {slug} --task {b.task} --reason TEXT"
    if trial.word is acceptance.Word.REFUSED:
        return Missing(
            f"{b.task}: its cases refuse {b.model}",
            ML,
            f"radfleet model finetune --clinic {slug} --task {b.task}",
        )
    if trial.word is acceptance.Word.UNDECIDED:
        more = f"about {trial.more} more blinded reviews" if trial.more else "more blinded reviews"
        cure = "radfleet review add STUDY --decision edit --mask FILE --blinded --minutes M"
        return Missing(f"{b.task}: {more}", QA, cure)
    proposed = next((a for a in facts.acceptances if a.task == b.task and a.digest == b.digest), None)
    if proposed is None:
        return Missing(f"{b.task}: nobody proposed its acceptance", QA, command)
    return Missing(f"{b.task}: the signature of another person than {proposed.proposed_by}", QA, command)


def _active(facts: Facts) -> Step:
    slug, missing = facts.clinic.slug, []
    unsigned = [b.task for b in facts.bound if b.task not in facts.signed]
    if unsigned or not facts.bound:
        missing.append(Missing("acceptance comes first: answers are kept, not delivered", QA,
                               f"radfleet clinic onboard {slug}"))  # fmt: skip
    if facts.clinic.state == "suspended":
        missing.append(Missing("the clinic is suspended", QA, f"radfleet clinic activate {slug}"))
    if facts.readiness.held:
        missing.append(
            Missing("a hold stops delivery", QA, f"radfleet hold release clinic {slug} --reason TEXT")
        )
    if not missing and facts.first_delivered is None:
        missing.append(Missing("no result was delivered since the signature", THEM, "send the next study"))
    at = (
        f"first result delivered {facts.first_delivered:%Y-%m-%d %H:%M} UTC"
        if facts.first_delivered
        else "not yet"
    )
    return Step("active", at, tuple(missing))


def _probation(facts: Facts) -> Step:
    slug, days, missing = facts.clinic.slug, facts.onboarding.probation_days, []
    begun = max((a.signed_at for a in facts.signed.values() if a.signed_at), default=None)
    if begun is None or len(facts.signed) < len(facts.bound) or not facts.bound:
        return Step("probation", "begins with the signature", (Missing("not begun", QA, "acceptance first"),))
    left = begun + timedelta(days=days) - facts.now
    if left > timedelta(0):
        missing.append(
            Missing(f"{left.days + 1} more days without harm", QA, f"radfleet monitor explain {slug}")
        )
    for b in facts.bound:
        if b.open_flags:
            missing.append(
                Missing(f"{b.task}: {b.open_flags} open flags", QA, f"radfleet flag list --clinic {slug}")
            )
        if b.verdict and LEVEL[Word(b.verdict)] > 1:
            missing.append(Missing(f"{b.task}: the verdict is {b.verdict.replace('_', ' ')}", ML,
                                   f"radfleet monitor explain {slug}"))  # fmt: skip
    return Step("probation", f"since {begun:%Y-%m-%d}, {days} days", tuple(missing))


def _waivable(facts: Facts, step: Step) -> Step:
    its = facts.onboarding.waived.get(step.name)
    if its is None or not step.missing:
        return step
    return Step(step.name, step.what, step.missing, f"waived by {its['by']}: {its['reason']}")
