"""An answered study in a fresh database and store: source images, a delivered SEG, the rows that name them."""

from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

import numpy as np
from psycopg.types.json import Jsonb

from serving.imaging.volume import Volume
from serving.results import seg, source
from tests.kit import sources as kit
from tests.kit.world import World


@dataclass(frozen=True, slots=True)
class AnsweredStudy:
    """One study of one clinic with its delivered mask [I,J,K] on ``volume``."""

    clinic: UUID
    study: UUID
    volume: Volume
    mask: np.ndarray
    digest: str
    result: UUID


def a_mask(volume: Volume) -> np.ndarray:
    """A block that is the same in no mirrored or turned copy of itself."""
    mask = np.zeros(volume.shape, np.uint8)
    mask[2:8, 3:7, 1:4] = 1
    mask[8, 3, 1] = 1
    return mask


def answered_study(
    world: World, clinic: UUID, digest: str, *, uid: str = f"{kit.ROOT}.1", task: str = "ms-lesion",
    labels: dict = kit.LABELS, software: str = "XA30",
) -> AnsweredStudy:  # fmt: skip
    """Put an answered study into ``world``; two studies of one world need two ``uid``."""
    slices = kit.classic()
    for k, ds in enumerate(slices, 1):
        ds.StudyInstanceUID, ds.SeriesInstanceUID = uid, f"{uid}.2"
        ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = f"{uid}.3.{k}"
    volume = kit.volume(slices)
    mask = a_mask(volume)
    study = world.study(clinic, uid=uid, state="done")
    job = world.job(clinic, study, f"{study}|1|{task}|infer")
    store = world.db.settings.store_dir
    ((series,),) = world.sql(
        'insert into serving.series(clinic_id, study_id, "SeriesInstanceUID") values (%s, %s, %s) returning id',
        clinic, study, str(slices[0].SeriesInstanceUID),
    )  # fmt: skip
    for k, ds in enumerate(slices):
        path = f"clinic/{clinic}/aa/{study.hex}{k:03d}.dcm"
        (store / path).parent.mkdir(parents=True, exist_ok=True)
        ds.save_as(store / path, enforce_file_format=True)
        world.sql(
            'insert into serving.instance(clinic_id, study_id, series_id, "SOPInstanceUID", "SOPClassUID", path, size,'
            " sha256, source, revision) values (%s, %s, %s, %s, %s, %s, 1, %s, 'test', 1)",
            clinic, study, series, str(ds.SOPInstanceUID), kit.MR, path, study.bytes + k.to_bytes(16, "big"),
        )  # fmt: skip
    made = seg.build(
        kit.answer(clinic_id=clinic, study_id=study, digest=digest), volume, mask, labels,
        source.from_headers(volume, slices),
    )  # fmt: skip
    path = f"clinic/{clinic}/aa/{study.hex}seg.dcm"
    (store / path).write_bytes(made.data)
    ((result,),) = world.sql(
        "insert into serving.result(clinic_id, study_id, revision, task, job_id, fence, binding_scope, binding_seq,"
        " digest, findings) values (%s, %s, 1, %s, %s, 1, '*', 1, %s, '{}') returning id",
        clinic, study, task, job, digest,
    )  # fmt: skip
    world.sql(
        "insert into serving.result_object(clinic_id, result_id, kind, path, size, sha256)"
        " values (%s, %s, 'seg', %s, %s, %s)",
        clinic, result, path, len(made.data), bytes.fromhex(made.sha256),
    )  # fmt: skip
    profile = {"vendor": "siemens", "model": "Prisma", "software": f"syngo MR {software}", "software_major": software,
               "field_t": 3.0, "sequence_class": "FLAIR", "coil": "head", "protocol": "p"}  # fmt: skip
    world.sql(
        "insert into serving.feature(clinic_id, study_id, revision, task, digest, profile, values)"
        " values (%s, %s, 1, %s, %s, %s, '{}')", clinic, study, task, digest, Jsonb(profile),
    )  # fmt: skip
    world.sql(
        "update registry.job set state = 'done', payload = jsonb_build_object('task', %s::text) where id = %s",
        task, job,
    )  # fmt: skip
    return AnsweredStudy(clinic, study, volume, mask, digest, UUID(str(result)))


def draw(
    world: World, of: AnsweredStudy, *, blinded: bool = False, twice: bool = False, why: str = "routine"
) -> None:
    """Draw it to be read, as the follower does; in the first stream of its clinic, which is made where none is."""
    streams = world.sql("select id from monitoring.stream where clinic_id = %s", of.clinic) or world.sql(
        "insert into monitoring.stream(clinic_id, task, sequence, digest, began_seq)"
        " values (%s, 'ms-lesion', 'FLAIR', %s, 1) returning id", of.clinic, of.digest,
    )  # fmt: skip
    world.sql(
        "insert into monitoring.audit(clinic_id, stream_id, study_id, seq, chance, draw, why, blinded, twice)"
        " select clinic_id, %s, study_id, seq, .2, .1, %s, %s, %s from serving.feature where study_id = %s",
        streams[0][0], why, blinded, twice, of.study,
    )  # fmt: skip


def version_with_labels(world: World, digest: str, version: str = "1.0.0", labels: dict = kit.LABELS) -> str:
    """A registered ms-lesion version whose model.json describes these labels."""
    world.sql(
        "insert into registry.model_version(digest, name, version, task, runtime_class, model, card, created_by)"
        " values (%s, 'ms-lesion', %s, 'ms-lesion', 'cpu-small', %s, '{}', 'test')",
        digest, version, Jsonb({"labels": labels}),
    )  # fmt: skip
    return digest


def nifti(path: Path, labels: np.ndarray, affine: np.ndarray, descrip: str = "") -> Path:
    """Write a NIfTI file as a reader's program would."""
    import nibabel

    image = nibabel.Nifti1Image(labels, affine)
    image.header["descrip"] = descrip.encode()
    nibabel.save(image, path)
    return path
