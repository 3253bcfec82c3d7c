"""Rendering from a made label map: outlines by definition, seeds, shapes, planted lesions, the pool's files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from serving.training import labelmaps as lm
from serving.training.donors import Donor, Host, draw_donor, plant
from serving.training.lesion_pool import SIZE, Pool, cut, pack, unpack


def small_head() -> lm.LabelMap:
    """Balls in balls at 1 mm: white, cortex, CSF, skull."""
    shape = (112, 112, 112)
    grid = np.meshgrid(*[np.arange(n) - (n - 1) / 2 for n in shape], indexing="ij")
    radius = np.sqrt(sum(axis**2 for axis in grid))
    group = np.full(shape, 0, np.uint8)
    group[radius < 52] = lm.FIRST_OUTSIDE
    group[radius < 46] = lm.CSF
    group[radius < 42] = lm.CORTEX
    group[radius < 38] = lm.WHITE
    group[radius < 8] = lm.VENTRICLE
    hull, mask, icv = lm.outlines_of(group)
    return lm.LabelMap(group, hull, mask, icv, np.eye(4), 1)


@pytest.fixture(scope="module")
def head() -> lm.LabelMap:
    return small_head()


def host_of(head: lm.LabelMap) -> Host:
    shift = np.eye(4)
    shift[:3, 3] = [-55, -73, -45]
    return Host(head, head.group == lm.WHITE, shift)


def donor() -> Donor:
    mask = np.zeros((60, 60, 60), np.uint8)
    mask[20:30, 20:30, 20:30] = 1
    mask[40:44, 40:44, 40:44] = 1
    affine = np.eye(4)
    affine[:3, 3] = [-30, -48, -20]
    return Donor(1, mask, affine)


def test_outlines_nest_by_definition(head: lm.LabelMap) -> None:
    assert not (head.hull & ~head.mask).any() and not (head.mask & ~head.icv).any()
    volume = [4 / 3 * np.pi * radius**3 for radius in (42, 43, 46)]
    assert [m.sum() for m in head.outlines()] == pytest.approx(volume, rel=0.03)


def test_cropping_moves_the_affine(head: lm.LabelMap) -> None:
    small = lm.cropped(head)
    inside = np.argwhere(small.icv)[0]
    there = (small.affine @ [*inside, 1])[:3].astype(int)
    assert head.icv[tuple(there)] and small.icv.sum() == head.icv.sum()


def test_lesions_lie_in_white_matter(head: lm.LabelMap) -> None:
    host = host_of(head)
    part = plant(np.random.default_rng(3), host, donor())
    assert part.any() and not (part[~host.white] > 0).any()


def test_head_images_follow_the_seed(head: lm.LabelMap) -> None:
    import torch

    from serving.training.render_head import Head, head_stream
    from serving.training.warp import as_float

    ready = Head(as_float(head.group), torch.stack([as_float(m) for m in head.outlines()]), np.full(3, 55.5))
    one = next(head_stream(np.random.default_rng(5), [ready], ring=1))
    two = next(head_stream(np.random.default_rng(5), [ready], ring=1))
    assert torch.equal(one[0], two[0]) and torch.equal(one[1], two[1])
    image, target = one
    assert target.shape == (3, *image.shape) and all(side % 16 == 0 for side in image.shape)
    assert float(image.min()) >= 0 and float(image.max()) <= 1.2 + 1e-6
    for axis in range(3):  # framed as at use, the outlines with the image
        ends = [0, 1, image.shape[axis] - 1]
        assert not image.index_select(axis, torch.tensor(ends)).any()
        assert not target.index_select(axis + 1, torch.tensor(ends)).any()
    assert float(image[target[0] > 0.99].mean()) > 2 * float(image[target[2] < 0.01].mean())


def test_the_lesions_of_one_person_are_planted_whole(head: lm.LabelMap) -> None:
    host, giver = host_of(head), donor()
    sizes = [plant(np.random.default_rng(seed), host, giver, whole=True) for seed in range(6)]
    some = [plant(np.random.default_rng(seed), host, giver) for seed in range(6)]
    counts = [(len(np.unique(a)) - 1, len(np.unique(b)) - 1) for a, b in zip(sizes, some, strict=True)]
    assert all(whole >= part for whole, part in counts) and any(whole > part for whole, part in counts)


def test_every_donor_is_as_likely_where_loads_must_be_natural() -> None:
    light = Donor(1, np.ones((2, 2, 2), np.uint8), np.eye(4))
    heavy = Donor(2, np.ones((40, 40, 40), np.uint8), np.eye(4))
    rng = np.random.default_rng(4)
    share = [
        np.mean([draw_donor(rng, [light, heavy], power).person == 1 for _ in range(400)])
        for power in (0, 0.4)
    ]
    assert share[0] == pytest.approx(0.5, abs=0.08) and share[1] < 0.1


def test_lesions_are_at_least_as_bright_as_grey_matter(head: lm.LabelMap) -> None:
    from serving.training.render_flair import flair_image, flair_scene

    for seed in range(4):
        rng = np.random.default_rng(seed)
        scene = flair_scene(rng, host_of(head), [donor()], one_person=True)
        image, lesion, _ = flair_image(rng, scene, contrast=(0.12, 0.13))
        core = lesion & (np.asarray(scene.part) > 0)
        grey = image[(np.asarray(scene.group) == lm.CORTEX) & np.asarray(scene.brain)]
        assert np.median(image[core]) > np.median(grey) - 0.06


def test_flair_and_pool_round_trip(head: lm.LabelMap, tmp_path: Path) -> None:
    from serving.training.render_flair import BOX, flair_image, flair_scene

    rng = np.random.default_rng(8)
    scene = flair_scene(rng, host_of(head), [donor()])
    image, lesion, _ = flair_image(rng, scene, contrast=(0.5, 0.6))
    assert image.shape == BOX and image.min() == -1 and image.max() <= 2
    assert abs(float(np.median(image[image > -0.5]))) < 0.3  # normal tissue is scaled to 0
    stored = pack(image, lesion)
    assert np.abs(unpack(stored[0])[stored[0] > 0] - image[image > -1]).max() < 0.007
    np.save(tmp_path / "001-00000.npy", stored)
    pool = Pool(tmp_path, seed=1)
    assert pool.refresh() == 1
    for values, mask in pool.stacks(4):
        assert values.shape == (5, SIZE, SIZE) and mask.shape == (1, SIZE, SIZE)
        assert values.dtype == mask.dtype == np.float32 and values.min() == -1


def test_small_volumes_are_padded() -> None:
    stored = np.ones((2, 40, 50, 30), np.uint8)
    values, mask = cut(np.random.default_rng(0), stored)
    assert values.shape == (5, SIZE, SIZE) and 30 * 40 <= mask.sum() <= 40 * 50
