"""Every failure of an onboarding by name."""

from registry.core.errors import Conflict, Forbidden, Invalid, NotFound, Unmet


class OnboardingAbsent(NotFound):
    """No onboarding of this clinic was begun."""

    code = "onboarding.absent"
    why = "Such a clinic is answered and delivered to as soon as a version is bound."
    cure = "Begin one with radfleet clinic onboard CLINIC --begin --reason TEXT, before its first result is delivered."


class OnboardingBegun(Conflict):
    """The onboarding of this clinic was begun already."""

    code = "onboarding.begun"
    cure = "See how far it is with radfleet clinic onboard CLINIC."


class OnboardingLate(Conflict):
    """Results were delivered to this clinic already."""

    code = "onboarding.late"
    why = "A silent run would stop what people there rely on."
    cure = "See how it does with radfleet monitor explain CLINIC; stop delivery with radfleet hold place."


class OnboardingMeasure(Invalid):
    """These measures of an onboarding cannot be used."""

    code = "onboarding.measure"
    cure = "Give 1 to 100000 silent studies, and 1 to 365 days of probation."


class StepFixed(Invalid):
    """This step cannot be waived."""

    code = "onboarding.step_fixed"
    why = "Without a way to the clinic or without its own cases nobody could say that it is served well."
    cure = "Use --waive with conformance or silent_run."


class StepWaived(Conflict):
    """This step was waived already."""

    code = "onboarding.step_waived"
    cure = "See who did and why with radfleet clinic onboard CLINIC."


class ReviewsMissing(Unmet):
    """The clinic's own cases do not decide yet."""

    code = "onboarding.reviews_missing"
    why = "A version is accepted by blinded reviews of this clinic's studies, until the odds are 20 to 1 either way."
    cure = "Add blinded reviews with radfleet review add STUDY --decision edit --mask FILE --blinded --minutes M."


class VersionRefused(Unmet):
    """The clinic's own cases refuse this version."""

    code = "onboarding.version_refused"
    why = "The odds are 20 to 1 or more that it is worse here than its contract says."
    cure = (
        "Make a candidate with radfleet model finetune, and promote it; its own reviews begin from nothing."
    )


class StepsMissing(Unmet):
    """An earlier step of the onboarding is not fulfilled."""

    code = "onboarding.steps_missing"
    cure = "See what is missing and who has to do it with radfleet clinic onboard CLINIC."


class AcceptedAlready(Conflict):
    """This version is accepted and signed for this clinic."""

    code = "onboarding.accepted_already"
    cure = "See radfleet clinic onboard CLINIC."


class SameSigner(Forbidden):
    """Who proposed an acceptance cannot sign it."""

    code = "onboarding.same_signer"
    why = "Two people look at the reviews before a clinic's patients depend on them."
    cure = "Let another account run the same radfleet clinic accept command."


class TaskUnbound(NotFound):
    """Nothing is bound to this clinic for this task."""

    code = "onboarding.task_unbound"
    cure = "Bind a version with radfleet binding set CLINIC TASK VERSION --reason TEXT."
