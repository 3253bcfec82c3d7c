"""Real vendors' DICOM in, SEG and SR out, against the reference tools; writes build/conformance.json.

Three parts: every archive against dcm2niix's grid (geometry), result objects of real series judged and kept by
Orthanc (objects), and two real heads over the whole line (line). Exits non-zero where a goal is missed.
"""

import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

from tests.bench.record import BUILD, Goal, record, versions
from tests.conformance import geometry, line, objects


def goals_of(grids: dict[str, Any], made: dict[str, Any], travelled: dict[str, Any]) -> list[Goal]:
    """The goals of all three parts."""

    def none(name: str, value: float | None) -> Goal:
        return Goal(name, value, 0, at_least=False)

    def count(part: dict[str, Any], name: str) -> int | None:
        return len(part[name]) if name in part else None

    delivered, there = travelled.get("delivered"), travelled.get("objects_at_pacs")
    return [
        Goal("largest difference of an affine from dcm2niix's, mm", grids["worst_mm"], geometry.TOLERANCE, False),
        none("archives neither converted nor refused by name", len(grids["failed"])),
        Goal("real series given result objects", made["series"], objects.SERIES_MIN),
        none("dciodvfy errors of our own in their objects", len(made["dciodvfy_errors"])),
        none("of these series, not read back equal from Orthanc", len(made["not_read_back_equal"])),
        Goal("heads answered and delivered over the whole line", travelled["answered"], len(line.STUDIES)),
        none("dciodvfy errors in what the line delivered", count(travelled, "dciodvfy_errors")),
        none("of what the line delivered, not read back equal", count(travelled, "not_read_back_equal")),
        none("objects said to be delivered that Orthanc lacks", None if there is None else delivered - there),
        Goal("SEG at the PACS against the finding, ml", travelled.get("seg_against_findings_ml"), 0.01, False),
        none("studies stuck", travelled.get("stuck")),
    ]  # fmt: skip


def main() -> int:
    """Run all three; 0 when every goal is met."""
    archives = Path(os.environ.get("RADFLEET_DATA", "")) / "dicom" / "archives"
    if not os.environ.get("RADFLEET_DATA") or not archives.is_dir():
        print(
            "RADFLEET_DATA is not set or holds no dicom/archives: set it to the folder of the test data",
            file=sys.stderr,
        )
        return 1
    missing = [tool for tool in (*line.TOOLS, "dcm2niix") if shutil.which(tool) is None]
    if missing:
        print(
            f"conformance needs the outside tools {', '.join(missing)}: install dcmtk, dicom3tools, orthanc,"
            " orthanc-dicomweb and dcm2niix", file=sys.stderr,
        )  # fmt: skip
        return 1
    geometry.main()
    grids = json.loads((BUILD / "conformance-geometry.json").read_text())
    made = objects.run(sorted(archives.glob("*.tar.xz")))
    print(
        f"objects: {made['series']} series, {made['objects']} objects, refused {made['refused_by_code']}",
        flush=True,
    )
    travelled = line.run()
    if travelled["failed"]:
        print(travelled["failed"], file=sys.stderr)
    tools = {
        "dcmtk": ["dcmsend", "--version"], "orthanc": ["Orthanc", "--version"], "dcm2niix": ["dcm2niix", "--version"],
        "dciodvfy": ["dciodvfy", "-version"],
    }  # fmt: skip
    return record(
        "conformance", goals_of(grids, made, travelled), geometry=grids, objects=made, line=travelled,
        versions=versions(("radfleet", "pydicom", "pynetdicom", "highdicom", "openvino", "ray"), tools),
        conditions="vendor headers of the two heads are simulated; their images are real scans of one person (n = 1)",
    )  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
