"""The root of the command line: gathers each package's commands and renders every error in one form.

``radfleet`` and ``python -m registry.cli`` are the same. Exit codes: the families of registry.core.errors,
70 for a bug, 130 for Ctrl-C.
"""

import importlib
import sys
from collections.abc import Callable, Iterator
from functools import cache
from importlib.metadata import PackageNotFoundError, entry_points
from importlib.metadata import version as installed_version
from pathlib import Path
from types import TracebackType

import typer

from registry.core.errors import RadfleetError
from registry.errors import DatabaseRefused, NotMigrated

GROUP = "radfleet.commands"
# Used where the packages lie on the path without being installed, as in a fresh checkout.
BESIDE = {name: f"{name}.commands:attach" for name in ("registry", "serving", "monitoring")}
PACKAGES = Path(__file__).parent.parent
_MISSING = ("UndefinedTable", "UndefinedColumn", "UndefinedFunction", "InvalidSchemaName")
_GAVE_UP = ("LockNotAvailable", "QueryCanceled", "DeadlockDetected", "SerializationFailure")


@cache
def build() -> typer.Typer:
    """The whole command tree; once a process, for attaching twice would put every command in twice."""
    app = typer.Typer(
        name="radfleet",
        help="Runs brain-MRI models for many clinics, and says which version answered.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.command("version")(print_version)
    for name, load in _attachers():
        try:
            load()(app)
        except ImportError as error:
            # `doctor` must still run where a library of one package is broken; it names the library.
            missing = f" ({error.name})" if error.name else ""
            typer.echo(
                f"warning: the commands of {name} could not be loaded{missing}: run radfleet doctor", err=True
            )
    return app


@cache
def tree(made_by: Callable[[], typer.Typer]) -> Callable[..., object]:
    """The commands of an application, ready to run: most of the time of a small command, if done for each."""
    return typer.main.get_command(made_by())


def main(arguments: list[str] | None = None) -> int:
    """Run one command and return its exit code."""
    try:
        tree(build)(args=arguments, prog_name="radfleet")
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except KeyboardInterrupt:
        return 130
    except Exception as error:  # noqa: BLE001 - the one place that turns anything into lines and an exit code
        named = _named(error)
        typer.echo(named.lines(), err=True)
        return named.answer.exit
    return 0


def print_version() -> None:
    """Print the version of Radfleet and of Python."""
    typer.echo(f"radfleet {product_version()} (Python {'.'.join(map(str, sys.version_info[:3]))})")


def product_version() -> str:
    """The installed version, or ``source`` where the packages only lie on the path."""
    try:
        return installed_version("radfleet")
    except PackageNotFoundError:
        return "source"


def _attachers() -> Iterator[tuple[str, Callable[[], Callable[[typer.Typer], None]]]]:
    """Each package's name and a loader of its ``attach``; registry first, for others add verbs to its groups."""
    found = {point.name: point.value for point in entry_points(group=GROUP)} or BESIDE
    for name in sorted(found, key=lambda name: (name != "registry", name)):
        yield name, lambda value=found[name]: _load(value)  # type: ignore[misc]


def _load(value: str) -> Callable[[typer.Typer], None]:
    module, _, name = value.partition(":")
    attach: Callable[[typer.Typer], None] = getattr(importlib.import_module(module), name)
    return attach


def _named(error: Exception) -> RadfleetError:
    """A named error for anything. The text of foreign exceptions may hold patient data, so it is never shown."""
    if isinstance(error, RadfleetError):
        return error
    kind = type(error).__name__
    if type(error).__module__.startswith("psycopg"):
        if kind in _MISSING:
            return NotMigrated()
        if kind in _GAVE_UP:
            return DatabaseRefused(why=f"{DatabaseRefused.why} ({kind})")
    return RadfleetError(
        f"unexpected {kind} at {_place(error.__traceback__)}", why="This is a fault of Radfleet itself."
    )


def _place(trace: TracebackType | None) -> str:
    """File and line of the innermost frame that is ours."""
    place = "an unknown place"
    while trace is not None:
        path = Path(trace.tb_frame.f_code.co_filename)
        if path.is_relative_to(PACKAGES) and "site-packages" not in path.parts:
            place = f"{path.relative_to(PACKAGES)}:{trace.tb_lineno}"
        trace = trace.tb_next
    return place


if __name__ == "__main__":
    sys.exit(main())
