"""A brain scan as one array with its grid, and how it is saved, loaded and read from NIfTI."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serving.imaging import geometry, limits
from serving.imaging.errors import (
    BadValues,
    ConstantPixels,
    Malformed,
    NoGeometry,
    TooFewSlices,
    TooLarge,
)
from serving.imaging.geometry import Axes


@dataclass(frozen=True, slots=True)
class SourceFrame:
    """The stored image plane that a slice came from; ``FrameNumber`` counts from 1."""

    SOPInstanceUID: str
    SOPClassUID: str
    FrameNumber: int


@dataclass(frozen=True, slots=True)
class Volume:
    """Voxels float32 [I, J, K] in the index order that dcm2niix writes, with ``affine`` to RAS mm.

    ``frames`` are the stored planes in slice order: ``to_frames(array)[n]`` belongs to ``frames[n]``. For
    2D series and echo-planar ones that is one a k; a 3D series is turned to the nearest RAS order, and
    its slices may lie along another axis (``slice_axis``). ``frames`` is empty for NIfTI input.
    """

    voxels: NDArray[np.float32]
    affine: NDArray[np.float64]
    frames: tuple[SourceFrame, ...] = ()
    SeriesInstanceUID: str = ""
    kind: str = "nifti"
    axes: Axes = geometry.PLAIN
    warnings: tuple[str, ...] = ()
    series: Mapping[str, str] = field(default_factory=dict)

    @property
    def spacing(self) -> tuple[float, float, float]:
        """Voxel edge lengths in mm along i, j, k."""
        return geometry.spacing_of(self.affine)

    @property
    def shape(self) -> tuple[int, int, int]:
        """I, J, K."""
        i, j, k = self.voxels.shape
        return i, j, k

    @property
    def rows_flipped(self) -> bool:
        """True where voxel j is stored row J-1-j of slice k: the plain case of 2D series."""
        return self.axes == geometry.ROWS_FLIPPED

    @property
    def slice_axis(self) -> int:
        """The voxel axis along which ``frames`` run."""
        return self.axes.order.index(2)

    def to_frames(self, array: NDArray[Any]) -> NDArray[Any]:
        """An array [I, J, K] on this grid as stored planes [frames, rows, columns]: a view."""
        return self.axes.undo(array).transpose(2, 1, 0)


def check_values(voxels: NDArray[np.float32]) -> None:
    """Refuse voxels that are not numbers or all the same. Raises BadValues or ConstantPixels."""
    low, high = float(np.min(voxels)), float(np.max(voxels))
    if not (math.isfinite(low) and math.isfinite(high)):
        raise BadValues()
    if low == high:
        raise ConstantPixels()


def read_nifti(path: Path) -> Volume:
    """The volume of a NIfTI file, scaled; of a 4D file the first volume, with a warning.

    Raises Malformed, TooLarge, TooFewSlices, NoGeometry, BadValues or ConstantPixels.
    """
    import nibabel

    try:
        image = nibabel.load(path)
        shape = tuple(int(n) for n in image.shape)
        affine = np.asarray(image.affine, dtype=np.float64)
        unit = image.header.get_xyzt_units()[0] if hasattr(image.header, "get_xyzt_units") else "mm"
    except Exception as error:
        raise Malformed("This file cannot be read as NIfTI.") from error
    if unit not in ("mm", "unknown"):
        # Nobody scales by it, and a volume in another unit would be wrong a thousand million times.
        raise NoGeometry(f"The NIfTI file states its lengths in {unit}, not in mm.")
    if len(shape) not in (3, 4) or (len(shape) == 4 and shape[3] < 1):
        raise Malformed("A NIfTI file must have three dimensions, or four with time.")
    if max(shape[:3]) > limits.MAX_ROWS or math.prod(shape[:3]) > limits.MAX_VOXELS:
        raise TooLarge()
    if min(shape[:3]) < 3:
        raise TooFewSlices()
    if not np.isfinite(affine).all() or abs(np.linalg.det(affine[:3, :3])) < 1e-6:
        raise NoGeometry("The NIfTI affine does not span a volume.")
    try:
        proxy = image.dataobj if len(shape) == 3 else image.dataobj[..., 0]
        voxels = np.ascontiguousarray(np.asarray(proxy, dtype=np.float32))
    except Exception as error:
        raise Malformed("The voxels of this NIfTI file cannot be read.") from error
    check_values(voxels)
    notes = ("first volume of a 4D file",) if len(shape) == 4 else ()
    return Volume(voxels, affine, warnings=notes)


def save_volume(volume: Volume, folder: Path) -> None:
    """Write ``volume.npy`` and ``geometry.json`` into ``folder``: numbers and text, no pickle."""
    folder.mkdir(parents=True, exist_ok=True)
    _save_array(volume.voxels, folder / "volume.npy")
    record = {
        "schema": 1,
        "shape": list(volume.shape),
        "affine": volume.affine.tolist(),
        "frames": [[f.SOPInstanceUID, f.SOPClassUID, f.FrameNumber] for f in volume.frames],
        "SeriesInstanceUID": volume.SeriesInstanceUID,
        "kind": volume.kind,
        "axis_order": list(volume.axes.order),
        "axis_flipped": list(volume.axes.flipped),
        "warnings": list(volume.warnings),
        "series": dict(volume.series),
    }
    (folder / "geometry.json").write_text(json.dumps(record, allow_nan=False), encoding="utf-8")


def _save_array(voxels: NDArray[np.float32], path: Path) -> None:
    """The .npy format, written by the file itself: numpy's own writer hides why a full disk stopped it."""
    fortran = voxels.flags.f_contiguous and not voxels.flags.c_contiguous
    plain = voxels.T if fortran else np.ascontiguousarray(voxels)
    header = {"descr": "<f4", "fortran_order": fortran, "shape": voxels.shape}
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        file.write(plain.data.cast("B"))


def load_volume(folder: Path) -> Volume:
    """The volume that ``save_volume`` wrote. Raises Malformed where the two files disagree."""
    try:
        record = json.loads((folder / "geometry.json").read_text(encoding="utf-8"))
        voxels = np.load(folder / "volume.npy", allow_pickle=False)
        if list(voxels.shape) != record["shape"] or voxels.dtype != np.float32:
            raise ValueError("shape or type")
        return _volume(record, voxels)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise Malformed(
            "A saved volume is incomplete.", "volume.npy and geometry.json must agree."
        ) from error


def _volume(record: Mapping[str, Any], voxels: NDArray[np.float32]) -> Volume:
    order: Sequence[int] = record["axis_order"]
    flipped: Sequence[bool] = record["axis_flipped"]
    return Volume(
        voxels=voxels,
        affine=np.array(record["affine"], dtype=np.float64).reshape(4, 4),
        frames=tuple(SourceFrame(str(uid), str(kind), int(n)) for uid, kind, n in record["frames"]),
        SeriesInstanceUID=str(record["SeriesInstanceUID"]),
        kind=str(record["kind"]),
        axes=Axes((order[0], order[1], order[2]), (flipped[0], flipped[1], flipped[2])),
        warnings=tuple(record["warnings"]),
        series=dict(record["series"]),
    )
