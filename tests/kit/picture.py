"""A study with a real preview in the store, and the HTTP door that draws it."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any
from uuid import UUID

import numpy as np

from registry.core.settings import Settings
from serving.doors import http, pages
from serving.imaging.volume import Volume
from serving.results import preview, source
from tests.kit import sources as kit
from tests.kit.answered import AnsweredStudy
from tests.kit.db import FreshDb
from tests.kit.site import listening
from tests.kit.world import World


def head() -> tuple[Volume, np.ndarray, np.ndarray]:
    """A made-up head on 2 mm voxels: an ellipsoid with two ventricles and five lesions; mask and brain beside it."""
    shape = (96, 112, 80)
    x, y, z = np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing="ij")
    radius = np.sqrt((x / 0.82) ** 2 + (y / 0.88) ** 2 + (z / 0.8) ** 2)
    brain = (radius < 1).astype(np.uint8)
    grey = np.where(radius < 0.86, 620.0, 820.0) + np.random.default_rng(3).normal(0, 30, shape)
    for side in (-1, 1):
        grey[((x - side * 0.14) / 0.08) ** 2 + (y / 0.36) ** 2 + ((z - 0.05) / 0.2) ** 2 < 1] = 180
    mask = np.zeros(shape, np.uint8)
    for at in (
        (0.3, 0.3, 0.1),
        (-0.28, 0.34, 0.14),
        (0.33, -0.25, 0.12),
        (-0.3, -0.3, 0.05),
        (0.24, 0.05, 0.3),
    ):
        mask[sum(((a - b) / 0.07) ** 2 for a, b in zip((x, y, z), at, strict=True)) < 1] = 1
    grey[mask > 0] = 1150
    grey[radius > 1.05] = 0
    return Volume(voxels=grey.astype(np.float32), affine=np.diag([2.0, 2.0, 2.0, 1.0])), mask, brain


def add_preview(world: World, study: AnsweredStudy, findings: dict[str, Any]) -> tuple[UUID, np.ndarray]:
    """Store the preview of an answered study as its worker would; the object's id, and its pixels."""
    slices = kit.classic()
    pixels = preview.draw(kit.answer(), *head(), findings)
    made = preview.capture(kit.answer(), pixels, source.from_headers(kit.volume(slices), slices))
    path = f"clinic/{study.clinic}/bb/{study.study.hex}.dcm"
    full = world.db.settings.store_dir / path
    full.parent.mkdir(parents=True, exist_ok=True)
    full.write_bytes(made.data)
    ((id,),) = world.sql(
        "insert into serving.result_object(clinic_id, result_id, kind, path, size, sha256) "
        "values (%s, %s, 'preview', %s, %s, %s) returning id",
        study.clinic, study.result, path, len(made.data), b"0" * 32,
    )  # fmt: skip
    return UUID(str(id)), pixels


@contextmanager
def door(db: FreshDb) -> Iterator[Settings]:
    """The HTTP door as far as pictures go; settings that lead the pages to it."""
    nothing: Any = None
    its = partial(pages.attach, settings=db.settings, database=db.database)
    app = http.application(nothing, nothing, nothing, pages=its)
    with listening(app) as base:
        yield replace(db.settings, door_url=base)
