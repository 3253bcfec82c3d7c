"""The real library in its own process: named methods, self-contained HTML, and no way out of the machine."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from monitoring.evidence import report
from monitoring.evidence.errors import ReportFailed
from monitoring.evidence.tables import GROUP, Tables, prepare


@pytest.fixture(scope="module")
def tables() -> Tables:
    rng = np.random.default_rng(3)
    before = [{"snr": float(rng.normal()), "cjv": float(rng.normal()), GROUP: "old"} for _ in range(60)]
    since = [{"snr": float(rng.normal(4)), "cjv": float(rng.normal()), GROUP: "new"} for _ in range(10)]
    del since[0]["cjv"]
    return prepare(before, since, ["snr", "cjv"])


@pytest.mark.slow
def test_the_real_library_draws_the_tables(tables: Tables) -> None:
    """That a report comes out at all proves that the library asked for no connection: the child forbids and counts."""
    made = report.make(tables)
    moved = {c["column"]: (c["method"], c["moved"]) for c in made.opinion["columns"]}
    assert moved == {"snr": ("ks", True), "cjv": ("ks", False), GROUP: ("jensenshannon", True)}
    assert made.opinion["drift"] is True
    assert made.library.startswith("evidently 0.7.")
    text = made.html.decode()
    assert "snr" in text and len(text) > 1_000_000
    # Nothing is loaded from elsewhere: a page shows it without asking anybody.
    assert re.findall(r"<(?:script|link|img|iframe)[^>]+(?:src|href)=\"?https?:", text) == []


CHILD = (
    "import sys; from pathlib import Path; from monitoring.evidence import report\n"
    "report._draw = {planted}\nreport._main(Path(sys.argv[1]))"
)
ASKS = {
    "connects": "lambda *a: __import__('socket').create_connection(('192.0.2.1', 80))",
    "looks a name up": "lambda *a: __import__('socket').getaddrinfo('example.org', 80)",
    "listens": "lambda *a: __import__('socket').socket().bind(('0.0.0.0', 0))",
    "speaks UDP": "lambda *a: __import__('socket').socket(2, 2).sendto(b'x', ('192.0.2.1', 9))",
}


@pytest.mark.parametrize("planted", ASKS.values(), ids=ASKS)
def test_a_library_that_asks_the_network_makes_no_report(
    planted: str, tables: Tables, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Planted telemetry: refused where it shows itself, and counted where it hides its failure."""
    for child, said in ((CHILD.format(planted=planted), "ended with 1"), (_hiding(planted), "network")):
        monkeypatch.setattr(report.subprocess, "run", _running(child))
        with pytest.raises(ReportFailed, match=said):
            report.make(tables)


def _hiding(planted: str) -> str:
    """A child whose library swallows the refusal and delivers a file all the same."""
    lines = [
        "import sys", "from pathlib import Path", "from monitoring.evidence import report",
        "def draw(before, since, methods, out):",
        "    try:", f"        ({planted})()", "    except Exception:", "        pass",
        "    out.write_text('drawn')", "    return {name: 0.5 for name, _, _ in methods}, 'planted 1'",
        "report._draw = draw", "report._main(Path(sys.argv[1]))",
    ]  # fmt: skip
    return "\n".join(lines)


RUN = subprocess.run


def _running(child: str):  # type: ignore[no-untyped-def]
    def planted(command: list[str], **options):  # type: ignore[no-untyped-def]
        return RUN([sys.executable, "-c", child, command[-1]], **options)

    return planted


def test_the_same_child_without_a_question_delivers(tables: Tables, monkeypatch: pytest.MonkeyPatch) -> None:
    """So the test above fails for the question and for nothing else."""
    monkeypatch.setattr(report.subprocess, "run", _running(_hiding("lambda: None")))
    assert report.make(tables).html == b"drawn"


def test_a_child_that_dies_or_hangs_is_named(tables: Tables, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report.subprocess, "run", _running("raise SystemExit(3)"))
    with pytest.raises(ReportFailed, match="ended with 3"):
        report.make(tables)
    monkeypatch.setattr(report.subprocess, "run", _running("import time; time.sleep(60)"))
    with pytest.raises(ReportFailed, match="within"):
        report.make(tables, timeout_s=0.5)


def test_the_library_is_not_loaded_here() -> None:
    """The 360 MB stay in the child."""
    code = "import sys, monitoring.evidence.report; print([m for m in ('evidently', 'pandas') if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=Path.cwd()
    )
    assert done.stdout.strip() == "[]"
