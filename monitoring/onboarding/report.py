"""An onboarding's report for people who sign: one HTML file that asks nobody for anything, or the same as PDF."""

import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from monitoring.onboarding.errors import PdfAway, PdfFailed, ReportKind
from monitoring.onboarding.standing import Standing
from monitoring.web.render import document

BROWSERS: Final = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
PDF_S = 180.0


def write(path: Path, found: Standing, evidence: Sequence[Mapping[str, Any]], at: str) -> None:
    """Write the report; the ending of ``path`` says how. Raises ReportKind, PdfAway, PdfFailed.

    ``evidence``: Evidently's frozen reports of the silent run; ``at``: when the facts were read, as text.
    """
    kind = path.suffix.lower()
    if kind not in (".html", ".pdf") or path.is_dir() or not path.parent.is_dir():
        raise ReportKind
    text = html(found, evidence, at)
    try:
        path.write_bytes(pdf(text) if kind == ".pdf" else text.encode())
    except OSError:
        raise ReportKind from None


def html(found: Standing, evidence: Sequence[Mapping[str, Any]], at: str) -> str:
    """The report as one HTML text with its style inside, without script."""
    return document(
        "onboarding_report.html", **found.plain(), evidence=[dict(one) for one in evidence], at=at
    )


def pdf(text: str) -> bytes:
    """``text`` (HTML) printed by a headless Chromium of its own that can resolve no name. Raises PdfAway, PdfFailed."""
    browser = next((found for name in BROWSERS if (found := shutil.which(name))), None)
    if browser is None:
        raise PdfAway
    with TemporaryDirectory(prefix="radfleet-pdf-", ignore_cleanup_errors=True) as folder:
        page, out = Path(folder) / "report.html", Path(folder) / "report.pdf"
        page.write_text(text, encoding="utf-8")
        argv = [
            browser, "--headless=new", "--disable-gpu", "--no-first-run", "--disable-background-networking",
            "--disable-sync", "--disable-dev-shm-usage", "--host-resolver-rules=MAP * ~NOTFOUND",
            f"--user-data-dir={folder}/profile", "--no-pdf-header-footer", f"--print-to-pdf={out}",
            # Chromium refuses to run as root with its sandbox; the page is ours and has no script.
            *(["--no-sandbox"] if os.geteuid() == 0 else []), page.as_uri(),
        ]  # fmt: skip
        try:
            subprocess.run(
                argv, env={**os.environ, "HOME": folder}, capture_output=True, timeout=PDF_S, check=False
            )
        except subprocess.TimeoutExpired:
            raise PdfFailed(f"the PDF was not printed within {PDF_S:g} s") from None
        if not out.is_file() or not out.read_bytes().startswith(b"%PDF-"):
            raise PdfFailed
        return out.read_bytes()
