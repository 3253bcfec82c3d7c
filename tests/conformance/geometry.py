"""Every archive of RADFLEET_DATA/dicom becomes dcm2niix's grid or is refused by name.

Run as ``python -m tests.conformance.geometry``: writes build/conformance-geometry.json and exits with 1
where an affine differs by more than 1e-3, a grid or its stored values differ, a series that dcm2niix
converts is neither converted nor refused by name, or an error without a name escapes.
"""

import csv
import hashlib
import json
import os
import sys
import tarfile
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from registry.core.errors import RadfleetError
from serving.imaging.child import prepare, read_choices
from serving.imaging.scan import scan
from serving.imaging.series import is_mr, read_series, read_stacks
from serving.imaging.volume import Volume

TOLERANCE = 1e-3
# dcm2niix also writes a second, resampled copy of a stack with missing slices; it is no grid of the data.
RESAMPLED = "_Eq_1"


def references(folder: Path) -> dict[str, list[dict[str, str]]]:
    """The rows that Debian's dcm2niix made, by archive."""
    rows: dict[str, list[dict[str, str]]] = defaultdict(list)
    with (folder / "dcm2niix_reference" / "geometry.tsv").open(encoding="utf-8") as file:
        for row in csv.DictReader(file, delimiter="\t"):
            made = row["output"] != "<none>" and RESAMPLED not in row["output"]
            if made and row["made_by"].startswith("Debian"):
                rows[row["archive"]].append(row)
    return rows


def series_of(paths: list[Path]) -> Iterator[tuple[list[Path], str | None]]:
    """The MR series of a folder, and the refusals of single files by name."""
    groups: dict[str, list[Path]] = defaultdict(list)
    for path in paths:
        try:
            header = scan(path)
        except RadfleetError as error:
            yield [path], error.code
            continue
        if is_mr(header):
            groups[header.text("SeriesInstanceUID")].append(path)
    for group in groups.values():
        yield group, None


def distance(volume: Volume, row: dict[str, str]) -> float | None:
    """Largest difference of the affines, or None where the grids have another shape."""
    shape = tuple(int(n) for n in row["shape"].split("x"))[:3]
    if volume.shape != shape:
        return None
    return float(np.abs(volume.affine - np.array(json.loads(row["affine_row_major"]))).max())


def same_values(volume: Volume, row: dict[str, str]) -> bool | None:
    """Whether the stored values are dcm2niix's; None where the row's hash is of 4D or scaled values."""
    if row["shape"].count("x") > 2 or "." in row["max"]:
        return None
    stored = volume.voxels.astype(np.dtype(row["dtype"]).newbyteorder("<"))
    digest = hashlib.sha256(np.ascontiguousarray(stored.T).tobytes()).hexdigest()
    return digest == row["sha256_of_little_endian_voxels"]


def check(archive: Path, rows: list[dict[str, str]], folder: Path) -> dict[str, Any]:
    """One archive: its stacks against the reference, and the answer of the strict way."""
    with tarfile.open(archive) as tar:
        tar.extractall(folder, filter="data")
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    made: list[Volume] = []
    strict: list[str] = []
    for group, refused in series_of(paths):
        if refused is not None:
            strict.append(refused)
            continue
        try:
            made += read_stacks(group)
        except RadfleetError as error:
            strict.append(error.code)
            continue
        try:
            strict.append("converted " + "x".join(str(n) for n in read_series(group).shape))
        except RadfleetError as error:
            strict.append(error.code)
    worst, failures = 0.0, []
    for row in rows:
        near = sorted((d, n) for n, v in enumerate(made) if (d := distance(v, row)) is not None)
        if not near or near[0][0] > TOLERANCE:
            failures.append(f"{row['output']}: no such grid")
            continue
        worst = max(worst, near[0][0])
        equal = [same_values(made[n], row) for d, n in near if d <= TOLERANCE]
        # Several mosaics of one series: ours is the first, and the later ones hold other values.
        if equal[0] is False and not any(v.warnings for v in made) and True not in equal:
            failures.append(f"{row['output']}: other values")
    try:
        prepare(paths, {"Modality": "MR", "contrast": ["any"]}, folder / "prepared")
        study = "converted"
    except RadfleetError as error:
        study = error.code
    choices = [choice["code"] for choice in read_choices(folder / "prepared")]
    return {"worst_mm": worst, "references": len(rows), "series": strict, "study": study, "choices": choices,
            "failures": failures}  # fmt: skip


def main() -> int:
    """Check all archives; 0 where all agree."""
    data = Path(os.environ.get("RADFLEET_DATA", "")) / "dicom"
    if not (data / "archives").is_dir():
        print("RADFLEET_DATA is not set or has no dicom/archives")
        return 1
    rows = references(data)
    found = {}
    for archive in sorted((data / "archives").glob("*.tar.xz")):
        name = archive.name.removesuffix(".tar.xz")
        with tempfile.TemporaryDirectory() as folder:
            found[name] = check(archive, rows[name], Path(folder))
        line = found[name]
        print(f"{name:<52} {line['worst_mm']:.1e} mm  {line['study']:<32} {'; '.join(line['failures'])}")
    worst = max(line["worst_mm"] for line in found.values())
    failed = [name for name, line in found.items() if line["failures"]]
    build = Path("build")
    build.mkdir(exist_ok=True)
    result = {"goal_mm": TOLERANCE, "worst_mm": worst, "failed": failed, "archives": found}
    (build / "conformance-geometry.json").write_text(json.dumps(result, indent=1), encoding="utf-8")
    print(f"{len(found)} archives, worst affine difference {worst:.1e} mm, {len(failed)} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
