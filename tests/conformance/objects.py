"""Result objects of real vendors' series: judged by dciodvfy and dsrdump, stored in Orthanc, read back bit-equal.

Run alone with ``python -m tests.conformance.objects``; writes build/conformance-objects.json and exits
non-zero when a goal is missed. The masks are drawn by rule (a blob about the brightest voxel), because what
is judged is where and how a mask is written, not what a model finds.
"""

import io
import json
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID, uuid5

import numpy as np
from pydicom import dcmread

from registry.core.errors import RadfleetError
from serving.imaging.series import read_series
from serving.imaging.volume import Volume
from serving.results import deliver, findings, preview, seg, source, sr
from serving.results.objects import ResultObject
from tests.kit import sources as kit
from tests.kit.judges import ACCEPTED, dciodvfy_errors, dsrdump, own_errors
from tests.kit.orthanc import Orthanc, orthanc

ROOT = Path(__file__).parents[2]
# Series that read as volumes and that can carry a segmentation; fewer means a reader got worse.
SERIES_MIN = 3


@dataclass(slots=True)
class Tally:
    """What was counted."""

    series: int = 0
    objects: int = 0
    dciodvfy_errors: list[str] = field(default_factory=list)
    inherited: int = 0
    differing: list[str] = field(default_factory=list)
    refused: dict[str, int] = field(default_factory=dict)


def series_of(archive: Path, folder: Path) -> Iterator[list[Path]]:
    """The instances of each series in one archive."""
    with tarfile.open(archive) as tar:
        tar.extractall(folder, filter="data")
    found: dict[str, list[Path]] = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            header = dcmread(path, force=True, specific_tags=["SeriesInstanceUID"], stop_before_pixels=True)
            found.setdefault(str(header.get("SeriesInstanceUID", "")), []).append(path)
    yield from found.values()


def mask_of(volume: Volume) -> tuple[np.ndarray, np.ndarray]:
    """A lesion-like blob with rough edges, and a box that stands for the brain; both uint8 [I,J,K]."""
    centre = np.array(np.unravel_index(int(np.argmax(volume.voxels)), volume.shape))
    grids = np.indices(volume.shape).transpose(1, 2, 3, 0)
    distance = np.linalg.norm((grids - centre) * volume.spacing, axis=-1)
    rough = np.random.default_rng(5).random(volume.shape) < 0.8
    brain = np.zeros(volume.shape, np.uint8)
    brain[tuple(slice(n // 4, max(n // 4 + 1, 3 * n // 4)) for n in volume.shape)] = 1
    return ((distance < 12) & rough).astype(np.uint8), brain


def made(
    volume: Volume, paths: list[Path], name: str
) -> tuple[list[ResultObject], np.ndarray, frozenset[str]]:
    """SEG, SR and preview of one series, the mask that they show, and the UIDs of their source."""
    who = kit.answer(study_id=uuid5(UUID(int=0), name))
    origin = source.read(volume, paths)
    mask, brain = mask_of(volume)
    measured = findings.Measured(mask=mask, brain=brain, affine=volume.affine, labels=kit.LABELS)
    document = findings.build(who, measured)
    segmentation = seg.build(who, volume, mask, kit.LABELS, origin)
    report = sr.build(who, document, segmentation, origin)
    results = [segmentation, report, preview.build(who, volume, mask, brain, origin, document)]
    return results, mask, origin.references


def judge(
    result: ResultObject, origin: Path, references: frozenset[str], tally: Tally, name: str, folder: Path
) -> Path:
    """Let the outside judges read one object; returns its file. ``origin`` is one of its source instances."""
    path = folder / f"{name}-{result.kind}.dcm"
    path.write_bytes(result.data)
    tally.objects += 1
    own = own_errors(path, origin, references)
    tally.dciodvfy_errors += [f"{name} {result.kind}: {line}" for line in own]
    tally.inherited += len(dciodvfy_errors(path)) - len(own)
    if result.kind == "sr":
        dsrdump(path)
    return path


def stored_equal(archive: Orthanc, results: list[ResultObject], mask: np.ndarray, volume: Volume) -> bool:
    """Whether the archive gives back each dataset as written, and the SEG's planes equal the mask."""
    for result in results:
        back = archive.instance(result.SOPInstanceUID)
        if back is None or dcmread(io.BytesIO(back)) != dcmread(io.BytesIO(result.data)):
            return False
    import highdicom

    again = highdicom.seg.segread(io.BytesIO(archive.instance(results[0].SOPInstanceUID) or b""))
    frames = volume.frames
    if len({frame.SOPInstanceUID for frame in frames}) == 1:
        numbers = [frame.FrameNumber for frame in frames]
        planes = again.get_pixels_by_source_frame(
            frames[0].SOPInstanceUID, numbers, assert_missing_frames_are_empty=True
        )
    else:
        names = [frame.SOPInstanceUID for frame in frames]
        planes = again.get_pixels_by_source_instance(names, assert_missing_frames_are_empty=True)
    return bool(np.array_equal(volume.axes.apply(planes[..., 0].transpose(2, 1, 0)), mask))


def run(archives: list[Path]) -> dict[str, Any]:
    """Judge every series of ``archives``; the returned dict has ``passed`` and the figures."""
    tally = Tally()
    with orthanc() as archive, tempfile.TemporaryDirectory() as scratch:
        places = [
            deliver.Destination("cstore", "127.0.0.1", archive.dicom_port, "PACS"),
            deliver.Destination("stow", url=archive.dicomweb),
        ]
        for number, packed in enumerate(archives):
            for turn, paths in enumerate(series_of(packed, Path(scratch) / str(number))):
                name = f"{packed.name.removesuffix('.tar.xz')}-{turn}"
                try:
                    volume = read_series(paths)
                    results, mask, references = made(volume, paths, name)
                except RadfleetError as error:
                    tally.refused[error.code] = tally.refused.get(error.code, 0) + 1
                    continue
                files = [judge(r, paths[0], references, tally, name, Path(scratch)) for r in results]
                with deliver.courier(places[tally.series % 2], files) as send:
                    for path in files:
                        send(path)
                if not stored_equal(archive, results, mask, volume):
                    tally.differing.append(name)
                tally.series += 1
    passed = tally.series >= SERIES_MIN and not tally.dciodvfy_errors and not tally.differing
    return {
        "passed": passed, "archives": len(archives), "series": tally.series, "objects": tally.objects,
        "dciodvfy_errors": tally.dciodvfy_errors, "errors_of_the_source_itself": tally.inherited,
        "accepted_exceptions": list(ACCEPTED),
        "not_read_back_equal": tally.differing, "refused_by_code": tally.refused,
    }  # fmt: skip


def main() -> int:
    """Judge the repository's own archives, or a folder given as argument."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "tests" / "data" / "dicom"
    figures = run(sorted(folder.glob("*.tar.xz")))
    out = ROOT / "build" / "conformance-objects.json"
    out.parent.mkdir(exist_ok=True)
    out.write_text(json.dumps(figures, indent=2) + "\n")
    print(json.dumps(figures, indent=2))
    return 0 if figures["passed"] else 1


if __name__ == "__main__":
    sys.exit(main())
