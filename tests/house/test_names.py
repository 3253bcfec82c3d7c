"""One word for one thing: the second word for a thing that already has one is refused."""

import ast
import re
from pathlib import Path

import pytest
from pydicom.datadict import tag_for_keyword

from tests.house.tree import files, identifiers, modules, text, tree

# The word on the left is not used; the one on the right is.
INSTEAD = {
    "assignment": "binding", "assignments": "binding", "deployment_id": "binding",
    "tenant_id": "clinic_id", "customer": "clinic", "hospital": "clinic", "site_id": "clinic",
    "organisation": "clinic", "organization": "clinic", "champion": "active", "challenger": "candidate",
    "modality_device": "scanner", "exam": "study", "exam_id": "study", "accession_id": "study",
    "checksum": "digest or sha256", "md5": "sha256", "model_hash": "digest", "model_digest": "digest",
    "recipient": "destination", "embargo": "hold", "quarantine": "hold",
    "metric_row": "feature", "try_count": "attempts",
}  # fmt: skip
SNAKE = re.compile(r"[a-z0-9]+(?:_[a-z0-9]+)*")


def _words(name: str) -> set[str]:
    snake = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()
    return {snake, *snake.split("_")}


def second_words(names: set[str]) -> list[str]:
    """What is wrong with these names; the keywords of DICOM are the Standard's own and stay as they are."""
    own = [name for name in names if tag_for_keyword(name) is None]
    return sorted(f"{name}: say {INSTEAD[word]}" for name in own for word in _words(name) & set(INSTEAD))


@pytest.mark.parametrize("path", modules(), ids=lambda path: path.as_posix())
def test_code_uses_the_one_word(path: Path) -> None:
    assert second_words(identifiers(tree(path)) | {path.stem}) == []


@pytest.mark.parametrize(
    "path", [p for p in files("*.sql") if "migrations" in p.parts], ids=lambda path: path.name
)
def test_the_schema_uses_the_one_word(path: Path) -> None:
    sql = re.sub(r"--.*|'[^']*'", "", text(path))
    assert second_words(set(SNAKE.findall(sql))) == []


def test_the_rule_bites() -> None:
    assert second_words(identifiers(ast.parse("def f(tenant_id): return ModelAssignment(tenant_id)"))) == [
        "ModelAssignment: say binding",
        "tenant_id: say clinic_id",
    ]
    assert second_words({"binding", "clinic_id", "example"}) == []
