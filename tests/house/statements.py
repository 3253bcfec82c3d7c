"""Every SQL statement of the stores, read from the source: constants, and text written inside an execute call."""

import ast
import re
from dataclasses import dataclass
from pathlib import Path

from tests.house.tree import modules, tree

_VERB = re.compile(r"\s*(select|insert|update|delete|with|merge)\b", re.IGNORECASE)
_NAMED = re.compile(r"%\((\w+)\)s")
_PLAIN = re.compile(r"(?<!%)%s")


@dataclass(frozen=True, slots=True)
class Statement:
    """One SQL text and where it stands."""

    path: Path
    name: str
    line: int
    sql: str

    @property
    def parameters(self) -> dict[str, None] | list[None] | None:
        """NULL for every parameter, in the form in which psycopg wants them."""
        if names := _NAMED.findall(self.sql):
            return dict.fromkeys(names)
        if count := len(_PLAIN.findall(self.sql)):
            return [None] * count
        return None


def _literal(node: ast.expr, known: dict[str, str]) -> str | None:
    """The text of a constant expression: a literal, a sum, a name or an f-string of known constants."""
    match node:
        case ast.Constant(value=str(value)):
            return value
        case ast.Name(id=name):
            return known.get(name)
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            one, two = _literal(left, known), _literal(right, known)
            return None if one is None or two is None else one + two
        case ast.JoinedStr(values=values):
            parts = [_literal(v.value if isinstance(v, ast.FormattedValue) else v, known) for v in values]
            return None if None in parts else "".join(part or "" for part in parts)
    return None


def in_module(path: Path, module: ast.Module) -> list[Statement]:
    """The statements of one module, in the order of their lines."""
    known: dict[str, str] = {}
    found: dict[int, Statement] = {}
    for node in module.body:
        target, value = None, None
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            target, value = node.targets[0].id, node.value
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            target, value = node.target.id, node.value
        if target and value is not None and target.isupper():
            sql = _literal(value, known)
            if sql is not None:
                known[target] = sql
                if _VERB.match(sql):
                    found[node.lineno] = Statement(path, target, node.lineno, sql)
    for node in ast.walk(module):
        if (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and node.func.attr == "execute"
        ):
            sql = _literal(node.args[0], {}) if node.args else None
            if sql is not None and _VERB.match(sql):
                found[node.lineno] = Statement(path, f"line {node.lineno}", node.lineno, sql)
    return [found[line] for line in sorted(found)]


def stores() -> list[Statement]:
    """Every statement of every store, and of the entry to the database."""
    paths = [p for p in modules() if p.name.endswith("_store.py") or p.as_posix() == "registry/core/db.py"]
    return [statement for path in paths for statement in in_module(path, tree(path))]
