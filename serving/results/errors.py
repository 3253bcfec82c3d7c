"""What can go wrong between a segmentation and the archive that receives it."""

from registry.core.errors import Forbidden, Invalid, NotFound, Unavailable


class SourceUnreadable(Invalid):
    """A header of the source series cannot be read back for the result."""

    code = "results.source_unreadable"
    why = "A result copies patient, study and geometry from the headers of the images it was made from."
    cure = (
        "Send the study again; if it happens again, run radfleet study show and send the header to support."
    )


class SourceIncomplete(Invalid):
    """The source series lacks an attribute that a result must carry."""

    code = "results.source_incomplete"
    why = "DICOM binds a segmentation to the study, series and frame of reference of its source images."
    cure = "Correct the export of the scanner or archive so that the named attribute is sent, and send again."


class GridMismatch(Invalid):
    """The mask does not lie on the grid of its source images."""

    code = "results.grid_mismatch"
    why = "A segmentation that is shifted or mirrored against its images is worse than none."
    cure = "Report this version to its maker; run the study again with the version before it."


class LabelUnknown(Invalid):
    """The mask holds a value that the version's model.json does not describe."""

    code = "results.label_unknown"
    why = "Every segment must carry a coded name; a number alone tells a reader nothing."
    cure = "Add the label to model.json, and register the package again."


class ObjectInvalid(Invalid):
    """A result object breaks a rule of DICOM and was not let out."""

    code = "results.object_invalid"
    why = "Archives refuse, or silently change, objects whose values break their value representation."
    cure = "Correct the named attribute in model.json or the product settings, and run the study again."


class FindingsInvalid(Invalid):
    """The findings do not match the published schema."""

    code = "results.findings_invalid"
    why = "Whoever reads findings JSON relies on findings.schema.json."
    cure = "Report this version to its maker with the named field; do not deliver by hand."


class DestinationAway(Unavailable):
    """The receiving archive does not answer."""

    code = "results.destination_away"
    why = "The connection was refused, broke, or timed out; the object stays in the outbox and is sent again."
    cure = "Check the archive and the network with radfleet clinic check; nothing is lost."


class DestinationBusy(Unavailable):
    """The receiving archive says it has no resources at present."""

    code = "results.destination_busy"
    why = "C-STORE A7xx or 0110, or HTTP 401, 403, 404, 408, 425, 429 or 5xx: another try may succeed."
    cure = "Wait: it is sent again by itself. If it lasts, free space on the archive."


class DestinationRefused(Forbidden):
    """The receiving archive will never take this object."""

    code = "results.destination_refused"
    why = "C-STORE A9xx, Cxxx or 0122, no accepted context, or another HTTP 4xx: a repeat changes nothing."
    cure = "Allow this SOP class and our AE title on the archive, or remove the object from the destination."


class ObjectMissing(NotFound):
    """A result object that should be sent is not in the store."""

    code = "results.object_missing"
    why = "The outbox names a file that is gone or has another size than when it was written."
    cure = "Restore the store from the backup, or run radfleet study retry so that the result is made again."


class DestinationUnknown(NotFound):
    """The clinic has no destination of this name."""

    code = "results.destination_unknown"
    cure = "List the clinic's destinations with radfleet destination list."


class PictureUnknown(NotFound):
    """There is no such picture."""

    code = "results.picture_unknown"
    cure = "Take the address from the page of the study."
