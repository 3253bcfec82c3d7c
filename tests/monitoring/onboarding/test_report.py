"""The report of an onboarding: as HTML and as PDF, with Evidently's opinion of the silent run, frozen once."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from monitoring.evidence import freeze
from monitoring.evidence.errors import ReportAbsent
from monitoring.evidence.report import Report
from monitoring.evidence.tables import Tables, opinion
from monitoring.onboarding import report
from monitoring.onboarding.errors import PdfAway, PdfFailed, ReportKind
from registry.cli import main
from tests.monitoring.onboarding.way import THICK, Way


def drawn(tables: Tables) -> Report:
    """What Evidently would give: its own drawing is tested in tests/monitoring/evidence."""
    values = {m.column: 0.5 for m in tables.methods}
    return Report(b"<html>%d</html>" % len(tables.current), tables, opinion(tables, values), "evidently test")


def evidence(way: Way) -> list[dict[str, Any]]:
    from dataclasses import asdict

    return [asdict(one) for one in freeze.of_onboarding(way.db, "north", make=drawn)]


def test_the_report_says_what_is_missing_and_who_brings_it(way: Way, tmp_path: Path) -> None:
    way.ready()
    way.answered(12, THICK)
    found = way.standing()
    its = evidence(way)
    report.write(tmp_path / "north.html", found, its, "now")
    text = (tmp_path / "north.html").read_text()
    assert "the next step is" in text
    assert "Set the slice thickness to 3 mm" in text
    assert its[0]["digest"] in text
    assert "expert minutes" in text
    assert "<script" not in text
    assert "default-src 'none'" in text, "the file asks nobody for anything"
    assert "http" not in text.replace("http-equiv", ""), "and links nowhere"


def test_a_hostile_reason_is_text(way: Way) -> None:
    from registry.onboarding import decisions

    way.decide(decisions.begin, reason="<script>alert(1)</script>")
    text = report.html(way.standing(), [], "now")
    assert "<script" not in text
    assert "&lt;script&gt;" in text


def test_the_same_rows_are_drawn_once(way: Way) -> None:
    with pytest.raises(ReportAbsent):
        evidence(way)
    way.ready()
    way.standing()
    first = evidence(way)
    assert (first[0]["kind"], first[0]["reference_rows"], first[0]["current_rows"]) == ("onboarding", 25, 25)
    assert evidence(way) == first
    way.answered(20)
    way.standing()
    assert evidence(way)[0]["digest"] != first[0]["digest"]


@pytest.mark.tool("chromium")
def test_the_pdf_is_a_pdf(way: Way, tmp_path: Path) -> None:
    way.ready()
    report.write(tmp_path / "north.pdf", way.standing(), [], "now")
    data = (tmp_path / "north.pdf").read_bytes()
    assert data.startswith(b"%PDF-")
    assert len(data) > 10_000, "more than an empty page"


def test_without_a_browser_a_pdf_is_refused_and_html_is_not(
    way: Way, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from registry.onboarding import decisions

    way.decide(decisions.begin)
    found = way.standing()
    monkeypatch.setattr(shutil, "which", lambda _: None)
    with pytest.raises(PdfAway, match="No PDF"):
        report.write(tmp_path / "north.pdf", found, [], "now")
    report.write(tmp_path / "north.html", found, [], "now")
    monkeypatch.setattr(shutil, "which", lambda _: "/bin/false")
    with pytest.raises(PdfFailed):
        report.write(tmp_path / "north.pdf", found, [], "now")
    assert [path.name for path in tmp_path.glob("north.*")] == ["north.html"], "nothing half done is left"
    for name in ("north.txt", "north", "nowhere/north.pdf", "nowhere/north.html"):
        with pytest.raises(ReportKind):
            report.write(tmp_path / name, found, [], "now")


def test_the_command_writes_it(
    way: Way, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from registry.onboarding import decisions

    way.decide(decisions.begin)
    out = tmp_path / "north.html"
    assert main(["clinic", "onboard", "north", "--report", str(out)]) == 6
    assert "without Evidently" in capsys.readouterr().err
    assert "next step is connectivity" in out.read_text()
