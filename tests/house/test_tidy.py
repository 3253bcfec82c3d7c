"""Files and functions stay small, every module says what it is for, SQL stays in its place, nothing is left undone."""

import ast
import io
import re
import tokenize
from pathlib import Path

import pytest

from tests.house.tree import ROOT, files, modules, ours, text, tree

FILE_LINES_MAX, FUNCTION_LINES_MAX, POSITIONAL_MAX = 400, 60, 5
JUNK_DRAWERS = {
    "utils.py",
    "util.py",
    "common.py",
    "helpers.py",
    "helper.py",
    "misc.py",
    "base.py",
    "manager.py",
}
TOP_LEVEL = {
    "pyproject.toml", "README.md", "Makefile", "constraints.txt", "LICENSE", "NOTICE", "CHANGELOG.md", "SECURITY.md",
    ".ci", ".gitignore", ".gitattributes", "serving", "monitoring", "registry", "tests", "k8s",
}  # fmt: skip
# Besides *_store.py: the entry to the database, its migrations and its launcher.
MAY_EXECUTE = {"registry/core/db.py", "registry/core/migrate.py", "registry/postgres.py"}
# Written in pieces, so that this file does not hold what it forbids.
UNDONE = re.compile(r"\b(TO" + r"DO|FIX" + r"ME|XX" + r"X|HA" + r"CK)\b")
THIS_MACHINE = re.compile(
    r"(?<![\w.}])/wo" + r"rk/|/opt/wh" + r"eels|py" + r"pi\.org|python" + r"hosted|download\.py" + "torch"
)
CODE, ALL = modules(), modules("registry", "serving", "monitoring", "tests")


def ident(path: Path) -> str:
    return path.as_posix()


@pytest.mark.parametrize("path", ALL, ids=ident)
def test_a_file_is_short_and_says_what_it_is_for(path: Path) -> None:
    assert text(path).count("\n") <= FILE_LINES_MAX
    assert path.name not in JUNK_DRAWERS
    if path.name == "__init__.py" and not text(path).strip():
        return
    assert (ast.get_docstring(tree(path)) or "").strip(), "the first line of a module says what it is for"


def too_long(module: ast.Module) -> list[str]:
    return [
        f"{f.name}: {f.end_lineno - f.lineno + 1} lines"
        for f in ast.walk(module)
        if isinstance(f, ast.FunctionDef | ast.AsyncFunctionDef) and f.end_lineno
        if f.end_lineno - f.lineno + 1 > FUNCTION_LINES_MAX
    ]


@pytest.mark.parametrize("path", CODE, ids=ident)
def test_a_function_fits_on_a_page(path: Path) -> None:
    assert too_long(tree(path)) == []


def executed(module: ast.Module) -> list[int]:
    """Lines on which SQL is run."""
    calls = [n for n in ast.walk(module) if isinstance(n, ast.Call) and isinstance(n.func, ast.Attribute)]
    return [
        call.lineno
        for call in calls
        if isinstance(call.func, ast.Attribute)
        if call.func.attr in {"execute", "executemany"}
        or (call.func.attr == "copy" and "cursor" in ast.unparse(call.func.value))
    ]


@pytest.mark.parametrize("path", CODE, ids=ident)
def test_sql_is_run_in_stores_alone(path: Path) -> None:
    if not path.name.endswith("_store.py") and path.as_posix() not in MAY_EXECUTE:
        assert executed(tree(path)) == [], "SQL belongs into a *_store.py"


@pytest.mark.parametrize("path", ALL, ids=ident)
def test_nothing_is_left_undone(path: Path) -> None:
    tokens = tokenize.generate_tokens(io.StringIO(text(path)).readline)
    assert [t.start[0] for t in tokens if t.type == tokenize.COMMENT and UNDONE.search(t.string)] == []
    raises = [node for node in ast.walk(tree(path)) if isinstance(node, ast.Raise) and node.exc is not None]
    stubs = [node.lineno for node in raises if "NotImplementedError" in ast.unparse(node)]
    assert path.parts[0] == "tests" or stubs == []


def test_no_file_names_the_machine_that_it_was_written_on() -> None:
    found = []
    for path in files():
        try:
            found += [
                f"{path}:{n}"
                for n, line in enumerate(text(path).splitlines(), 1)
                if THIS_MACHINE.search(line)
            ]
        except UnicodeDecodeError:
            continue
    assert found == []


def test_the_top_level_holds_what_the_design_lists() -> None:
    assert {path.name for path in ROOT.iterdir() if ours(path.name)} - TOP_LEVEL == set()


def test_test_data_is_small_and_has_its_licence() -> None:
    data = ROOT / "tests" / "data"
    inside = [path for path in data.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in inside) <= 12 << 20
    for folder in data.iterdir():
        if folder.is_dir():
            assert any(path.name.startswith("LICENSE") for path in folder.rglob("*")), (
                f"{folder.name} lacks its licence"
            )


def test_the_rules_bite() -> None:
    """Mutants: each rule refuses the file that it is there to refuse."""
    long = "def f():\n" + "    x = 1\n" * FUNCTION_LINES_MAX
    assert too_long(ast.parse(long)) == ["f: 61 lines"]
    assert executed(ast.parse("def f(conn):\n    conn.execute('select 1')\n")) == [2]
    assert executed(ast.parse("def f(c):\n    c.cursor().executemany('insert', [])\n")) == [2]
    assert UNDONE.search("# TO" + "DO: later")
    assert not UNDONE.search("# what there is to do")
    assert THIS_MACHINE.search("open('/wo" + "rk/main')")
