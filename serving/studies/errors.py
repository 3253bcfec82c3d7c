"""Every failure of a whole study, with its cure."""

from registry.core.errors import Conflict, Invalid, NotFound, Unmet


class PatientMixup(Invalid):
    """One study holds images of more than one patient."""

    code = "studies.patient_mixup"
    why = "PatientID differs between instances of this study, so no result could be addressed safely."
    cure = "Correct it at the PACS and send it under a new StudyInstanceUID: what came first stays in this study."


class NoBindingForStudy(Unmet):
    """No model version is bound for this clinic."""

    code = "studies.no_binding"
    why = "A clinic is never answered by a version that nobody bound to it."
    cure = "Bind a version with radfleet binding set, then run radfleet study retry for this study."


class Abandoned(Unmet):
    """Every attempt at this study ended without an answer."""

    code = "studies.abandoned"
    why = "Its worker stopped or failed at each of the allowed attempts."
    cure = "Read radfleet study trace for the last cause, mend it, then run radfleet study retry."


class Superseded(Conflict):
    """An image came after this revision of the study was complete."""

    code = "studies.superseded"
    why = "An answer to what the study was before would reach the archive beside, or after, the answer to all of it."
    cure = "The study is answered again with the late image; no person needs to act."


class StudyUnknown(NotFound):
    """No study has this id."""

    code = "studies.unknown"
    cure = "List the studies with radfleet study list and use the first letters of one id."


class NothingToRetry(Conflict):
    """This study has no dead or rejected work, and nothing that was given up on the way to an archive."""

    code = "studies.nothing_to_retry"
    cure = "See where it stands with radfleet study show."


class HistoryUnreadable(Invalid):
    """This table of past studies cannot be taken over."""

    code = "studies.history_unreadable"
    why = "A guessed past would be the reference of every later study; nothing was stored."
    cure = "Write a CSV with columns at (ISO 8601 with zone), sequence_class and quality features."
