"""Judges promise P1 from outside: reads a system call trace of the DICOM door and says where the order is broken.

For every success that goes to a sender the trace must show, since the success before it on that connection:
open(.part) -> fdatasync(it) -> rename to .dcm -> fsync(its folder) -> COMMIT answered by PostgreSQL -> the response.
kill -9 cannot show this: the page cache outlives a killed process.
"""

import re
from dataclasses import dataclass
from pathlib import Path

TRACE = [
    "-f",
    "-yy",
    "-s",
    "96",
    "-e",
    "trace=openat,fdatasync,fsync,rename,renameat,renameat2,sendto,recvfrom",
]

_ORDER = ["open", "sync", "rename", "folder", "commit"]
_LINE = re.compile(r"^(?P<pid>\d+)\s+(?P<rest>.*)$")
_RESUMED = re.compile(r"^<\.\.\. \w+ resumed>(?P<tail>.*)$")
_NAME = re.compile(r"^(\w+)\(")
_PART = re.compile(r'openat\(.*"(?P<name>[0-9a-f]{32})\.part"')
_SYNC = re.compile(r"^fdatasync\(\d+<[^>]*/(?P<name>[0-9a-f]{32})\.part>\)\s+= 0")
_RENAME = re.compile(r'^renameat2?\(\d+<(?P<folder>[^>]*)>, "(?P<name>[0-9a-f]{32})\.part".*\.dcm".*= 0')
_FOLDER = re.compile(r"^fsync\(\d+<(?P<folder>[^>]*)>\)\s+= 0")
_COMMITTED = re.compile(r'^recvfrom\(.*"C\\0\\0\\0\\vCOMMIT\\0')
# A P-DATA-TF whose only fragment is a whole command (control header 3) on the door's own port.
_RESPONSE = re.compile(r'^sendto\(\d+<TCP(?:v6)?:\[[^\]]*:(?P<port>\d+)->[^\]]*\]>, "\\4\\0')


@dataclass(frozen=True, slots=True)
class Verdict:
    """How many successes the trace shows, and each broken order in words."""

    answers: int
    broken: tuple[str, ...]


def calls(trace: str) -> list[str]:
    """The calls of a trace at the moment at which they count: sends when they begin, others when they have ended."""
    open_calls: dict[str, str] = {}
    done = []
    for line in trace.splitlines():
        found = _LINE.match(line)
        if found is None:
            continue
        pid, rest = found["pid"], found["rest"]
        resumed = _RESUMED.match(rest)
        if resumed is not None:
            started = open_calls.pop(pid, "")
            if started and not started.startswith("sendto"):
                done.append(started + resumed["tail"].lstrip())
        elif rest.endswith("<unfinished ...>"):
            started = rest.removesuffix("<unfinished ...>")
            open_calls[pid] = started
            if started.startswith("sendto"):
                done.append(started)
        elif _NAME.match(rest):
            done.append(rest)
    return done


def judge(trace: Path, port: int) -> Verdict:
    """Judge a trace of one association at a time that sends new objects only; ``port`` is the door's."""
    steps: list[str] = []
    folder, part, answers = "", "", 0
    broken: list[str] = []
    for call in calls(trace.read_text(errors="replace")):
        if (found := _PART.search(call)) is not None:
            part, steps = found["name"], ["open"]
        elif (found := _SYNC.match(call)) is not None and found["name"] == part:
            steps.append("sync")
        elif (found := _RENAME.match(call)) is not None and found["name"] == part:
            folder = found["folder"]
            steps.append("rename")
        elif (found := _FOLDER.match(call)) is not None and found["folder"] == folder:
            steps.append("folder")
        elif _COMMITTED.match(call):
            steps.append("commit")
        elif (found := _RESPONSE.match(call)) is not None and int(found["port"]) == port:
            answers += 1
            if steps != _ORDER:
                broken.append(f"answer {answers} came after: {' '.join(steps) or 'nothing'}")
            steps, part, folder = [], "", ""
    return Verdict(answers, tuple(broken))
