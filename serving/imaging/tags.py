"""Which DICOM tags imaging reads, and which sequences it enters to find them."""

from typing import NamedTuple


class Tag(NamedTuple):
    """One attribute: its tag, and the VR it has where the file does not say (PS3.6)."""

    tag: int
    vr: bytes


VFRAMES = 0x00651051  # UIH: one item for each tile of a grid, with its position

TAGS: dict[str, Tag] = {
    name: Tag(tag, vr)
    for name, tag, vr in [
        ("ImageType", 0x00080008, b"CS"),
        ("SOPClassUID", 0x00080016, b"UI"),
        ("SOPInstanceUID", 0x00080018, b"UI"),
        ("Modality", 0x00080060, b"CS"),
        ("Manufacturer", 0x00080070, b"LO"),
        ("InstitutionName", 0x00080080, b"LO"),
        ("StudyDescription", 0x00081030, b"LO"),
        ("SeriesDescription", 0x0008103E, b"LO"),
        ("ManufacturerModelName", 0x00081090, b"LO"),
        ("DerivationDescription", 0x00082111, b"ST"),
        ("FrameType", 0x00089007, b"CS"),
        ("ComplexImageComponent", 0x00089208, b"CS"),
        ("AcquisitionContrast", 0x00089209, b"CS"),
        ("PatientName", 0x00100010, b"PN"),
        ("PatientID", 0x00100020, b"LO"),
        ("ContrastBolusAgent", 0x00180010, b"LO"),
        ("BodyPartExamined", 0x00180015, b"CS"),
        ("ScanningSequence", 0x00180020, b"CS"),
        ("SequenceVariant", 0x00180021, b"CS"),
        ("ScanOptions", 0x00180022, b"CS"),
        ("MRAcquisitionType", 0x00180023, b"CS"),
        ("SequenceName", 0x00180024, b"SH"),
        ("SliceThickness", 0x00180050, b"DS"),
        ("RepetitionTime", 0x00180080, b"DS"),
        ("EchoTime", 0x00180081, b"DS"),
        ("InversionTime", 0x00180082, b"DS"),
        ("EchoNumbers", 0x00180086, b"IS"),
        ("MagneticFieldStrength", 0x00180087, b"DS"),
        ("SpacingBetweenSlices", 0x00180088, b"DS"),
        ("EchoTrainLength", 0x00180091, b"IS"),
        ("DeviceSerialNumber", 0x00181000, b"LO"),
        ("SoftwareVersions", 0x00181020, b"LO"),
        ("ProtocolName", 0x00181030, b"LO"),
        ("TriggerTime", 0x00181060, b"DS"),
        ("ReceiveCoilName", 0x00181250, b"SH"),
        ("FlipAngle", 0x00181314, b"DS"),
        ("PulseSequenceName", 0x00189005, b"SH"),
        ("EchoPulseSequence", 0x00189008, b"CS"),
        ("InversionRecovery", 0x00189009, b"CS"),
        ("EchoPlanarPulseSequence", 0x00189018, b"CS"),
        ("ReceiveCoilType", 0x00189043, b"CS"),
        ("InversionTimes", 0x00189079, b"FD"),
        ("EffectiveEchoTime", 0x00189082, b"FD"),
        ("DiffusionBValue", 0x00189087, b"FD"),
        ("StudyInstanceUID", 0x0020000D, b"UI"),
        ("SeriesInstanceUID", 0x0020000E, b"UI"),
        ("SeriesNumber", 0x00200011, b"IS"),
        ("AcquisitionNumber", 0x00200012, b"IS"),
        ("InstanceNumber", 0x00200013, b"IS"),
        ("ImagePositionPatient", 0x00200032, b"DS"),
        ("ImageOrientationPatient", 0x00200037, b"DS"),
        ("TemporalPositionIdentifier", 0x00200100, b"IS"),
        ("ImageComments", 0x00204000, b"LT"),
        ("TemporalPositionIndex", 0x00209128, b"UL"),
        ("SamplesPerPixel", 0x00280002, b"US"),
        ("PhotometricInterpretation", 0x00280004, b"CS"),
        ("NumberOfFrames", 0x00280008, b"IS"),
        ("Rows", 0x00280010, b"US"),
        ("Columns", 0x00280011, b"US"),
        ("PixelSpacing", 0x00280030, b"DS"),
        ("BitsAllocated", 0x00280100, b"US"),
        ("BitsStored", 0x00280101, b"US"),
        ("PixelRepresentation", 0x00280103, b"US"),
        ("RescaleIntercept", 0x00281052, b"DS"),
        ("RescaleSlope", 0x00281053, b"DS"),
        # Siemens mosaics: CSA image header, and the tile count that newer software writes beside it.
        ("SiemensCsaImage", 0x00291010, b"OB"),
        ("SiemensTiles", 0x0019100A, b"US"),
        ("SiemensBValue", 0x0019100C, b"IS"),
        ("GeBValue", 0x00431039, b"IS"),
        ("UihTiles", 0x00651050, b"DS"),
    ]
}

by_tag: dict[int, Tag] = {tag.tag: tag for tag in TAGS.values()}

# Functional groups of enhanced MR (PS3.3 C.7.6.16 and C.8.13.5), and nothing else: Philips repeats the
# classic tags of each frame, with other meanings, in private sequences.
SEQUENCES: frozenset[int] = frozenset(
    {
        0x52009229,  # SharedFunctionalGroupsSequence
        0x52009230,  # PerFrameFunctionalGroupsSequence
        0x00209113,  # PlanePositionSequence
        0x00209116,  # PlaneOrientationSequence
        0x00209111,  # FrameContentSequence
        0x00289110,  # PixelMeasuresSequence
        0x00289145,  # PixelValueTransformationSequence
        0x00189114,  # MREchoSequence
        0x00189112,  # MRTimingAndRelatedParametersSequence
        0x00189115,  # MRModifierSequence
        0x00189117,  # MRDiffusionSequence
        0x00189042,  # MRReceiveCoilSequence
        0x00189226,  # MRImageFrameTypeSequence
        VFRAMES,
    }
)
