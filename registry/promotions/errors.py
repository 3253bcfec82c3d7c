"""Every failure of the promotion line by name."""

from registry.core.errors import Conflict, Forbidden, Invalid, NotFound, Unmet


class PromotionUnknown(NotFound):
    """There is no promotion of this number."""

    code = "promotion.unknown"
    cure = "Run radfleet promotion list for the known numbers."


class PromotionOpen(Conflict):
    """A promotion of this clinic, task and scope is open already."""

    code = "promotion.open"
    why = "Two open ones would be decided on the same binding, and one of them must come to nothing."
    cure = "See radfleet promotion list --open; apply it, or end it with radfleet promotion withdraw."


class PromotionState(Conflict):
    """This promotion is in another state."""

    code = "promotion.state"
    why = "A promotion goes from proposed to approved to active; withdrawn and stale are ends."
    cure = "See radfleet promotion show; where it has ended, make a new radfleet promotion request."


class PromotionStale(Conflict):
    """The binding changed after this promotion was requested, so it has ended as stale."""

    code = "promotion.stale"
    why = "It was judged against a version that no longer answers there."
    cure = "Look at radfleet binding show CLINIC and make a new radfleet promotion request."


class VersionBound(Conflict):
    """This version answers there already."""

    code = "promotion.version_bound"
    cure = "Choose another version, or leave it as it is: radfleet binding show CLINIC."


class SamePerson(Forbidden):
    """Who proposed a promotion does not approve it."""

    code = "promotion.same_person"
    why = "Two people look at every promotion."
    cure = "Ask another person whose role is ml or admin to run radfleet promotion approve."


class GatesUnmet(Unmet):
    """Not every gate passes."""

    code = "promotion.gates_unmet"
    cure = "See radfleet promotion show; add evidence, or name a gate with --waive and say why with --reason."


class PromotionNeeded(Forbidden):
    """Other versions answered there, and this one never did."""

    code = "promotion.needed"
    why = "Only a first version, and one that answered in this scope before, is bound by one person alone."
    cure = "Run radfleet promotion request CLINIC TASK VERSION --reason TEXT; a second account approves it."


class GateUnknown(Invalid):
    """There is no gate of this name."""

    code = "promotion.gate_unknown"
    cure = "Use the names that radfleet promotion show prints: clinic, global."


class NowhereBack(Unmet):
    """No earlier version to go back to."""

    code = "promotion.nowhere_back"
    why = "A rollback binds only a version that was bound here, in this scope, before the present one."
    cure = (
        "See radfleet binding history CLINIC; stop delivery with radfleet hold place if nothing may be sent."
    )


class RolledBack(Conflict):
    """The present binding is itself a rollback."""

    code = "promotion.rolled_back"
    why = "Of two people who roll back at once, the second would go one version further without meaning to."
    cure = "See radfleet binding history CLINIC; to go further back give --expected-seq."


class EvidenceInvalid(Invalid):
    """This is not evidence."""

    code = "promotion.evidence_invalid"
    why = "Evidence is one JSON object: version, metric, dataset, people (a score by pseudonym), perhaps clinic."
    cure = "Correct the field that is named; registry/promotions/evidence.schema.json is the schema."


class PolicyInvalid(Invalid):
    """These margins cannot be used."""

    code = "promotion.policy_invalid"
    cure = "Give at least 6 people for each gate, losses between 0 and 1, and a metric in lower-case letters."
