"""The import contracts of pyproject.toml hold, and would not hold for a package that breaks them."""

import subprocess
import sys
import tomllib
from pathlib import Path

from tests.house.tree import PACKAGES, ROOT

LINT = [
    sys.executable,
    "-c",
    "from importlinter.cli import lint_imports_command; lint_imports_command()",
    "--no-cache",
]


def lint(folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(LINT, cwd=folder, capture_output=True, text=True, timeout=300, check=False)


def test_the_contracts_hold() -> None:
    done = lint(ROOT)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]


def test_siblings_and_core_are_guarded(tmp_path: Path) -> None:
    """Mutant: a toy tree under the very same contracts, with serving -> monitoring and core -> domain."""
    linter = (ROOT / "pyproject.toml").read_text().partition("[tool.importlinter]")
    assert tomllib.loads(linter[1] + linter[2])["tool"]["importlinter"]["contracts"]
    (tmp_path / "pyproject.toml").write_text(linter[1] + linter[2])
    for package in (*PACKAGES, "registry/core"):
        (tmp_path / package).mkdir()
        (tmp_path / package / "__init__.py").write_text("")
    (tmp_path / "registry" / "clinics.py").write_text("")
    assert lint(tmp_path).returncode == 0
    for name, line, contract in (
        ("serving/wrong.py", "import monitoring", "serving and monitoring are siblings above registry"),
        ("registry/core/wrong.py", "import registry.clinics", "registry.core knows no domain"),
        ("registry/wrong.py", "import torch", "registry and monitoring never touch tensors, DICOM or Ray"),
    ):
        (tmp_path / name).write_text(line + "\n")
        done = lint(tmp_path)
        (tmp_path / name).unlink()
        assert done.returncode != 0
        assert f"{contract} BROKEN" in done.stdout
