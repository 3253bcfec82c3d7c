"""Evidently's doorway: the library runs in a process of its own, which gives its 360 MB back and can reach nobody.

The child forbids every connection and every look-up of a name to itself before the library is loaded, and says
how often it was asked for one: a report that tried is thrown away.
"""

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from monitoring.evidence.errors import ReportFailed
from monitoring.evidence.tables import GROUP, Tables, opinion

TIMEOUT_S = 240
_NETWORK = frozenset(
    {"socket.connect", "socket.bind", "socket.sendto", "socket.sendmsg", "socket.getaddrinfo",
     "socket.gethostbyname", "socket.gethostbyaddr"}
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Report:
    """One report: the HTML as people open it, what it was made of, and the library's opinion."""

    html: bytes
    tables: Tables
    opinion: Mapping[str, Any]
    library: str


def make(tables: Tables, *, timeout_s: float = TIMEOUT_S) -> Report:
    """Let Evidently draw ``tables``. Takes seconds and 360 MB in a child. Raises ReportFailed."""
    with TemporaryDirectory(prefix="radfleet-report-") as folder:
        out = Path(folder) / "report.html"
        command = [sys.executable, "-m", "monitoring.evidence.report", str(out)]
        # Its own caches and settings stay in the folder, so that nothing of it outlives the report.
        variables = os.environ | {"DO_NOT_TRACK": "1", "HOME": folder, "MPLCONFIGDIR": folder}
        try:
            done = subprocess.run(
                command, input=json.dumps(tables.plain()), capture_output=True, text=True, timeout=timeout_s,
                env=variables, check=False,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            raise ReportFailed(f"the report was not drawn within {timeout_s:g} s") from None
        if done.returncode != 0 or not out.exists():
            last = (done.stderr.strip().splitlines() or ["nothing"])[-1]
            raise ReportFailed(f"the library ended with {done.returncode}", why=f"It said last: {last[:200]}")
        said = json.loads(done.stdout.splitlines()[-1])
        if said["asked"]:
            raise ReportFailed("the library tried to reach the network", why=", ".join(said["asked"]))
        return Report(out.read_bytes(), tables, opinion(tables, said["values"]), said["library"])


def _main(out: Path) -> None:
    asked: list[str] = []

    def forbid(event: str, arguments: tuple[Any, ...]) -> None:
        # A library binds a port of the loopback to learn whether IPv6 is there; that tells nobody anything.
        if event in _NETWORK and not (event == "socket.bind" and arguments[1][0] in ("::1", "127.0.0.1")):
            asked.append(event)
            raise PermissionError("a report reaches nobody")

    sys.addaudithook(forbid)  # cannot be taken away again in this process
    told = json.load(sys.stdin)
    values, library = _draw(told["reference"], told["current"], told["methods"], out)
    sys.stdout.write("\n" + json.dumps({"values": values, "library": library, "asked": asked}) + "\n")


def _draw(
    reference: Sequence[Mapping[str, Any]],
    current: Sequence[Mapping[str, Any]],
    methods: Sequence[tuple[str, str, float]],
    out: Path,
) -> tuple[dict[str, float], str]:
    """Write the HTML; returns the number of each column and the library's name with version."""
    import pandas
    from evidently import DataDefinition, Dataset, __version__
    from evidently import Report as Evidently
    from evidently.presets import DataDriftPreset

    names = [name for name, _, _ in methods]
    defined = DataDefinition(
        numerical_columns=[name for name in names if name != GROUP],
        categorical_columns=[name for name in names if name == GROUP],
    )
    before, since = (
        Dataset.from_pandas(pandas.DataFrame(list(rows), columns=names), data_definition=defined)
        for rows in (reference, current)
    )
    preset = DataDriftPreset(
        per_column_method={name: method for name, method, _ in methods},
        per_column_threshold={name: threshold for name, _, threshold in methods},
        drift_share=1 / len(names),
    )
    # By name: the library's order is current before reference, easily swapped.
    snapshot = Evidently([preset]).run(current_data=since, reference_data=before)
    values = {
        metric["config"]["column"]: float(metric["value"])
        for metric in snapshot.dict()["metrics"]
        if "column" in metric["config"]
    }
    out.write_text(snapshot.get_html_str(as_iframe=False), encoding="utf-8")
    return values, f"evidently {__version__}"


if __name__ == "__main__":
    _main(Path(sys.argv[1]))
