"""Every named error: its own code, a why, a cure that says what to do, fit to cross a process, raised in a test."""

import ast
import importlib
import pickle
import re
from pathlib import Path

import pytest

from registry.core.errors import FAMILIES, RadfleetError
from tests.house.tree import files, modules, text, tree

CODE = re.compile(r"[a-z]+\.[a-z0-9]+(_[a-z0-9]+)*")
SENTENCES = re.compile(r"(?<=[.;:])\s+|,\s+(?:then|and|or)\s+|\s+(?:and|or)\s+")
# A cure tells a person to do something, or says plainly that nobody has to.
VERBS = frozenset(
    """
    add analyse ask attach begin bind bring change check choose clear close compare connect convert
    copy correct create cut decide deliver discard do enter exclude export fetch fill find free get
    give grant increase inspect install keep leave let list load look lower make mend mount move
    name open pass pick place point press put raise read rebuild reduce refer register release
    reload remove rename repair repeat replace report resend reset restart restore retry return
    review revoke round run save say search see select send set shorten show sign split start stop
    store submit switch take tell trace try turn unpack update upgrade use verify wait wake write
    """.split()  # noqa: SIM905 - a list of words reads better than a list of strings
)
NOBODY = ("no person needs to act", "nothing needs to be done")


def defining() -> list[Path]:
    """Modules in which an error with a code stands."""
    return [
        path
        for path in modules()
        if any(
            isinstance(node, ast.ClassDef)
            and any(isinstance(s, ast.Assign) and ast.unparse(s.targets[0]) == "code" for s in node.body)
            for node in ast.walk(tree(path))
        )
    ]


def every_error() -> list[type[RadfleetError]]:
    for path in defining():
        importlib.import_module(".".join(path.with_suffix("").parts))
    found: list[type[RadfleetError]] = []
    waiting = [RadfleetError]
    while waiting:
        waiting += (kind := waiting.pop()).__subclasses__()
        found.append(kind)
    ours = {kind for kind in found if kind.__module__.split(".")[0] in ("registry", "serving", "monitoring")}
    return sorted(ours, key=lambda kind: (kind.__module__, kind.__name__))


ERRORS = every_error()
# The families are not raised themselves: their subclasses are.
NAMED = [kind for kind in ERRORS if kind.__module__ != "registry.core.errors"]


def name(kind: type) -> str:
    return f"{kind.__module__}.{kind.__name__}"


def test_an_error_stands_in_its_rooms_errors_file() -> None:
    elsewhere = [p for p in defining() if p.name != "errors.py" and p.parts[:2] != ("registry", "core")]
    assert elsewhere == []


def test_codes_are_unique() -> None:
    codes = [kind.code for kind in ERRORS if kind is not RadfleetError]
    assert sorted({code for code in codes if codes.count(code) > 1}) == []


def tells_what_to_do(cure: str) -> bool:
    phrases = [phrase.strip().lower() for phrase in SENTENCES.split(cure)]
    return any(p.split(" ")[0].strip(".,:") in VERBS for p in phrases if p) or cure.lower().rstrip(
        "."
    ).endswith(NOBODY)


@pytest.mark.parametrize("kind", ERRORS, ids=name)
def test_an_error_says_what_why_and_cure(kind: type[RadfleetError]) -> None:
    assert CODE.fullmatch(kind.code)
    assert kind.family in FAMILIES
    assert (kind.__doc__ or "").strip()
    assert "code" in vars(kind), "a subclass has a code of its own"
    assert tells_what_to_do(kind.cure), f"no verb in: {kind.cure}"


@pytest.mark.parametrize("kind", ERRORS, ids=name)
def test_an_error_survives_the_way_through_another_process(kind: type[RadfleetError]) -> None:
    error = kind("this happened", why="for this reason", cure="Do this.")
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is kind
    assert (again.what, again.why_text, again.cure_text) == (error.what, error.why_text, error.cure_text)
    bare = pickle.loads(pickle.dumps(kind()))
    assert bare.what
    assert "\n" not in bare.what
    assert len(bare.comment()) <= 64


TESTS = {path: text(path) for path in files("*.py") if path.parts[0] == "tests" and path.parts[1] != "house"}


def raised_in(kind: type[RadfleetError], tests: dict[Path, str]) -> list[Path]:
    """Test files that name the code, or the class imported from its own module (two rooms may share a class name)."""
    module = kind.__module__
    found = []
    for path, source in tests.items():
        by_code = re.search(rf"\b{re.escape(kind.code)}\b", source) is not None
        from_module = f"from {module} import" in source or f"import {module}" in source
        parent, _, leaf = module.rpartition(".")
        from_parent = re.search(rf"from {re.escape(parent)} import [^\n]*\b{leaf}\b", source) is not None
        if by_code or ((from_module or from_parent) and re.search(rf"\b{kind.__name__}\b", source)):
            found.append(path)
    return found


@pytest.mark.parametrize("kind", NAMED, ids=name)
def test_an_error_is_raised_in_a_test(kind: type[RadfleetError]) -> None:
    if any(other.__mro__[1] is kind for other in NAMED):
        return  # the room's own family: its members are raised
    found = bool(raised_in(kind, TESTS))  # not the call itself: its argument would fill the report
    assert found, f"no test names {kind.__name__} or {kind.code}"


def test_the_rules_bite() -> None:
    assert not tells_what_to_do("An error occurred.")
    assert tells_what_to_do("Nothing is lost. Wait until it is back.")

    class Lonely(RadfleetError):
        """Nobody raises this."""

        code = "house.lonely"

    Lonely.__module__ = "house.errors"
    assert raised_in(Lonely, {Path("tests/test_x.py"): "from house.errors import Other\nLonely"}) != []
    assert raised_in(Lonely, {Path("tests/test_x.py"): "Lonely"}) == []
    assert raised_in(Lonely, {Path("tests/test_x.py"): 'code == "house.lonely"'}) != []
    assert re.fullmatch(CODE, "House.Lonely") is None
