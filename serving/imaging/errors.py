"""Every refusal of the imaging room by name: what is wrong with the pixels or headers, and the cure.

Messages say which tag broke which rule and never a tag's value: a value may be a person's.
"""

from registry.core.errors import Invalid, RadfleetError, Unavailable


class ImagingError(Invalid):
    """This study cannot be turned into a volume."""

    code = "imaging.refused"
    cure = "Look at the reason of each series, correct the export and send the study again."


class NotDicom(ImagingError):
    """This file is not a DICOM file."""

    code = "imaging.not_dicom"
    why = "It is empty, or the DICM mark or the file meta information is missing."
    cure = "Send DICOM part 10 files as the scanner or PACS exports them."


class Malformed(ImagingError):
    """This DICOM or NIfTI file is damaged and cannot be read to its end."""

    code = "imaging.malformed"
    why = "A length or a value in it contradicts the bytes that follow."
    cure = "Export the series again from the scanner or PACS and send it once more."


class TooLarge(ImagingError):
    """This study asks for more memory, time or pixels than one study may use."""

    code = "imaging.too_large"
    why = "Limits: 4096 rows, columns and frames, 2^28 voxels, and the memory and time of one study."
    cure = "Send fewer or smaller images, or raise the limits of the imaging room knowingly."


class TransferSyntaxRefused(ImagingError):
    """This transfer syntax is not accepted."""

    code = "imaging.transfer_syntax"
    why = "A deflated file has to be inflated before even its header can be checked; others are not images."
    cure = "Send uncompressed little endian, JPEG lossless, JPEG-LS, JPEG 2000 or RLE."


class NoDecoder(ImagingError):
    """No decoder for this compression is installed."""

    code = "imaging.no_decoder"
    why = "JPEG lossless (processes 14 and 14 SV1) needs a decoder beyond the tested set."
    cure = "Send the series uncompressed, as JPEG-LS, JPEG 2000 or RLE, or install python-gdcm."


class FrameSizeMismatch(ImagingError):
    """The compressed picture has another size than Rows and Columns say."""

    code = "imaging.frame_size"
    why = "The size in the JPEG or JPEG 2000 code stream must equal Rows and Columns; else it may be a bomb."
    cure = "Export the series again without recompression."


class PixelsUndecodable(ImagingError):
    """The pixels of this series cannot be decoded."""

    code = "imaging.pixels"
    why = "The pixel data is missing, shorter than Rows x Columns x frames, or the code stream is damaged."
    cure = "Export the series again from the scanner or PACS, uncompressed if possible."


class NotMr(ImagingError):
    """This study has no MR images."""

    code = "imaging.not_mr"
    why = "Modality and SOP class name another kind of object (CT, SR, SEG, ...)."
    cure = "Send the brain MR series of the study."


class NoGeometry(ImagingError):
    """These images do not say where they lie in space."""

    code = "imaging.no_geometry"
    why = "ImagePositionPatient, ImageOrientationPatient or PixelSpacing is missing or not a number."
    cure = "Send the original images rather than secondary captures or anonymised copies without geometry."


class MixedOrientation(ImagingError):
    """This series holds slices of several orientations or sizes."""

    code = "imaging.mixed_orientation"
    why = "One volume needs parallel slices of one size; localizers hold three planes."
    cure = "Send a series with one orientation; localizers cannot be analysed."


class TooFewSlices(ImagingError):
    """This series has too few slices for a volume."""

    code = "imaging.too_few_slices"
    why = "Fewer than three slices do not show whether the spacing is regular."
    cure = "Send the whole series."


class MissingSlice(ImagingError):
    """At least one slice of this series is missing."""

    code = "imaging.missing_slice"
    why = "The distances between neighbouring slices differ by more than a tenth."
    cure = "Send the whole series again; the images that already arrived are kept."


class DuplicatePosition(ImagingError):
    """Some positions of this series hold more images than others."""

    code = "imaging.duplicate_position"
    why = "Two different images claim the same place, so which one belongs to the volume is unknown."
    cure = "Send each reconstruction as its own series."


class SlicesNotAligned(ImagingError):
    """The slices of this series are shifted against each other."""

    code = "imaging.slices_not_aligned"
    why = "ImagePositionPatient moves within the plane from slice to slice, so the grid is not a box."
    cure = "Send the series without gantry tilt or moving table."


class BadValues(ImagingError):
    """The pixels of this series hold values that are not numbers."""

    code = "imaging.nan_pixels"
    why = "NaN or infinity appears in the voxels or in the rescale slope."
    cure = "Export the series again from the scanner; do not send processed maps."


class ConstantPixels(ImagingError):
    """All pixels of this series have the same value."""

    code = "imaging.constant_pixels"
    why = "An image without any contrast was not measured."
    cure = "Look at the series on the scanner and send it again."


class NotAHead(ImagingError):
    """This series does not look like a human head."""

    code = "imaging.not_a_head"
    why = "Body part, size, shape or texture of the imaged object do not fit a head."
    cure = "Send a head series; a phantom belongs to quality assurance, not to a brain model."


class FieldMapOrEpiOnly(ImagingError):
    """This study holds only field maps, echo-planar or diffusion series."""

    code = "imaging.field_map_or_epi_only"
    why = "Brain models need an anatomical series."
    cure = "Send the anatomical series (T1, T2 or FLAIR) of this examination."


class NoEligibleSeries(ImagingError):
    """No series of this study fits what the model accepts."""

    code = "imaging.no_eligible_series"
    why = "Each series was refused for a reason of its own; the study lists them."
    cure = "Send the series that the model needs, or bind a model that accepts what you have."


class MixedPatients(ImagingError):
    """PatientID differs between images of this study."""

    code = "imaging.mixed_patients"
    why = "One study must belong to one person."
    cure = "Correct it at the PACS and send it under a new StudyInstanceUID: what came first stays in this study."


class NoSpace(Unavailable):
    """The disk has no room for the prepared volume."""

    code = "imaging.no_space"
    why = "A volume of up to 1 GB is written for each study while it is analysed."
    cure = "Free space on the data directory's disk; the study is tried again by itself."


def _all(base: type[ImagingError]) -> dict[str, type[ImagingError]]:
    return {kind.code: kind for kind in [base, *base.__subclasses__()]}


def as_record(error: RadfleetError) -> dict[str, str]:
    """The JSON form in which the child process hands an error to its parent."""
    return {"code": error.code, "what": error.what, "why": error.why_text, "cure": error.cure_text}


def from_record(record: dict[str, str]) -> RadfleetError:
    """The error of a child's JSON record, as the class it had there; unknown codes become Malformed."""
    known: dict[str, type[RadfleetError]] = {**_all(ImagingError), NoSpace.code: NoSpace}
    kind = known.get(record.get("code", ""), Malformed)
    return kind(record.get("what", ""), record.get("why", ""), record.get("cure", ""))
