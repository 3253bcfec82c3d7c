"""This node's packages: fetched once from MLflow in a child process, then loaded within a bound of bytes.

The child is a process of its own because MLflow's client alone takes 170 MB, which a worker, a replica or
the engine's loop would otherwise keep for ever.
"""

import os
import subprocess
import sys
import threading
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Generic, Protocol, TypeVar

from registry import models
from registry.core.errors import RadfleetError
from serving.engine import errors
from serving.engine.package import verify_package

FETCH_S_MAX = 300
# Loaded versions that keep their working memory; the others keep their weights and take it again.
HOT = 2


def ensure(uri: str, digest: str, cache_dir: Path) -> Path:
    """The folder of a verified package on this node; fetched from the MLflow at ``uri`` when it is not there.

    Raises ``PackageCold`` when it can neither be found nor fetched now.
    """
    place = models.place(cache_dir, digest)
    if place.is_dir():
        return place
    command = [sys.executable, "-m", "serving.engine.cache", uri, digest, str(cache_dir)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(part for part in sys.path if part)}
    try:
        child = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=FETCH_S_MAX, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise errors.PackageCold("Fetching the bound version took too long") from error
    if child.returncode != 0 or not place.is_dir():
        words = child.stderr.split()
        code = words[-1] if words and "." in words[-1] else f"exit status {child.returncode}"
        raise errors.PackageCold("The bound version is not on this node and cannot be fetched now", code)
    return place


def main() -> int:
    """The child: fetch one package; on failure the last word on standard error is the error's code."""
    uri, digest, cache_dir = sys.argv[1:4]
    try:
        models.fetch(uri, digest, Path(cache_dir), lambda folder: verify_package(folder).digest)
    except RadfleetError as error:
        sys.stderr.write(f"{error.code}\n")
        return error.answer.exit
    return 0


class Loaded(Protocol):
    """What the shelf holds: a predictor, or anything that names its digest and its size."""

    digest: str

    @property
    def bytes(self) -> int:
        """Memory that it keeps while at rest."""

    def rest(self) -> None:
        """Give back working memory."""


Item = TypeVar("Item", bound=Loaded)


class Shelf(Generic[Item]):
    """Loaded packages by digest, the least recently used leaving first, bounded in bytes and not in number.

    ``@serve.multiplexed`` can only count models, and evicts before it loads; so Serve is told which digests
    were asked here (for routing) and this shelf decides what stays. The newest always stays.
    """

    def __init__(self, load: Callable[[str], Item], bytes_max: int) -> None:
        self._load = load
        self._bytes_max = bytes_max
        self._items: OrderedDict[str, Item] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, digest: str) -> Item:
        """The loaded package of ``digest``. Raises ``IdentityMismatch`` when the loader read another one."""
        with self._lock:
            item = self._items.get(digest)
            if item is None:
                item = self._load(digest)
                if item.digest != digest:
                    raise errors.IdentityMismatch("The loader read another package than the one asked for")
                self._items[digest] = item
            self._items.move_to_end(digest)
            self._make_room()
            return item

    def _make_room(self) -> None:
        while len(self._items) > 1 and self.bytes > self._bytes_max:
            self._items.popitem(last=False)
        for old in list(self._items.values())[:-HOT]:
            old.rest()

    @property
    def bytes(self) -> int:
        """Bytes of everything on the shelf, at rest."""
        return sum(item.bytes for item in self._items.values())

    @property
    def digests(self) -> list[str]:
        """What is loaded, the next to leave first."""
        return list(self._items)


if __name__ == "__main__":
    sys.exit(main())
