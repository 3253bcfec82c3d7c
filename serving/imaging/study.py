"""From the files of one study to the one volume that a model may answer, in this very process.

Hostile bytes are read here, so doors and workers never call this directly: they call
``serving.imaging.child.prepare``, which runs it in a child with limits.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from serving.imaging import errors, limits, profile
from serving.imaging.child import CHOICES, PREPARED
from serving.imaging.profile import SequenceClass
from serving.imaging.scan import Header, scan
from serving.imaging.series import Stack, build, is_mr, one_stack, stacks
from serving.imaging.volume import Volume, save_volume
from serving.studies.eligibility import Choice, SeriesFacts, choose, head_refusal, refusal, study_error

_TRIES = 8


@dataclass(frozen=True, slots=True)
class Candidate:
    """One series of a study: its files' headers, facts, and its stack where it has exactly one."""

    headers: tuple[Header, ...]
    facts: SeriesFacts
    stack: Stack | None


def prepare_here(paths: Sequence[Path], accepts: Mapping[str, Any], out_dir: Path) -> dict[str, Any]:
    """Choose a series, decode it, save the volume, and return the record of ``prepared.json``.

    Writes ``choices.json`` (also when the study is refused), ``volume.npy``, ``geometry.json`` and
    ``prepared.json`` into ``out_dir``. Raises the ImagingError that speaks for the whole study.
    """
    out_dir.mkdir(parents=True, exist_ok=True)
    headers, skipped = _headers(paths)
    _one_patient(headers)
    candidates = [_candidate(group) for group in _by_series(headers)]
    volume, candidate, choices = _first_that_holds(candidates, accepts, out_dir)
    notes = tuple(f"{len(codes)} files were skipped: {code}" for code, codes in skipped.items())
    volume = replace(volume, warnings=(*volume.warnings, *notes))
    save_volume(volume, out_dir)
    record = {
        "choices": [choice.record() for choice in choices],
        "profile": profile.profile(
            candidate.headers, candidate.facts.sequence_class, volume.spacing, volume.shape
        ),
        "series_instance_uids": [c.facts.SeriesInstanceUID for c in candidates],
        "warnings": list(volume.warnings),
    }
    (out_dir / PREPARED).write_text(json.dumps(record, allow_nan=False), encoding="utf-8")
    return record


def _headers(paths: Sequence[Path]) -> tuple[list[Header], dict[str, list[Path]]]:
    """Headers of the readable files; the others by the code of their refusal."""
    if len(paths) > limits.MAX_FILES:
        raise errors.TooLarge("A study holds more files than one study may.")
    found: list[Header] = []
    skipped: dict[str, list[Path]] = {}
    first: errors.ImagingError | None = None
    for path in sorted(paths):
        try:
            found.append(scan(path))
        except errors.ImagingError as error:
            first = first or error
            skipped.setdefault(error.code, []).append(path)
    if not found:
        raise first or errors.NotDicom("The study holds no files.")
    return found, skipped


def _one_patient(headers: Sequence[Header]) -> None:
    """Raises MixedPatients where two different PatientIDs appear in one study."""
    if len({header.text("PatientID") for header in headers} - {""}) > 1:
        raise errors.MixedPatients()


def _by_series(headers: Sequence[Header]) -> list[tuple[Header, ...]]:
    groups: dict[str, list[Header]] = {}
    for header in headers:
        groups.setdefault(header.text("SeriesInstanceUID"), []).append(header)
    return [tuple(group) for group in groups.values()]


def _candidate(headers: tuple[Header, ...]) -> Candidate:
    """Facts of one series; what is wrong with it becomes ``facts.problem``."""
    images = tuple(header for header in headers if is_mr(header))
    first = (images or headers)[0]
    if not images:
        modality = first.text("Modality")
        return Candidate(headers, _facts(first, "SR" if modality == "MR" else modality), None)
    problem: errors.ImagingError | None = None
    stack: Stack | None = None
    count, orientations = len(images), 1
    try:
        orientations = len(stacks(images))
        stack = one_stack(images)
        count = len(stack.planes)
    except errors.ImagingError as error:
        problem = error
    kind = profile.sequence_class(images, stack.moments if stack else 1, orientations)
    return Candidate(images, _facts(first, "MR", kind, stack, count, problem), stack)


def _facts(
    header: Header,
    modality: str,
    kind: SequenceClass = SequenceClass.UNKNOWN,
    stack: Stack | None = None,
    slices: int = 0,
    problem: errors.ImagingError | None = None,
) -> SeriesFacts:
    spacing, coverage = (0.0, 0.0, 0.0), 0.0
    if stack is not None:
        plane = stack.planes[0]
        coverage = float(abs(stack.distances[-1] - stack.distances[0]))
        between = coverage / (len(stack.planes) - 1)
        spacing = (plane.spacing[1], plane.spacing[0], between)
        coverage += between
    return SeriesFacts(
        SeriesInstanceUID=header.text("SeriesInstanceUID"),
        modality=modality or "OT",
        sequence_class=kind,
        body_part=header.text("BodyPartExamined"),
        slices=slices,
        spacing_mm=spacing,
        coverage_mm=coverage,
        volumes=stack.moments if stack else 1,
        three_d=header.text("MRAcquisitionType") == "3D",
        problem=problem,
    )


def _first_that_holds(
    candidates: Sequence[Candidate], accepts: Mapping[str, Any], out_dir: Path
) -> tuple[Volume, Candidate, list[Choice]]:
    """Decode the best series; if its pixels refuse it, take the next best."""
    facts = [candidate.facts for candidate in candidates]
    for _ in range(_TRIES):
        choices = choose(facts, accepts)
        text = json.dumps([choice.record() for choice in choices])
        (out_dir / CHOICES).write_text(text, encoding="utf-8")
        best = next((n for n, choice in enumerate(choices) if choice.chosen), None)
        if best is None:
            break
        stack = candidates[best].stack
        try:
            if stack is None:
                raise errors.NoGeometry()
            volume = build(stack)
            problem: errors.ImagingError | None = head_refusal(volume)
        except errors.ImagingError as error:
            problem = error
        if problem is None:
            return volume, candidates[best], choices
        facts[best] = replace(facts[best], problem=problem)
    reasons = [reason for reason in (refusal(row, accepts) for row in facts) if reason is not None]
    raise study_error(reasons)
