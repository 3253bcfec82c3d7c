"""A node keeps packages by digest: bounded in bytes when loaded, waiting by name when cold."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from registry import models
from registry.core.settings import Settings
from serving.engine import cache, errors
from serving.engine.cache import Shelf, ensure
from serving.engine.package import verify_package
from serving.engine.reconcile import Prefetch, Warm

AWAY = "http://127.0.0.1:1"


class Item:
    def __init__(self, digest: str, size: int = 10) -> None:
        self.digest, self.bytes, self.resting = digest, size, False

    def rest(self) -> None:
        self.resting = True


def test_the_shelf_is_bounded_in_bytes_and_drops_what_was_used_longest_ago() -> None:
    """Mutant caught: counting models instead of weighing them."""
    loads: list[str] = []

    def load(digest: str) -> Item:
        loads.append(digest)
        return Item(digest, 40 if digest == "big" else 10)

    shelf = Shelf(load, 45)
    for digest in ("a", "b", "c", "a", "d"):
        shelf.get(digest)
    assert shelf.digests == ["b", "c", "a", "d"]
    shelf.get("big")
    assert shelf.digests == ["big"]
    assert shelf.bytes == 40
    shelf.get("a")
    assert shelf.digests == ["a"]
    assert loads == ["a", "b", "c", "d", "big", "a"]


def test_one_version_larger_than_the_bound_is_still_answered() -> None:
    shelf = Shelf(lambda digest: Item(digest, 100), 45)
    assert shelf.get("a").digest == "a"
    assert shelf.get("a").digest == "a"


def test_only_the_latest_versions_keep_working_memory() -> None:
    shelf = Shelf(Item, 1000)
    items = [shelf.get(digest) for digest in "abcd"]
    assert [item.resting for item in items] == [True, True, False, False]


def test_a_loader_that_read_another_package_is_refused() -> None:
    shelf = Shelf(lambda _: Item("other"), 1000)
    with pytest.raises(errors.IdentityMismatch):
        shelf.get("asked")
    assert shelf.digests == []


def test_what_is_cached_needs_no_mlflow_and_what_is_cold_waits(packed: Path, tmp_path: Path) -> None:
    digest = verify_package(packed).digest
    with pytest.raises(errors.PackageCold) as cold:
        ensure(AWAY, digest, tmp_path / "cache")
    assert "registry.mlflow_away" in cold.value.lines()
    place = models.place(tmp_path / "cache", digest)
    shutil.copytree(packed, place)
    assert ensure(AWAY, digest, tmp_path / "cache") == place


def test_prefetch_waits_longer_after_each_failure_and_fetches_when_it_can(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now, asked, away = [0.0], [], [True]

    def fake(uri: str, digest: str, cache_dir: Path) -> Path:
        asked.append(now[0])
        if away[0]:
            raise errors.PackageCold()
        place = models.place(cache_dir, digest)
        place.mkdir(parents=True)
        return place

    monkeypatch.setattr(cache, "ensure", fake)
    prefetch = Prefetch(Settings(home=tmp_path, mlflow_url=AWAY), clock=lambda: now[0])
    digest = "sha256:" + "a" * 64
    for second in range(20):
        now[0] = float(second)
        assert prefetch.turn([digest]) == [digest]
    assert asked == [0.0, 2.0, 6.0, 14.0]
    away[0], now[0] = False, 30.0
    assert prefetch.turn([digest]) == []
    assert prefetch.turn([digest]) == []
    assert len(asked) == 5


def test_a_version_is_warmed_once_while_it_is_approved_and_a_failure_stops_nothing() -> None:
    """Mutant caught: warming at every turn, which would take the replicas from studies."""
    asked: list[str] = []

    def load(digest: str) -> int:
        asked.append(digest)
        if digest == "b":
            raise RuntimeError
        return 2

    warm = Warm(load)
    for approved in (["a"], ["a"], ["a", "b", "c"], ["a", "b", "c"], ["a", "b", "c"], [], ["a"]):
        warm.turn(approved)
    assert asked == ["a", "b", "c", "a"]
