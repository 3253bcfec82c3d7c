"""Outside judges of DICOM objects: what dciodvfy and dsrdump say about a file."""

import subprocess
from pathlib import Path

# Errors of dciodvfy that we accept, each with its reason. It is empty and should stay so. What the source
# itself has wrong goes back as it came and is told apart by ``own_errors``.
ACCEPTED: tuple[str, ...] = ()


def dciodvfy_errors(path: Path) -> list[str]:
    """The error lines of dciodvfy that are not in ACCEPTED."""
    done = subprocess.run(
        ["dciodvfy", str(path)], capture_output=True, text=True, errors="replace", check=False
    )
    lines = (done.stderr + done.stdout).splitlines()
    return [line for line in lines if line.startswith("Error") and not any(text in line for text in ACCEPTED)]


def own_errors(path: Path, source: Path, references: frozenset[str]) -> list[str]:
    """The errors of a result that are not its source's: those that dciodvfy does not find in ``source`` too.

    The patient's attributes and the source's UIDs (``references``) must stand in a result right or wrong.
    """
    theirs = set(dciodvfy_errors(source))

    def inherited(line: str) -> bool:
        return line in theirs or ("Illegal root for UID" in line and any(uid in line for uid in references))

    return [line for line in dciodvfy_errors(path) if not inherited(line)]


def dsrdump(path: Path) -> str:
    """The content tree as dcmtk reads it; fails the test when it cannot."""
    done = subprocess.run(
        ["dsrdump", "+Pl", str(path)], capture_output=True, text=True, errors="replace", check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
