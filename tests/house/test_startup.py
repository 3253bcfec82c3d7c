"""The command line and the doors start without the heavy libraries: asked of a fresh process, not of a clock."""

import json
import subprocess
import sys

import pytest

from tests.house.tree import ROOT

HEAVY = {
    "torch", "monai", "mlflow", "ray", "evidently", "openvino", "highdicom", "pynetdicom", "pandas", "sklearn",
    "statsmodels", "matplotlib", "onnx", "onnxruntime",
}  # fmt: skip
HELP = """
import json, sys
from registry.cli import main
code = main(["--help"])
assert code == 0, code
print("\\n" + json.dumps(sorted({name.split(".")[0] for name in sys.modules})))
"""


def loaded(code: str) -> set[str]:
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return set(json.loads(done.stdout.splitlines()[-1]))


def test_help_imports_no_heavy_library() -> None:
    assert loaded(HELP) & HEAVY == set()


@pytest.mark.parametrize("module", ["registry.cli", "registry.commands", "serving.commands"])
def test_a_command_module_imports_no_heavy_library(module: str) -> None:
    code = f"import json, sys, {module}\nprint(json.dumps(sorted(n.split('.')[0] for n in sys.modules)))"
    assert loaded(code) & HEAVY == set()
