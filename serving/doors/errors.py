"""Every failure that a door can name to a sender, with its cure."""

from registry.core.errors import Conflict, Forbidden, Invalid, Unavailable

_RESEND = "Nothing of it was kept. Read why, mend the object at its source, and send it again."


class NotDicom(Invalid):
    """The bytes are not a DICOM object."""

    code = "doors.not_dicom"
    why = "A DICOM file has the letters DICM at byte 128 and a readable group 2 after them."
    cure = (
        "Send the DICOM files that the scanner or the PACS exports, not pictures, reports or other archives."
    )


class EmptyObject(Invalid):
    """The object has no bytes."""

    code = "doors.empty_object"
    why = "Nothing came after the command or inside the part or file."
    cure = "Export the object again at its source and send it again; an interrupted copy leaves such files."


class Truncated(Invalid):
    """The object ends before its last element is whole."""

    code = "doors.truncated"
    why = "An element states more bytes than follow it."
    cure = "Export the object again at its source and send it again; an interrupted copy leaves such files."


class Malformed(Invalid):
    """The object's elements cannot be read one after the other."""

    code = "doors.malformed"
    why = "The element structure breaks a rule of PS3.5 or nests deeper or wider than any scanner writes."
    cure = _RESEND


class MissingElement(Invalid):
    """The object lacks an identifier that every stored object must have."""

    code = "doors.missing_element"
    cure = _RESEND


class BadUid(Invalid):
    """An identifier is not a DICOM UID."""

    code = "doors.bad_uid"
    why = "A UID has digits and dots only, and at most 64 characters (PS3.5 9.1)."
    cure = _RESEND


class UidMismatch(Conflict):
    """The message and the object inside it name different things."""

    code = "doors.uid_mismatch"
    why = "The SOP class or instance UID of the command, file header, or address is not that of the data set."
    cure = "Repair the sender's index (a PACS rebuild does it) and send the object again."


class TransferSyntaxRefused(Invalid):
    """The object is encoded in a transfer syntax that this door does not take."""

    code = "doors.transfer_syntax"
    why = "Deflated and unknown syntaxes hide even the identifiers behind an unbounded expansion."
    cure = "Send it uncompressed (Explicit VR Little Endian), or as JPEG, JPEG-LS, JPEG 2000 or RLE."


class TooLarge(Invalid):
    """The object or request is larger than this door takes."""

    code = "doors.too_large"
    cure = "Send fewer or smaller objects at once; the limits stand in registry/core/settings.py."


class BadMultipart(Invalid):
    """The request body is not the multipart/related form of STOW-RS."""

    code = "doors.bad_multipart"
    cure = "Send multipart/related with one application/dicom part an instance, each ended by CRLF (PS3.18 10.5)."


class UnsupportedMedia(Invalid):
    """The content type is not one that this door takes."""

    code = "doors.unsupported_media"
    why = 'STOW-RS here takes multipart/related; type="application/dicom", one DICOM file a part.'
    cure = "Set the Content-Type header to that form with a boundary and send the request again."


class ArchiveRefused(Invalid):
    """The archive is built in a way that no export of a scanner or PACS is."""

    code = "doors.archive_refused"
    cure = "Unpack it on your own machine, look at what is inside, and submit the folder instead."


class SourceMissing(Invalid):
    """There is nothing to read at this path."""

    code = "doors.source_missing"
    cure = "Give a DICOM file, a folder, a .zip or a .tar(.gz|.xz) that this user may read."


class KeyMissing(Forbidden):
    """The request carries no key."""

    code = "doors.key_missing"
    why = "Every request needs the header Authorization: Bearer KEY."
    cure = "Make a key with radfleet clinic key and send it in the Authorization header."


class SenderUnknown(Forbidden):
    """The association has no clinic."""

    code = "doors.sender_unknown"
    why = "No clinic is registered for this pair of AE titles at this address."
    cure = "Register the sender with radfleet clinic add or correct the AE titles on the scanner."


class DiskLow(Unavailable):
    """The store has too little free space to promise anything."""

    code = "doors.disk_low"
    why = "Below the limit the database needs the rest of the space for its own log."
    cure = "Free space on the volume of the store, then send again; what was acknowledged is kept."


class StoreFailed(Unavailable):
    """The store could not make the object durable."""

    code = "doors.store_failed"
    why = "Writing, syncing or renaming failed, so the object was removed and not acknowledged."
    cure = "Look at the disk (radfleet doctor), then send again; what was acknowledged is kept."


class StoreUnhealthy(Unavailable):
    """The store refuses new objects because a sync failed earlier."""

    code = "doors.store_unhealthy"
    why = "After a failed fsync the kernel may report success for data that is lost, so nothing more is promised."
    cure = "Check the disk and its log, then restart the door."


class DoorBusy(Unavailable):
    """The door has as many requests as it can serve at once."""

    code = "doors.busy"
    why = "Each running request holds open files and disk bandwidth."
    cure = "Wait for the seconds of Retry-After and send the request again."


class RequestStalled(Unavailable):
    """The request stopped sending."""

    code = "doors.stalled"
    why = "No byte of the body came for longer than the door waits."
    cure = "Check the network between sender and door, then send the request again."


class StudyBusy(Unavailable):
    """The study is being changed by someone else."""

    code = "doors.study_busy"
    why = "Another sender holds the same study longer than a door waits."
    cure = "Nothing of it was kept. Send it again in a minute."


class PeerRefused(Unavailable):
    """The other side did not take the connection or the object."""

    code = "doors.peer_refused"
    cure = "Check host, port, AE titles and key with radfleet clinic check, then send again."
