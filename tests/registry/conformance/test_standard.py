"""Every rule of a standard is met and broken by a DICOM header; a file that is wrong is refused by name."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydicom.datadict import tag_for_keyword

from registry.conformance import standard as standards
from registry.conformance.errors import StandardInvalid, StandardUnknown
from registry.conformance.judge import ORDER, Verdict, judge, verdict
from registry.conformance.standard import HERE, Rule, Standard, load, parse
from registry.conformance.values import VALUES
from serving.imaging import tags
from serving.imaging.profile import profile, sequence_class
from serving.imaging.scan import scan
from tests.kit.dicom import mr_instance, part10

FILES = sorted(HERE.glob("*.toml"))
STANDARDS = [load(path.stem) for path in FILES]
# Who changes a rule raises the version of its file, and adds the new line here: a result names what judged it.
DIGESTS = {"ms-2021/1": "sha256:96d4bfda24c2ed6d9a1962b27e3f4ecafafa71b17dc231c14d693bab7de67983"}


def acquired(case: dict[str, Any], folder: Path) -> dict[str, object]:
    """The acquisition profile that serving makes of a header with these DICOM values."""
    its = {
        "Rows": 256,
        "Columns": 256,
        "slices": 50,
        "PixelSpacing": 1.0,
        "SpacingBetweenSlices": 3.0,
        **case,
    }
    edges = (its["PixelSpacing"], its["PixelSpacing"], its["SpacingBetweenSlices"])
    shape = (its.pop("Columns"), its.pop("Rows"), its.pop("slices"))
    its["PixelSpacing"] = [its["PixelSpacing"]] * 2
    path = folder / "one.dcm"
    path.write_bytes(part10(mr_instance(**{name: _text(value) for name, value in its.items()})))
    header = scan(path)
    return profile([header], sequence_class([header]), edges, shape)


def _text(value: Any) -> Any:
    return str(value) if isinstance(value, int | float) else value


def strictest(rule: Rule) -> str:
    """The task for which the rule can say the worst."""
    return max(rule.tasks, key=lambda task: ORDER.index(rule.tasks[task]))


def every() -> Iterator[Any]:
    for its in STANDARDS:
        for rule in its.rules:
            for number, (expected, case) in enumerate(rule.cases):
                yield pytest.param(
                    its, rule, expected, dict(case), id=f"{its.name}-{rule.id}-{number}-{expected}"
                )


@pytest.mark.parametrize(("its", "rule", "expected", "case"), [*every()])
def test_a_rule_says_what_its_case_says(
    its: Standard, rule: Rule, expected: Verdict, case: dict[str, Any], tmp_path: Path
) -> None:
    made = acquired(case, tmp_path)
    task = strictest(rule)
    said = verdict(rule, task, made)
    assert said is not None, "the rule applies to its own cases"
    assert said[0] is expected, said
    # What one rule refuses, no other rule of the standard makes good again.
    if expected is Verdict.REFUSE:
        assert judge(its, task, made).verdict is Verdict.REFUSE


@pytest.mark.parametrize("its", STANDARDS, ids=lambda its: its.label)
def test_every_rule_passes_and_fails_in_a_case(its: Standard) -> None:
    for rule in its.rules:
        said = {expected for expected, _ in rule.cases}
        can = {Verdict.ACCEPT, rule.tasks[strictest(rule)], *([Verdict.WARN] if rule.warn else [])}
        assert said == can, rule.id


@pytest.mark.parametrize("its", STANDARDS, ids=lambda its: its.label)
def test_a_rule_reads_what_imaging_reads(its: Standard) -> None:
    for rule in its.rules:
        for word in rule.reads:
            assert tag_for_keyword(word) == tags.TAGS[word].tag, (rule.id, word)


def test_a_changed_rule_is_a_new_version() -> None:
    assert {its.label: its.digest for its in STANDARDS}.items() <= DIGESTS.items()


def test_what_no_header_says_is_never_a_pass() -> None:
    its = load()
    judged = judge(its, "ms-lesion", {"vendor": "siemens", "sequence_class": "FLAIR"})
    assert judged.verdict is Verdict.UNKNOWN
    assert {d.rule for d in judged.deviations} >= {"field", "coverage", "flair-3d"}
    odd = {"field_t": float("nan"), "spacing_mm": [1, "x", 2], "matrix": None, "thickness_mm": True}
    assert judge(its, "ms-lesion", odd).verdict is Verdict.UNKNOWN
    assert judge(its, "no-such-task", {}).deviations == ()


def test_the_worst_rule_speaks(tmp_path: Path) -> None:
    its = load()
    thick = acquired({"SliceThickness": 6.0, "SpacingBetweenSlices": 6.0, "slices": 25}, tmp_path)
    assert judge(its, "ms-lesion", thick).verdict is Verdict.REFUSE
    assert judge(its, "brain-extraction", thick).verdict is Verdict.WARN
    assert {d.rule for d in judge(its, "ms-lesion", thick).deviations} == {"thickness-2d", "flair-3d"}


GOOD = (HERE / "ms-2021.toml").read_text()
WRONG = {
    "an unknown keyword": (
        'reads = ["MagneticFieldStrength"]', 'reads = ["MagneticFieldStrength", "FieldStrength"]', "FieldStrength"),
    "a keyword that is left out": ('reads = ["PixelSpacing", "MRAcquisitionType"]', 'reads = ["PixelSpacing"]',
                                   "MRAcquisitionType"),
    "a value that no header gives": ('value = "field_t"', 'value = "tesla"', "tesla"),
    "an unknown field": ('code = "PROT-FIELD"', 'code = "PROT-FIELD"\nlimit = 3', "limit"),
    "no case that fails": (
        'is = "warn"\nMRAcquisitionType = "2D"', 'is = "accept"\nMRAcquisitionType = "2D"', "flair-3d"),
    "no case at all": (re.compile(r'(\[\[rule\.case\]\]\n(?:\w.*\n)+)+'), "", "field has no case"),
    "a range that ends before it begins": ("min = 1.4, max = 3.3", "min = 3.4, max = 3.3", "field"),
    "a range without numbers": ("min = 1.4, max = 3.3", 'min = "1.4"', "field"),
    "another verdict": ('{ ms-lesion = "refuse", brain', '{ ms-lesion = "perhaps", brain', "rule field: tasks"),
    "advice of two sentences": ("Scan at 1.5 T or 3 T.", "Scan at 3 T. Or not.", "one sentence"),
    "two rules of one name": ('id = "coverage"', 'id = "field"', "field"),
    "a source that is not listed": ('source = "cmsc2016"', 'source = "hearsay"', "source"),
    "no version": ("version = 1", "version = 0", "version"),
    "no TOML": ('name = "ms-2021"', "name = ", "TOML"),
}  # fmt: skip


@pytest.mark.parametrize("what", WRONG)
def test_a_wrong_file_is_refused_by_name(what: str) -> None:
    old, new, named = WRONG[what]
    changed = old.sub(new, GOOD, count=1) if isinstance(old, re.Pattern) else GOOD.replace(old, new, 1)
    assert changed != GOOD
    with pytest.raises(StandardInvalid, match=named):
        parse(changed.encode())


def test_a_standard_that_is_not_there_is_named() -> None:
    for name in ("ms-1999", "../ms-2021", ""):
        with pytest.raises(StandardUnknown):
            standards.load.__wrapped__(name)


def test_every_value_names_keywords_of_dicom() -> None:
    for name, value in VALUES.items():
        assert value.keywords, name
        assert all(tag_for_keyword(word) for word in value.keywords), name
