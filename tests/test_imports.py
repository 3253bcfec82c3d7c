"""Every dependency of pyproject.toml imports in the tested set: "no broken requirements" does not say so."""

import importlib
import re
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
OWNERS = packages_distributions()
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
# What is a command, or only types for mypy, and has no module to import.
NO_MODULE = {"types-pyyaml"}
# Where a distribution ships several modules, or the metadata is not enough.
MODULE = {"ray": "ray.serve", "psycopg": "psycopg_pool", "pillow": "PIL.Image", "pyjpegls": "jpeg_ls"}


def _name(requirement: str) -> str:
    return re.split(r"[\[<>=!~; ]", requirement, maxsplit=1)[0].lower().replace("_", "-")


def _requirements() -> list[str]:
    extras = [r for group in PROJECT["optional-dependencies"].values() for r in group]
    return sorted({_name(r) for r in [*PROJECT["dependencies"], *extras]} - NO_MODULE)


def _module(requirement: str) -> str:
    if requirement in MODULE:
        return MODULE[requirement]
    found = [
        module
        for module, names in OWNERS.items()
        if requirement in {n.lower().replace("_", "-") for n in names} and not module.startswith("_")
    ]
    assert found, f"{requirement} is not installed: run make setup"
    return min(
        found, key=lambda module: (module.lower() != requirement.replace("-", "_"), len(module), module)
    )


@pytest.mark.parametrize("requirement", _requirements())
def test_a_dependency_is_installed_and_has_a_module(requirement: str) -> None:
    assert _module(requirement)


def test_all_dependencies_import_together() -> None:
    """In one fresh process, as a service has them: the break is between packages (evidently, pandas)."""
    modules = [_module(requirement) for requirement in _requirements()]
    lines = "\n".join(f"import {module}" for module in modules)
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", lines], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr[-2000:]


def test_nobody_else_ships_our_package_names() -> None:
    """The names are generic: another distribution with a top-level `registry` would shadow ours."""
    for package in ("registry", "serving", "monitoring"):
        assert {name.lower() for name in OWNERS.get(package, ["radfleet"])} == {"radfleet"}
        module = importlib.import_module(package)
        assert module.__file__ is not None
        assert Path(module.__file__).is_relative_to(ROOT)


def test_constraints_hold_every_dependency_exactly() -> None:
    pins = {}
    for line in (ROOT / "constraints.txt").read_text().splitlines():
        if line and not line.startswith("#"):
            name, _, version = line.partition("==")
            assert version, f"not an exact pin: {line}"
            pins[name.lower().replace("_", "-")] = version
    assert set(_requirements()) - set(pins) == set()
    text = (ROOT / "constraints.txt").read_text()
    assert "://" not in text
    assert "+cpu" not in text, "the CPU build is the machine's choice, not the set's"
