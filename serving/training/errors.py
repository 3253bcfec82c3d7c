"""Everything that can stop a fine-tune, each with its cure. Whatever it is, the active version goes on answering."""

from registry.core.errors import Invalid, NotFound, RadfleetError, Unmet


class RecipeNone(NotFound):
    """There is no recipe to fine-tune this task."""

    code = "training.recipe_none"
    cure = "Use ms-lesion; other tasks get a new version from whoever makes their models."


class TierUnknown(Invalid):
    """That is no tier of a fine-tune."""

    code = "training.tier_unknown"
    cure = "Give T1 or T2, or leave --tier out: then they are tried in this order."


class CohortSmall(Unmet):
    """There are too few people to train on some and judge on others."""

    code = "training.cohort_small"
    why = "People are counted, not studies; who judges a version is never trained on."
    cure = "Review more people with a corrected mask: radfleet review add."


class MetricUnknown(Unmet):
    """The margins compare a score that a fine-tune does not measure."""

    code = "training.metric_unknown"
    cure = "Let somebody of qa set --metric dice with radfleet policy set, or evaluate by hand."


class NothingPasses(Unmet):
    """No tier makes a version that passes the gates; nothing was registered."""

    code = "training.nothing_passes"
    why = "A version that is not surely better, or that forgot what it could, helps nobody."
    cure = (
        "Review more people and run it again, or see radfleet model finetune --json for each tier's figures."
    )


class TrainerDied(RadfleetError):
    """The process that trained has ended without a report; nothing was registered."""

    code = "training.trainer_died"
    cure = "Run radfleet model finetune again: the cohort is kept. If it repeats, look for memory on this machine."


class CureUnclear(Invalid):
    """It is not clear what should be cured."""

    code = "training.cure_unclear"
    why = (
        "A cure is made for one task of one clinic, or for a flag whose verdict is recalibrate or fine_tune."
    )
    cure = "Give --clinic and --task, or --flag with such a flag from radfleet flag list."
