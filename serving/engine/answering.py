"""From instances on disk to everything that goes back: the one path that a served study and `study analyse` share."""

import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol
from uuid import UUID

import numpy as np
from pydicom import dcmread

from registry.core.errors import RadfleetError
from serving.engine.errors import IdentityMismatch
from serving.engine.package import Package
from serving.imaging import child, quality
from serving.imaging.volume import Volume, load_volume
from serving.results import findings as findings_v1
from serving.results import preview, seg, source, sr
from serving.results.answer import Answer
from serving.results.objects import ResultObject
from serving.reviews import ladder

Trace = Callable[[str, dict[str, object]], None]
Prepare = Callable[[Sequence[Path], Mapping[str, Any], Path], child.Prepared]


@dataclass(frozen=True, slots=True)
class Question:
    """One study revision and the version that is bound to answer it."""

    clinic_id: UUID
    study_id: UUID
    revision: int
    task: str
    fence: int
    digest: str
    binding_seq: int | None
    name: str
    version: str
    created_at: datetime
    paths: Sequence[Path]
    work_dir: Path
    trace: Trace
    report_before: Path | None = None
    """The report of an earlier revision, which this answer's replaces."""
    stands: Callable[[str], bool] = lambda _series: False
    """Whether an earlier answer was made by this version of all of this series, with its SeriesInstanceUID."""


class Unchanged(Exception):
    """Nothing that this version reads has changed since its earlier answer: not an error, but no new answer."""


@dataclass(frozen=True, slots=True)
class Reply:
    """What the engine says: arrays on the volume's grid [I,J,K], and who computed them.

    ``digest`` is the loader's own, computed from the bytes that it read.
    """

    mask: np.ndarray[Any, np.dtype[np.uint8]]
    brain: np.ndarray[Any, np.dtype[np.uint8]]
    numbers: Mapping[str, float]
    warnings: Sequence[str]
    digest: str
    runtime: str
    device: str
    seconds: Mapping[str, float]
    probability: np.ndarray[Any, np.dtype[np.float16]] | None = None
    """Of label 1; None where the engine keeps none."""


class Engine(Protocol):
    """Where packages run: Ray Serve for the service, this process for `study analyse`."""

    def package(self, digest: str) -> Package:
        """The verified package of a digest on this node. Raises Unavailable when it cannot be had now."""

    def infer(self, question: Question, volume_dir: Path) -> Reply:
        """Run the package of ``question.digest`` on the volume saved in ``volume_dir``."""


@dataclass(frozen=True, slots=True)
class Made:
    """Everything one attempt made."""

    findings: dict[str, Any]
    objects: tuple[ResultObject, ...]
    profile: dict[str, Any]
    features: dict[str, Any]
    echoed_digest: str
    device: str
    seconds: dict[str, float]
    volume: Volume
    reply: Reply


@dataclass(slots=True)
class _Clock:
    """Seconds per step, each also a row of the trace."""

    trace: Trace
    seconds: dict[str, float] = field(default_factory=dict)
    _last: float = field(default_factory=time.perf_counter)

    def step(self, name: str, **detail: object) -> None:
        now = time.perf_counter()
        self.seconds[name] = round(now - self._last, 3)
        self._last = now
        self.trace(name, {"seconds": self.seconds[name], **detail})


def answer(
    engine: Engine,
    question: Question,
    *,
    prepare: Prepare = child.prepare,
    identifiers: Mapping[str, Any] | None = None,
) -> Made:
    """Prepare, infer, measure and write the answer. Raises the named errors of imaging, engine and results.

    ``prepare`` makes a saved volume of the question's paths; by default one limited child process.
    A reply whose digest is not the question's is refused before anything is made of it (promise P6). Raises
    Unchanged where the earlier answer stands.
    """
    clock = _Clock(question.trace)
    package = engine.package(question.digest)
    clock.step("package", digest=package.digest)
    prepared = prepare(question.paths, package.model["accepts"], question.work_dir)
    volume = load_volume(prepared.volume_dir)
    clock.step("volume", shape=list(volume.voxels.shape), series=len(prepared.choices))
    if question.stands(volume.SeriesInstanceUID):
        raise Unchanged
    reply = engine.infer(question, prepared.volume_dir)
    if reply.digest != question.digest:
        raise IdentityMismatch("the engine answered with another version than the one bound to this study")
    clock.step("inference", digest=reply.digest, runtime=reply.runtime, device=reply.device)
    features = quality.measure(volume, reply.brain)
    clock.step("quality", count=sum(v is not None for v in features.values()))
    who = Answer(
        clinic_id=question.clinic_id, study_id=question.study_id, revision=question.revision, task=question.task,
        model=question.name, version=question.version, digest=reply.digest, runtime=reply.runtime, device=reply.device,
        binding_seq=question.binding_seq, created_at=question.created_at, product_version=product_version(),
    )  # fmt: skip
    measured = findings_v1.Measured(
        mask=reply.mask, brain=reply.brain, affine=volume.affine, labels=package.model["labels"], numbers=reply.numbers,
        quality=features, profile=prepared.profile, choices=prepared.choices,
        warnings=[*prepared.warnings, *reply.warnings], seconds={**clock.seconds, **reply.seconds},
    )  # fmt: skip
    document = findings_v1.build(who, measured, identifiers)
    objects = _objects(question, volume, reply, who, package, document) if volume.frames else ()
    clock.step("results", count=len(objects))
    return Made(
        findings=document, objects=objects, profile=prepared.profile, features={**features, **dict(reply.numbers)},
        echoed_digest=reply.digest, device=f"{reply.runtime}:{reply.device}", seconds=clock.seconds, volume=volume,
        reply=reply,
    )  # fmt: skip


def _objects(
    question: Question, volume: Volume, reply: Reply, who: Answer, package: Package, document: dict[str, Any]
) -> tuple[ResultObject, ...]:
    origin = source.read(volume, question.paths)
    labels = package.model["labels"]
    mask = seg.build(who, volume, reply.mask, labels, origin)
    # A report that the store has lost is not named: the new answer matters more than the link to the old one.
    before = question.report_before
    earlier = [dcmread(before, stop_before_pixels=True)] if before and before.is_file() else []
    report = sr.build(who, document, mask, origin, earlier)
    picture = preview.build(who, volume, reply.mask, reply.brain, origin, document)
    return mask, report, picture, *_chance(reply, volume, package)


def _chance(reply: Reply, volume: Volume, package: Package) -> tuple[ResultObject, ...]:
    """The answer at other thresholds, kept for reviews and never delivered."""
    if reply.probability is None:
        return ()
    data = ladder.keep(reply.probability, reply.mask, volume, package.model)
    return () if data is None else (ResultObject("chance", "", "", data, hashlib.sha256(data).hexdigest()),)


def product_version() -> str:
    """The version of the installed product."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("radfleet")
    except PackageNotFoundError as error:
        raise RadfleetError(
            "radfleet is not installed in this environment", cure="Run make setup."
        ) from error
