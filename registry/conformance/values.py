"""What a rule can ask of an acquisition profile: each value with the DICOM keywords that it is made of."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Any, Final

Profile = Mapping[str, Any]
Answer = float | str | bool | None


@dataclass(frozen=True, slots=True)
class Value:
    """One value: how it is read (None: not said), from which DICOM keywords, in which unit."""

    read: Callable[[Profile], Answer]
    keywords: frozenset[str]
    unit: str = ""


def _number(profile: Profile, name: str) -> float | None:
    value = profile.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float) or not isfinite(value):
        return None
    return float(value)


def _text(name: str) -> Callable[[Profile], Answer]:
    def read(profile: Profile) -> Answer:
        value = profile.get(name)
        return value if isinstance(value, str) and value not in ("", "UNKNOWN") else None

    return read


def _three(profile: Profile, name: str) -> Sequence[float] | None:
    value = profile.get(name)
    if not isinstance(value, list | tuple) or len(value) != 3:
        return None
    numbers = [float(x) for x in value if isinstance(x, int | float) and isfinite(x) and x > 0]
    return numbers if len(numbers) == 3 else None


def _of_edges(measure: Callable[[Sequence[float]], float]) -> Callable[[Profile], Answer]:
    """Edges of a voxel in mm; of a 2D series the third lies across the slices."""

    def read(profile: Profile) -> Answer:
        edges = _three(profile, "spacing_mm")
        return None if edges is None else measure(edges)

    return read


def _coverage(profile: Profile) -> Answer:
    edges, counts = _three(profile, "spacing_mm"), _three(profile, "matrix")
    return None if edges is None or counts is None else min(e * n for e, n in zip(edges, counts, strict=True))


def _gap(profile: Profile) -> float | None:
    """Millimetres between slices: their distance, less their thickness (0018,0050 is no distance)."""
    edges, thickness = _three(profile, "spacing_mm"), _number(profile, "thickness_mm")
    return None if edges is None or thickness is None else edges[2] - thickness


def _gap_percent(profile: Profile) -> Answer:
    gap, thickness = _gap(profile), _number(profile, "thickness_mm")
    return None if gap is None or not thickness else 100 * gap / thickness


def _contrast(profile: Profile) -> Answer:
    value = profile.get("contrast_agent")
    return value if isinstance(value, bool) else None


_GRID = frozenset({"PixelSpacing", "ImagePositionPatient", "ImageOrientationPatient"})
VALUES: Final[Mapping[str, Value]] = {
    "field_t": Value(lambda p: _number(p, "field_t"), frozenset({"MagneticFieldStrength"}), "T"),
    "sequence_class": Value(
        _text("sequence_class"),
        frozenset({"ImageType", "ScanningSequence", "EchoTime", "RepetitionTime", "InversionTime", "FlipAngle"}),
    ),
    "acquisition": Value(_text("acquisition"), frozenset({"MRAcquisitionType"})),
    "largest_edge_mm": Value(_of_edges(max), _GRID, "mm"),
    "edge_ratio": Value(_of_edges(lambda edges: max(edges) / min(edges)), _GRID),
    "in_plane_mm": Value(_of_edges(lambda edges: max(edges[:2])), frozenset({"PixelSpacing"}), "mm"),
    "thickness_mm": Value(lambda p: _number(p, "thickness_mm"), frozenset({"SliceThickness"}), "mm"),
    "gap_mm": Value(_gap, _GRID | {"SliceThickness"}, "mm"),
    "gap_percent": Value(_gap_percent, _GRID | {"SliceThickness"}, "%"),
    "coverage_mm": Value(_coverage, _GRID | {"Rows", "Columns"}, "mm"),
    "contrast_agent": Value(_contrast, frozenset({"ContrastBolusAgent"})),
}  # fmt: skip
