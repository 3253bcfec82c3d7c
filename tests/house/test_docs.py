"""The documents are true: the commands, targets, settings and files that they name exist, and the other way round."""

import re
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import click
import pytest
import typer

from registry.cli import build
from registry.core.settings import Settings
from tests.house.tree import PACKAGES, ROOT, files, text

DOCUMENTS = files("*.md")
TARGET = re.compile(r"^([a-z][a-z-]*):(?:[^=]|$)", re.MULTILINE)
# Words after `radfleet` in code: the command, until an argument, an option or the end of the code.
CALL = re.compile(r"(?:^|[`(\s/])radfleet((?: [a-z][a-z-]*)+)")
CODE = re.compile(r"```.*?```|`[^`\n]+`", re.DOTALL)


def in_code(document: str) -> str:
    """What stands in code spans and code blocks: prose may speak of Radfleet without naming a command."""
    return "\n".join(CODE.findall(document))


@cache
def commands() -> dict[tuple[str, ...], Any]:
    """Every command by its words, groups too."""
    found: dict[tuple[str, ...], Any] = {}
    waiting: list[tuple[tuple[str, ...], Any]] = [((), typer.main.get_command(build()))]
    while waiting:
        words, command = waiting.pop()
        found[words] = command
        waiting += [((*words, name), below) for name, below in getattr(command, "commands", {}).items()]
    return found


def unknown_commands(document: str) -> list[str]:
    """Calls whose first word is no command, or whose second is none of its group."""
    wrong = []
    for call in CALL.findall(in_code(document)):
        words = tuple(call.split())
        known = commands()
        if words[:1] not in known:
            wrong.append(" ".join(words[:1]))
        elif getattr(known[words[:1]], "commands", None) and len(words) > 1 and words[:2] not in known:
            wrong.append(" ".join(words[:2]))
    return wrong


def targets() -> set[str]:
    return set(TARGET.findall(text(Path("Makefile"))))


@pytest.mark.parametrize("package", [*PACKAGES, "k8s"])
def test_a_package_has_a_readme_with_its_line_and_its_reasons(package: str) -> None:
    readme = ROOT / package / "README.md"
    assert readme.exists()
    assert len(readme.read_text().splitlines()) <= 120
    for heading in ("Straight line", "Why it is so"):
        assert re.search(rf"^#+ .*{heading}", readme.read_text(), re.MULTILINE | re.IGNORECASE), heading


@pytest.mark.parametrize("path", DOCUMENTS, ids=str)
def test_a_document_has_each_heading_once_and_whole_tables(path: Path) -> None:
    """A half of a README once stood in it twice, in the middle of a row, and nothing noticed."""
    lines = re.sub(r"```.*?```", "", text(path), flags=re.DOTALL).splitlines()
    headings = [line for line in lines if line.startswith("#")]
    if path.name != "CHANGELOG.md":  # its headings are those of every version
        assert len(headings) == len({*headings})
    for above, row in pairwise(lines):
        if above.startswith("|") and row.startswith("|"):
            assert _cells(above) == _cells(row), row


def _cells(row: str) -> int:
    return len(re.sub(r"`[^`]*`|\\\|", "", row).split("|"))


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.as_posix())
def test_a_document_names_commands_and_targets_that_exist(path: Path) -> None:
    assert unknown_commands(text(path)) == []
    named = set(re.findall(r"\bmake ([a-z][a-z-]+)", in_code(text(path))))
    assert named - targets() == set()


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.as_posix())
def test_a_document_links_to_files_that_exist(path: Path) -> None:
    links = re.findall(r"\]\(([^)#\s]+)", text(path))
    gone = [link for link in links if "://" not in link and not (ROOT / path.parent / link).exists()]
    assert gone == []


@pytest.mark.parametrize("name", sorted(Settings.__dataclass_fields__))
def test_every_setting_is_documented(name: str) -> None:
    assert any(f"RADFLEET_{name.upper()}" in text(path) for path in DOCUMENTS)


def test_every_setting_that_a_document_names_exists() -> None:
    known = {f"RADFLEET_{name.upper()}" for name in Settings.__dataclass_fields__} | {
        "RADFLEET_CI",
        "RADFLEET_CI_DEMO",
        "RADFLEET_ACTOR",
    }
    named = {word for path in DOCUMENTS for word in re.findall(r"\bRADFLEET_[A-Z_]+[A-Z]\b", text(path))}
    assert named - known == set()


def test_every_command_says_what_it_does() -> None:
    silent = [" ".join(words) for words, command in commands().items() if not (command.help or "").strip()]
    assert silent == []


def test_every_command_group_is_in_a_readme() -> None:
    documents = "\n".join(in_code(text(path)) for path in DOCUMENTS)
    top = {words[0] for words in commands() if len(words) == 1 and not commands()[words].hidden}
    assert sorted(name for name in top if not re.search(rf"radfleet\b[^\n]*\b{name}\b", documents)) == []


def test_the_readme_says_the_two_commands_first() -> None:
    readme = text(Path("README.md"))
    assert "make demo" in readme
    assert "make test" in readme
    assert "TORCH_INDEX" in readme, "the README says how an outside machine chooses the CPU build"


def test_every_target_says_what_it_does() -> None:
    helped = set(re.findall(r"^([a-z-]+):.*## \S", text(Path("Makefile")), re.MULTILINE))
    assert targets() - helped == set()


def test_the_rules_bite() -> None:
    assert unknown_commands("Use `radfleet clinics list`.") == ["clinics"]
    assert unknown_commands("Use `radfleet study explode`.") == ["study explode"]
    assert unknown_commands("Use `radfleet study list --json`; radfleet shines.") == []
    assert isinstance(commands()[()], click.Group | typer.core.TyperGroup)
