"""Reads a standard: one TOML file of rules, checked whole before any rule is used."""

import hashlib
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

from registry.conformance.errors import StandardInvalid, StandardUnknown
from registry.conformance.judge import Verdict
from registry.conformance.values import VALUES, Answer

HERE = Path(__file__).parent
PRESENT: Final = "ms-2021"
"""The standard by which acquisitions are judged."""
BASES: Final = frozenset({"published", "rule file", "judgement"})
_NAME = re.compile(r"[a-z0-9][a-z0-9-]{1,40}")
_CODE = re.compile(r"PROT-[A-Z0-9]{2,12}")
_RULE = frozenset({"id", "code", "value", "reads", "when", "accept", "warn", "tasks", "source", "says", "basis",
                   "advice", "case"})  # fmt: skip


@dataclass(frozen=True, slots=True)
class Range:
    """What is allowed: numbers from ``low`` to ``high`` (None: open), or one of ``words``."""

    low: float | None = None
    high: float | None = None
    words: tuple[str | bool, ...] = ()

    def holds(self, value: Answer) -> bool:
        """Whether ``value`` lies within."""
        if self.words:
            return value in self.words
        if isinstance(value, bool) or not isinstance(value, int | float):
            return False
        return (self.low is None or value >= self.low) and (self.high is None or value <= self.high)


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule. ``tasks``: the worst that it can say for each; ``cases``: acquisitions by DICOM keyword."""

    id: str
    code: str
    value: str
    reads: frozenset[str]
    when: Mapping[str, tuple[str, ...]]
    accept: Range
    warn: Range | None
    tasks: Mapping[str, Verdict]
    source: str
    says: str
    basis: str
    advice: str
    cases: tuple[tuple[Verdict, Mapping[str, Any]], ...]


@dataclass(frozen=True, slots=True)
class Standard:
    """A standard in one version. ``digest``: sha256 of the file, so that no rule changes under a version."""

    name: str
    version: int
    title: str
    sources: Mapping[str, str]
    rules: tuple[Rule, ...]
    digest: str

    @property
    def label(self) -> str:
        """``ms-2021/1``."""
        return f"{self.name}/{self.version}"

    @property
    def tasks(self) -> frozenset[str]:
        """Tasks of which at least one rule speaks."""
        return frozenset(task for rule in self.rules for task in rule.tasks)

    def rule(self, id: str) -> Rule | None:
        """The rule of this name, if this version has it."""
        return next((rule for rule in self.rules if rule.id == id), None)


@cache
def load(name: str = PRESENT) -> Standard:
    """A standard that is shipped. Raises StandardUnknown, StandardInvalid."""
    path = HERE / f"{name}.toml"
    if not _NAME.fullmatch(name) or not path.is_file():
        raise StandardUnknown(f"there is no standard {name!r}")
    return parse(path.read_bytes())


def parse(data: bytes) -> Standard:
    """The standard in the bytes of a file. Raises StandardInvalid, which names the rule and what is wrong with it."""
    try:
        table = tomllib.loads(data.decode())
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise StandardInvalid("the file is no TOML text") from error
    _only(table, {"name", "version", "title", "sources", "rule"}, "the file")
    name, version, rows = table.get("name"), table.get("version"), table.get("rule")
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise StandardInvalid("the file has no name")
    if not isinstance(version, int) or isinstance(version, bool) or version < 1:
        raise StandardInvalid("version is no number from 1 on")
    if not isinstance(rows, list) or not rows:
        raise StandardInvalid("the file has no rule")
    sources = {key: str(text) for key, text in _table(table.get("sources"), "sources").items()}
    rules = tuple(_rule(row, sources) for row in rows)
    twice = {rule.id for rule in rules if sum(other.id == rule.id for other in rules) > 1}
    if twice:
        raise StandardInvalid(f"two rules are called {sorted(twice)[0]}")
    digest = "sha256:" + hashlib.sha256(data).hexdigest()
    return Standard(name, version, str(table.get("title", name)), sources, rules, digest)


def _rule(row: Any, sources: Mapping[str, str]) -> Rule:
    its = _table(row, "a rule")
    id = its.get("id")
    if not isinstance(id, str) or not _NAME.fullmatch(id):
        raise StandardInvalid("a rule has no id")
    where = f"rule {id}"
    _only(its, _RULE, where)
    for name in ("code", "value", "source", "says", "basis", "advice"):
        if not isinstance(its.get(name), str) or not its[name].strip():
            raise StandardInvalid(f"{where} has no {name}")
    if its["value"] not in VALUES:
        raise StandardInvalid(f"{where} asks for {its['value']!r}, which no header gives")
    if not _CODE.fullmatch(its["code"]) or its["basis"] not in BASES or its["source"] not in sources:
        raise StandardInvalid(f"{where}: code, basis or source is none that is known")
    when = {name: tuple(words) for name, words in _table(its.get("when", {}), where).items()}
    if unknown := sorted(set(when) - set(VALUES)):
        raise StandardInvalid(f"{where} depends on {unknown[0]!r}, which no header gives")
    reads = frozenset(_words(its.get("reads"), f"{where}: reads"))
    needs = VALUES[its["value"]].keywords.union(*(VALUES[name].keywords for name in when))
    if reads != needs:
        odd = sorted(reads - needs) or sorted(needs - reads)
        raise StandardInvalid(
            f"{where}: the DICOM keyword {odd[0]} is {'not read for' if reads - needs else 'missing in reads of'} it"
        )
    rule = Rule(
        id, its["code"], its["value"], reads, when, _range(its.get("accept"), where),
        _range(its["warn"], where) if "warn" in its else None, _tasks(its.get("tasks"), where), its["source"],
        its["says"], its["basis"], its["advice"], _cases(its.get("case"), where),
    )  # fmt: skip
    if rule.advice.count(".") - len(re.findall(r"\d\.\d", rule.advice)) != 1 or rule.advice[-1] != ".":
        raise StandardInvalid(f"{where}: advice is one sentence")
    return rule


def _range(given: Any, where: str) -> Range:
    if isinstance(given, list) and given and all(isinstance(word, str | bool) for word in given):
        return Range(words=tuple(given))
    its = _table(given, f"{where}: accept or warn")
    _only(its, {"min", "max"}, where)
    low, high = its.get("min"), its.get("max")
    numbers = [x for x in (low, high) if x is not None]
    if not numbers or any(isinstance(x, bool) or not isinstance(x, int | float) for x in numbers):
        raise StandardInvalid(f"{where}: a range needs min, max or both as numbers")
    if low is not None and high is not None and low > high:
        raise StandardInvalid(f"{where}: a range ends before it begins")
    return Range(low, high)


def _tasks(given: Any, where: str) -> dict[str, Verdict]:
    found = _table(given, f"{where}: tasks")
    if not found or any(word not in (Verdict.WARN, Verdict.REFUSE) for word in found.values()):
        raise StandardInvalid(f"{where}: tasks say for each task the worst that happens, warn or refuse")
    return {task: Verdict(word) for task, word in found.items()}


def _cases(given: Any, where: str) -> tuple[tuple[Verdict, Mapping[str, Any]], ...]:
    if not isinstance(given, list):
        raise StandardInvalid(f"{where} has no case")
    found = []
    for row in given:
        its = dict(_table(row, f"{where}: case"))
        try:
            found.append((Verdict(its.pop("is", None)), its))
        except ValueError:
            raise StandardInvalid(f"{where}: a case does not say what it is") from None
    said = {verdict for verdict, _ in found}
    if Verdict.ACCEPT not in said or not said & {Verdict.WARN, Verdict.REFUSE}:
        raise StandardInvalid(f"{where} needs a case that passes and one that fails")
    return tuple(found)


def _table(given: Any, where: str) -> Mapping[str, Any]:
    if not isinstance(given, dict):
        raise StandardInvalid(f"{where}: a table is missing")
    return given


def _words(given: Any, where: str) -> Sequence[str]:
    if not isinstance(given, list) or not given or not all(isinstance(word, str) for word in given):
        raise StandardInvalid(f"{where}: a list of words is missing")
    return given


def _only(table: Mapping[str, Any], known: set[str] | frozenset[str], where: str) -> None:
    if unknown := sorted(set(table) - known):
        raise StandardInvalid(f"{where} has {unknown[0]!r}, which means nothing here")
