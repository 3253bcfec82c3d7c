"""Fixtures of the engine's tests."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.serving.engine.toy import ToyShape, toy_model, toy_net, toy_segment, toy_weights


def know_the_toy(patch: pytest.MonkeyPatch) -> None:
    """Adds architecture and task ``toy`` until ``patch`` is undone."""
    from serving.engine import architectures, segmentation

    patch.setattr(architectures, "ARCHITECTURES", {**architectures.ARCHITECTURES, "toy": ToyShape()})
    patch.setattr(architectures, "build", toy_net)
    patch.setattr(segmentation, "TASKS", {**segmentation.TASKS, "toy": toy_segment})


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Knows the toy for one test."""
    know_the_toy(monkeypatch)


@pytest.fixture(scope="session")
def toy_package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sound toy package, made once: conversion takes a second."""
    from serving.engine.package import write_package

    place = tmp_path_factory.mktemp("made") / "toy"
    with pytest.MonkeyPatch.context() as patch:
        know_the_toy(patch)
        write_package(place, toy_model(), {"card": "a toy"}, {"brain": toy_weights()})
    return place


@pytest.fixture
def packed(toy: None, toy_package: Path, tmp_path: Path) -> Path:
    """A copy of the toy package that a test may spoil."""
    return Path(shutil.copytree(toy_package, tmp_path / "toy"))
