"""Acquisition profile of a series: who made the image and how, from its headers alone.

The sequence class comes from physics (sequence family, TE, TI, TR, flip angle, b-value) and from
machine-written codes. SeriesDescription is free text of a technologist and is never read for it.
"""

import hashlib
import json
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from registry.vendors import vendor_key
from serving.imaging.frames import b_value, echo_time
from serving.imaging.scan import Header


class SequenceClass(StrEnum):
    """What kind of picture a series is."""

    FLAIR = "FLAIR"
    T1 = "T1"
    T2 = "T2"
    PD = "PD"
    T2STAR = "T2STAR"
    STIR = "STIR"
    DWI = "DWI"
    PERFUSION = "PERFUSION"
    EPI = "EPI"
    FIELDMAP = "FIELDMAP"
    LOCALIZER = "LOCALIZER"
    DERIVED = "DERIVED"
    UNKNOWN = "UNKNOWN"


ANATOMICAL = frozenset(
    {SequenceClass.FLAIR, SequenceClass.T1, SequenceClass.T2, SequenceClass.PD,
     SequenceClass.T2STAR, SequenceClass.STIR}
)  # fmt: skip

_PHASE = frozenset({"P", "PHASE", "PHASE MAP", "B0", "B0 MAP", "FIELD MAP", "FIELDMAP", "FIELD_MAP"})
_DIFFUSION = frozenset({"DIFFUSION", "ADC", "TRACEW", "TRACE", "FA", "EADC", "DWI"})
_PERFUSION = frozenset({"PERFUSION", "ASL", "CBF", "CBV", "MTT", "TTP"})
_DERIVED = frozenset(
    {"MPR", "CSA MPR", "MIP", "CSA MIP", "MINIP", "PROJECTION IMAGE", "SUBTRACTION", "SUB", "T1 MAP",
     "T2 MAP", "MEAN", "STDDEV", "CSA REPORT", "CSA RESAMPLED", "SCREEN SAVE", "REFORMATTED"}
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Physics:
    """What of a header decides the sequence class. Times in ms, flip angle in degrees; None: not stated."""

    image_type: frozenset[str]
    sequence: frozenset[str]
    te: float | None
    tr: float | None
    ti: float | None
    flip: float | None
    b: float
    echoes: int


def _first(header: Header) -> dict[int, tuple[bytes, bytes]] | None:
    return header.frames[0] if header.frames else None


def physics(headers: Sequence[Header]) -> Physics:
    """Read the deciding numbers of a series from its first header (and echoes, b-values from all)."""
    header = headers[0]
    group = _first(header)
    kind = [*header.texts("ImageType"), *header.texts("FrameType", group)]
    for other in headers[1:]:
        kind += other.texts("ImageType")
    for item in header.frames:
        kind += header.texts("FrameType", item)
    kind += header.texts("AcquisitionContrast")
    kind.append(header.text("ComplexImageComponent"))
    none: list[dict[int, tuple[bytes, bytes]] | None] = [None]
    frames = [(h, g) for h in headers for g in (h.frames or none)]
    return Physics(
        frozenset(word.upper() for word in kind if word),
        frozenset(_sequence(header, group)),
        _finite(echo_time(header, group)),
        _finite(header.number("RepetitionTime", group)),
        _finite(header.number("InversionTimes", group) or header.number("InversionTime", group)),
        _finite(header.number("FlipAngle", group)),
        max(b_value(h, g) for h, g in frames),
        len({round(echo_time(h, g) or 0.0, 2) for h, g in frames}),
    )


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) and value > 0 else None


def _sequence(header: Header, group: dict[int, tuple[bytes, bytes]] | None) -> Iterable[str]:
    """Sequence family codes of classic MR (SE, GR, IR, EP, RM), also for enhanced MR."""
    yield from (word.upper() for word in header.texts("ScanningSequence"))
    name = (header.text("PulseSequenceName") or header.text("SequenceName")).lower().lstrip("*")
    if header.text("EchoPlanarPulseSequence", group) == "YES" or re.match(r"ep(i|fid|se|2d|_)", name):
        yield "EP"
    family = header.text("EchoPulseSequence", group)
    if family in ("SPIN", "BOTH") or re.match(r"(tse|se|spc|tir|fse)\d?", name):
        yield "SE"
    if family in ("GRADIENT", "BOTH") or re.match(r"(tfl|fl|ffe|gre|t1tfe|tfe)\d?", name):
        yield "GR"
    if header.text("InversionRecovery", group) == "YES":
        yield "IR"


def sequence_class(series: Sequence[Header], volumes: int = 1, orientations: int = 1) -> SequenceClass:
    """The class of a series of ``volumes`` time points in ``orientations`` slice directions."""
    p = physics(series)
    kind = series[0].texts("ImageType")
    if orientations > 1 or "LOCALIZER" in p.image_type or "SCOUT" in p.image_type:
        return SequenceClass.LOCALIZER
    if p.image_type & _DERIVED or (len(kind) > 1 and kind[0] == "DERIVED" and kind[1] == "SECONDARY"):
        return SequenceClass.DERIVED
    if p.image_type & _PHASE:
        return SequenceClass.FIELDMAP
    if p.b > 0 or p.image_type & _DIFFUSION:
        return SequenceClass.DWI
    if p.image_type & _PERFUSION:
        return SequenceClass.PERFUSION
    # Many time points are a time series even where no code says echo-planar.
    if "EP" in p.sequence or p.image_type & {"EPI", "FMRI"} or volumes > max(4, p.echoes):
        return SequenceClass.EPI
    if p.echoes == 2 and "GR" in p.sequence and (p.te or 0.0) < 15 and not p.ti and (p.tr or 0.0) > 200:
        return SequenceClass.FIELDMAP
    return _by_times(p)


def _by_times(p: Physics) -> SequenceClass:
    """T1, T2, PD, FLAIR, STIR or T2* by echo, repetition and inversion time.

    Limits are wide enough for 1.5 to 7 T (Bernstein, King, Zhou, Handbook of MRI Pulse Sequences, 2004,
    ch. 14-17): FLAIR nulls fluid (TI 1.5 to 3 s, long TE); MPRAGE inverts but reads with a short TE.
    """
    te, tr, ti = p.te, p.tr, p.ti
    if te is None or tr is None:
        return SequenceClass.UNKNOWN
    if ti is not None and ti >= 1400 and tr >= 4000 and te >= 50:
        return SequenceClass.FLAIR
    if ti is not None and ti < 350 and tr >= 1500 and "GR" not in p.sequence:
        return SequenceClass.STIR
    if te <= 15 and (ti is not None or "IR" in p.sequence):
        return SequenceClass.T1
    if "GR" in p.sequence and "SE" not in p.sequence:
        return _gradient_echo(te, tr, p.flip)
    if tr < 1200 and te <= 40:
        return SequenceClass.T1
    if tr >= 1500 and te >= 60:
        return SequenceClass.T2
    return SequenceClass.PD if tr >= 1500 and te < 60 else SequenceClass.UNKNOWN


def _gradient_echo(te: float, tr: float, flip: float | None) -> SequenceClass:
    if te >= 15:
        return SequenceClass.T2STAR
    # Spoiled gradient echo turns T1-weighted above the Ernst angle: about 6 degrees at TR 7 ms.
    return SequenceClass.T1 if flip is None or flip >= 6 or tr > 50 else SequenceClass.PD


def software_major(versions: Sequence[str]) -> str:
    """The release a vendor's software belongs to: "E11", "XA30", "RX28", "5.7", ... or ''."""
    joined = " ".join(versions)
    for pattern in (
        r"\b(XA\d{2})",
        r"\d?V([A-E]\d{2})[A-Z]?\b|\b([A-E]\d{2})[A-Z]?$",
        r"\b([A-Z]{2}\d{2}\.\d)(?!\d)",
        r"[VR]?(\d+\.\d+)",
        r"\b(R\d{3})\b",
    ):
        found = re.search(pattern, joined)
        if found:
            return next(group for group in found.groups() if group)
    return versions[0][:16] if versions else ""


def coil_class(name: str, kind: str = "") -> str:
    """Head, head-neck, body, surface, multi or unknown, from the receive coil's name and type."""
    text = f"{name} {kind}".lower()
    if "neck" in text or "hnu" in text:
        return "head-neck"
    if "head" in text or "brain" in text or "hd" in text.split():
        return "head"
    for word, found in (("body", "body"), ("surface", "surface"), ("multi", "multi")):
        if word in text:
            return found
    return "unknown"


def profile(
    headers: Sequence[Header], kind: SequenceClass, spacing: Sequence[float], shape: Sequence[int]
) -> dict[str, object]:
    """The acquisition profile of a series as plain JSON values; None where the header does not say."""
    header = headers[0]
    group = _first(header)
    p = physics(headers[:1])
    number = {
        name: header.number(tag, group)
        for name, tag in [("field_t", "MagneticFieldStrength"), ("thickness_mm", "SliceThickness")]
    }
    found: dict[str, object] = {
        "vendor": vendor_key(header.text("Manufacturer")),
        "model": clean(header.text("ManufacturerModelName")),
        "software": clean(" ".join(header.texts("SoftwareVersions"))),
        "software_major": software_major(header.texts("SoftwareVersions")),
        **{name: _finite(value) for name, value in number.items()},
        "coil": coil_class(header.text("ReceiveCoilName", group), header.text("ReceiveCoilType", group)),
        "sequence_class": kind.value,
        "acquisition": header.text("MRAcquisitionType") or None,
        "te_ms": p.te,
        "tr_ms": p.tr,
        "ti_ms": p.ti,
        "flip_deg": p.flip,
        "spacing_mm": [round(float(s), 4) for s in spacing],
        "matrix": [int(n) for n in shape],
        "contrast_agent": bool(header.text("ContrastBolusAgent")),
    }
    found["protocol"] = protocol_hash(found)
    return found


def protocol_hash(found: dict[str, object]) -> str:
    """Sixteen hex digits naming one protocol on one kind of scanner: equal settings, equal name."""
    fixed = {name: value for name, value in found.items() if name not in ("software", "matrix", "coil")}
    for name in ("te_ms", "tr_ms", "ti_ms", "field_t"):
        value = fixed.get(name)
        if isinstance(value, float):
            fixed[name] = float(f"{value:.2g}")
    data = json.dumps(fixed, sort_keys=True, separators=(",", ":")).encode()
    return hashlib.sha256(data).hexdigest()[:16]


def clean(text: str) -> str:
    """A header text fit for a record: printable, one line, at most 64 characters."""
    return re.sub(r"[^\x20-\x7e]+", " ", text).strip()[:64]
