"""One study in one process with no server: the very code of the served path, from files to findings.

Only the transport differs: no queue, no Ray, no registry. Preparation, package, predictor, quality and
findings are the functions that a worker and a replica call.
"""

import json
import tempfile
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import numpy as np

from serving.engine import answering, errors
from serving.engine.answering import Question, Reply
from serving.engine.package import Package, default_package, verify_package
from serving.engine.predictor import Predictor
from serving.imaging import child
from serving.imaging.volume import Volume, load_volume, read_nifti, save_volume

NIFTI = (".nii", ".nii.gz")
NOBODY = UUID(int=0)


class LocalEngine:
    """The engine in this process, as ``answering.Engine`` describes it: one package, loaded at first use."""

    def __init__(self, folder: Path, threads: int, runtime: str = "auto") -> None:
        self._folder, self._threads, self._runtime = folder, threads, runtime
        self._package = verify_package(folder)
        self._predictor: Predictor | None = None

    @property
    def digest(self) -> str:
        """The digest of the package that answers."""
        return self._package.digest

    def package(self, digest: str) -> Package:
        """The verified package. Raises ``IdentityMismatch`` for another digest than its own."""
        if digest != self._package.digest:
            raise errors.IdentityMismatch("This process holds another package than the one asked for")
        return self._package

    def infer(self, question: Question, volume_dir: Path) -> Reply:
        """Segment the volume saved in ``volume_dir``. Raises the task's named errors."""
        self.package(question.digest)
        if self._predictor is None:
            self._predictor = Predictor(self._folder, self._threads, self._runtime)
        done = self._predictor.predict(load_volume(volume_dir))
        return Reply(
            mask=done.segmentation.mask,
            brain=done.segmentation.brain,
            numbers=dict(done.segmentation.numbers),
            warnings=tuple(done.segmentation.warnings),
            digest=done.digest,
            runtime=done.runtime,
            device=done.device,
            seconds=done.seconds,
        )


def analyse(
    path: Path, task: str, out: Path, package: Path | None = None, *, threads: int = 2, runtime: str = "auto"
) -> dict[str, Any]:
    """Answer a DICOM folder (or file) or a NIfTI file; returns the findings document.

    Writes ``findings.json`` and ``mask.nii.gz`` (uint8 labels on the input's grid, RAS affine; for DICOM the
    grid that dcm2niix gives) into ``out``. Raises the named errors of imaging, engine and results, and
    ``PackageNone`` when no package answers the task.
    """
    folder = package or default_package(task)
    engine = LocalEngine(folder, threads, runtime)
    model = engine.package(engine.digest).model
    if model["task"] != task:
        raise errors.PackageNone("That package answers another task than the one asked for")
    with tempfile.TemporaryDirectory(prefix="radfleet-") as scratch:
        question = Question(
            clinic_id=NOBODY,
            study_id=uuid4(),
            revision=1,
            task=task,
            fence=0,
            digest=engine.digest,
            binding_seq=None,
            name=model["name"],
            version=model["version"],
            created_at=datetime.now(UTC),
            paths=_files(path),
            work_dir=Path(scratch),
            trace=lambda _step, _detail: None,
        )
        nifti = path.name.lower().endswith(NIFTI)
        made = answering.answer(engine, question, prepare=_prepare_nifti if nifti else child.prepare)
    out.mkdir(parents=True, exist_ok=True)
    (out / "findings.json").write_text(json.dumps(made.findings, indent=2) + "\n", encoding="utf-8")
    save_mask(made.reply.mask, made.volume, out / "mask.nii.gz")
    return made.findings


def _prepare_nifti(paths: Sequence[Path], accepts: Mapping[str, Any], out_dir: Path) -> child.Prepared:
    """A NIfTI file as the served path would have it: no series to choose from and no header to profile."""
    volume = read_nifti(paths[0])
    save_volume(volume, out_dir)
    return child.Prepared(out_dir, [], {}, [], list(volume.warnings))


def _files(path: Path) -> list[Path]:
    if path.is_dir():
        return sorted(file for file in path.rglob("*") if file.is_file())
    return [path]


def save_mask(mask: np.ndarray[Any, np.dtype[np.uint8]], volume: Volume, path: Path) -> None:
    """Write labels [I,J,K] as NIfTI with the volume's affine, whole or not at all."""
    import nibabel

    image = nibabel.Nifti1Image(mask, volume.affine)
    image.header.set_xyzt_units("mm")
    part = path.with_name(f".{path.name}.part.nii.gz")
    nibabel.save(image, part)
    part.rename(path)
