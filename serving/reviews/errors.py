"""Every failure of a review, with its cure."""

from registry.core.errors import Conflict, Invalid, NotFound, Unmet


class NotAnswered(Unmet):
    """This study has no delivered mask to review."""

    code = "reviews.not_answered"
    why = "A review is of one answer: its mask, its version, its revision of the study."
    cure = "See where the study stands with radfleet study show."


class TaskUnclear(Invalid):
    """This study was answered by more than one task, or not by this one."""

    code = "reviews.task_unclear"
    cure = "Give --task with one of the tasks that radfleet study show lists."


class MaskNeeded(Invalid):
    """This review needs a mask."""

    code = "reviews.mask_needed"
    why = "An edit without its mask teaches nothing, and a blinded reader draws before seeing ours."
    cure = "Give --mask with the reader's mask: a DICOM SEG or NIfTI on the study's own grid."


class MaskUnreadable(Invalid):
    """This file is no mask that can be read."""

    code = "reviews.mask_unreadable"
    cure = "Export the mask as DICOM SEG (BINARY or LABELMAP) or as NIfTI with whole numbers, then send it again."


class MaskElsewhere(Invalid):
    """This mask lies on another grid than the study."""

    code = "reviews.mask_elsewhere"
    why = "A mask that is shifted, resampled or mirrored against the images would give a Dice that means nothing."
    cure = "Draw on the study's own images, or begin with the file that radfleet review mask writes."


class MaskForeign(Invalid):
    """This mask was drawn on another study."""

    code = "reviews.mask_foreign"
    why = "The file names another study than the one under review."
    cure = "Check the study's id, then give the mask that was drawn on this study."


class LabelsForeign(Invalid):
    """This mask has labels that the version under review does not know."""

    code = "reviews.labels_foreign"
    why = "A label is compared with the same label: by its coded type in a SEG, by its value in NIfTI."
    cure = "Use the labels of the delivered mask, which radfleet model show lists."


class NotePersonal(Invalid):
    """This note names the patient."""

    code = "reviews.note_personal"
    why = "A note is kept beside the review and read by people who treat nobody."
    cure = "Write what is wrong with the mask, and leave out names, numbers and dates of the patient."


class ReviewUnfit(Invalid):
    """This review cannot be recorded as given."""

    code = "reviews.unfit"
    cure = "Give --decision accept, edit or reject, --minutes from 0 to 600, and a --note of at most 200 letters."


class ReviewExists(Conflict):
    """This reader has reviewed this answer already."""

    code = "reviews.exists"
    why = "Counting one reader twice would make the evidence look stronger than it is."
    cure = (
        "See radfleet review list; withdraw the earlier one with radfleet review withdraw, then add it again."
    )


class ReviewUnknown(NotFound):
    """There is no such review, or it was withdrawn."""

    code = "reviews.unknown"
    cure = "List reviews with radfleet review list and use the first letters of one id."


class KeptMaskDamaged(Invalid):
    """A mask in the store is not the one that was written."""

    code = "reviews.kept_mask_damaged"
    why = "Its bytes do not have the sha256 that its row names."
    cure = "Restore the store from the backup."


class ImportUnreadable(Invalid):
    """This table holds no reviews that can be read."""

    code = "reviews.import_unreadable"
    why = "Half a table must not look like a whole one; nothing of it was recorded."
    cure = "Export it as UTF-8 CSV with a header: study and decision, and any of reader, mask, blinded, minutes, note."


class VersionForeign(Conflict):
    """This review is of another version than the one that answered."""

    code = "reviews.version_foreign"
    why = "What one version drew says nothing of another: their labels are never mixed."
    cure = "Leave the line out, or give the version that radfleet study show names."


class StillBlind(Conflict):
    """This mask is not shown yet."""

    code = "reviews.still_blind"
    why = "The study was drawn for a reader who draws before seeing our mask; who has seen it is drawn to it."
    cure = "Draw on the study's images, then add the review with radfleet review add --blinded --mask FILE."


class NarrativesUnreadable(Invalid):
    """This table holds no reports that can be read."""

    code = "reviews.narratives_unreadable"
    why = "Half a table must not look like a whole one; nothing of it was recorded."
    cure = "Export it as UTF-8 CSV with a header: study or StudyInstanceUID, and report or says."


class NarrativeUnfit(Invalid):
    """This line cannot be recorded as given."""

    code = "reviews.narrative_unfit"
    cure = (
        "Fill one of study and StudyInstanceUID, and one of report (its text) and says (present or absent)."
    )


class NarrativeTwice(Conflict):
    """This study stands twice in the table."""

    code = "reviews.narrative_twice"
    why = "Only the latest report of a study counts, and a table does not say which of two is the later."
    cure = "Keep the line with the newest report of this study; send an addendum in a table of its own."


class NarrativeTaskUnfit(Invalid):
    """A report's text is not compared with answers of this task."""

    code = "reviews.narrative_task_unfit"
    why = "Whether there are lesions is no question to this task: there is always a brain."
    cure = "Give --task ms-lesion."
