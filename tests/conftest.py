"""What every test gets: outside tools by name, test data by path, loopback sockets only, databases."""

import os
import shutil
import socket
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest

pytest_plugins = ["tests.kit.db", "tests.kit.world"]

# The CI machine installs every tool, so that there a missing one is a broken build and not a skipped test.
IN_CI = os.environ.get("RADFLEET_CI") == "1"
# Each starts a whole Radfleet, which takes all cores: two of these never run at once.
WHOLE = ("tests/chaos/test_small.py", "tests/registry/test_supervisor.py")
INSTALLATIONS = "whole installations"
_LOOPBACK = ("127.", "::1", "localhost", "0.0.0.0")


def _without(reason: str) -> None:
    if IN_CI:
        pytest.fail(f"{reason} (under RADFLEET_CI=1 nothing may be skipped for this)", pytrace=False)
    pytest.skip(reason)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with slow tests first, so that several processes (`make test`) end at about the same time."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: (_work(item.nodeid) != INSTALLATIONS, item.path not in slow))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """One process takes a file whole, for its fixtures' sake. (xdist's loadgroup is deaf under pytest 9.2.)"""
    from xdist.scheduler import LoadScopeScheduling

    scheduling = LoadScopeScheduling(config, log)
    scheduling._split_scope = _work
    return scheduling


def _work(nodeid: str) -> str:
    """The file of a test; one work for all the files that start a whole Radfleet, so that only one runs at a time."""
    file = nodeid.partition("::")[0]
    return INSTALLATIONS if file in WHOLE else file


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip a test whose outside tool is absent, and name the tool."""
    for mark in item.iter_markers("tool"):
        missing = [name for name in mark.args if shutil.which(name) is None]
        if missing:
            _without(f"needs the outside tool {', '.join(missing)}")


@pytest.fixture(scope="session")
def radfleet_data() -> Path:
    """The large test data (never in the repository): the folder that RADFLEET_DATA names."""
    text = os.environ.get("RADFLEET_DATA", "")
    if not text:
        pytest.skip("RADFLEET_DATA not set")
    path = Path(text)
    if not path.is_dir():
        _without(f"RADFLEET_DATA names no folder: {path}")
    return path


@pytest.fixture(scope="session")
def tests_data() -> Path:
    """The small test data of the repository, each with its licence beside it."""
    return Path(__file__).parent / "data"


def _allowed(sock: socket.socket, address: Any) -> bool:
    """Loopback, our own name, Unix sockets. UDP connect sends nothing: Ray learns its address so."""
    if sock.family not in (socket.AF_INET, socket.AF_INET6) or sock.type & socket.SOCK_DGRAM:
        return True
    host = str(address[0])
    return host == "" or host.startswith(_LOOPBACK) or host in _own_addresses()


@cache
def _own_addresses() -> frozenset[str]:
    name = socket.gethostname()
    try:
        return frozenset({name, *(str(found[4][0]) for found in socket.getaddrinfo(name, None))})
    except OSError:
        return frozenset({name})


@pytest.fixture(autouse=True, scope="session")
def _only_loopback() -> Iterator[None]:
    """No test talks to another machine: a connect beyond loopback fails by name."""
    connect, connect_ex = socket.socket.connect, socket.socket.connect_ex

    def guarded(self: socket.socket, address: Any) -> None:
        if not _allowed(self, address):
            raise AssertionError(f"a test tried to connect to another machine: {address}")
        return connect(self, address)

    def guarded_ex(self: socket.socket, address: Any) -> int:
        if not _allowed(self, address):
            raise AssertionError(f"a test tried to connect to another machine: {address}")
        return connect_ex(self, address)

    socket.socket.connect = guarded  # type: ignore[method-assign]
    socket.socket.connect_ex = guarded_ex  # type: ignore[method-assign]
    yield
    socket.socket.connect, socket.socket.connect_ex = connect, connect_ex  # type: ignore[method-assign]
