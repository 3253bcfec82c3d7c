"""The repository as the house tests read it: files, syntax trees and identifiers, parsed once."""

import ast
import os
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
PACKAGES = ("registry", "serving", "monitoring")
_NOT_OURS = {
    ".git", ".venv", ".radfleet", ".train", "build", "__pycache__", ".mypy_cache", ".ruff_cache", ".pytest_cache",
    ".hypothesis", ".import_linter_cache",
}  # fmt: skip


def ours(name: str) -> bool:
    """Whether an entry of that name is part of the repository and not made by a tool."""
    return name not in _NOT_OURS and not name.endswith(".egg-info")


@cache
def files(pattern: str = "*") -> tuple[Path, ...]:
    """Every file of the repository whose name fits, relative to its root."""
    found = []
    for folder, folders, names in os.walk(ROOT):
        folders[:] = [name for name in folders if ours(name)]
        found += [Path(folder, name).relative_to(ROOT) for name in names if Path(name).match(pattern)]
    return tuple(sorted(found))


def modules(*roots: str) -> tuple[Path, ...]:
    """The Python files below these folders; the three packages by default."""
    return tuple(path for path in files("*.py") if path.parts[0] in (roots or PACKAGES))


@cache
def text(path: Path) -> str:
    """The text of one file."""
    return (ROOT / path).read_text()


@cache
def tree(path: Path) -> ast.Module:
    """The syntax tree of one file."""
    return ast.parse(text(path), filename=str(path))


def imports(module: ast.Module) -> list[tuple[str, int]]:
    """(module, line) of every absolute import, those inside functions too, those for type checkers alone not."""
    typing_only = {
        id(child)
        for node in ast.walk(module)
        if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING")
        for statement in node.body
        for child in ast.walk(statement)
    }
    found = []
    for node in ast.walk(module):
        if id(node) in typing_only:
            continue
        if isinstance(node, ast.Import):
            found += [(alias.name, node.lineno) for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            found.append((node.module, node.lineno))
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module"):
            found += [(a.value, node.lineno) for a in node.args[:1] if isinstance(a, ast.Constant)]
    return found


def identifiers(module: ast.Module) -> set[str]:
    """Every name that the code itself chose or uses: variables, attributes, arguments, functions, classes."""
    found: set[str] = set()
    for node in ast.walk(module):
        match node:
            case (
                ast.Name(id=name) | ast.Attribute(attr=name) | ast.arg(arg=name) | ast.keyword(arg=str(name))
            ):
                found.add(name)
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                found.add(name)
    return found
