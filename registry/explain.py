"""``radfleet explain CODE``: the long form of every named error, found in the classes themselves."""

import importlib
import inspect
import pkgutil
from collections.abc import Iterator, Sequence
from types import ModuleType

from registry.core.errors import RadfleetError
from registry.errors import CodeUnknown

PACKAGES = ("registry", "serving", "monitoring")
# `core` defines its errors beside the code that raises them; everywhere else they stand in `errors.py`.
WHOLE = ("registry.core",)


def every_error() -> Sequence[type[RadfleetError]]:
    """Every error class with a code of its own, by code."""
    for _ in _modules():
        pass
    found = {cls.code: cls for cls in _below(RadfleetError) if "code" in vars(cls)}
    return [found[code] for code in sorted(found)]


def find(code: str) -> type[RadfleetError]:
    """The class with this code. Raises CodeUnknown."""
    for cls in every_error():
        if cls.code == code:
            return cls
    raise CodeUnknown


def headline(cls: type[RadfleetError]) -> str:
    """What it means, in one sentence."""
    return (inspect.getdoc(cls) or cls.code).splitlines()[0]


def facts(cls: type[RadfleetError]) -> dict[str, object]:
    """Everything about a class, for programs."""
    answer = cls().answer
    return {
        "code": cls.code, "what": headline(cls), "family": cls.family, "why": cls.why, "cure": cls.cure,
        "http": answer.http, "exit": answer.exit, "dimse": f"{answer.dimse:04X}", "retry": answer.retry,
        "long": inspect.getdoc(cls) or "",
    }  # fmt: skip


def long_form(cls: type[RadfleetError]) -> str:
    """The same for people."""
    it = facts(cls)
    again = "sending it again later can help" if it["retry"] else "sending the same again will not help"
    text = [
        f"{it['code']}: {it['what']}",
        f"  why:    {it['why']}" if it["why"] else "",
        f"  cure:   {it['cure']}",
        f"  family: {it['family']} ({again})",
        f"  answer: HTTP {it['http']}, exit code {it['exit']}, DIMSE status {it['dimse']}",
    ]
    more = str(it["long"]).partition("\n")[2].strip()
    return "\n".join([*filter(None, text), *([f"\n{more}"] if more else [])])


def _modules() -> Iterator[ModuleType]:
    for package in PACKAGES:
        for name in _names(package):
            if name.rpartition(".")[2] == "errors" or name.startswith(WHOLE):
                yield importlib.import_module(name)


def _names(package: str) -> Iterator[str]:
    """Names of all modules of a package, without importing anything but package ``__init__`` files."""
    try:
        root = importlib.import_module(package)
    except ImportError:
        return
    for info in pkgutil.walk_packages(root.__path__, f"{package}."):
        yield info.name


def _below(cls: type[RadfleetError]) -> Iterator[type[RadfleetError]]:
    yield cls
    for child in cls.__subclasses__():
        yield from _below(child)
