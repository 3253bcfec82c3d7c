"""Other libraries in environments of their own: river's detectors at their defaults, and whether our rules agree.

Rules that are published and short stand as curves in tests/bench/rules.py and are compared with the library. What
Radfleet does not need runs in environments made below build/; one that cannot be had is said so and never guessed.
"""

import json
import shutil
import subprocess
import sys
import tempfile
import venv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from monitoring.detect.ranks import Floats
from tests.bench import rules
from tests.bench.record import BUILD

PEERS = {
    "river": ("river==0.26.1",),
    "NannyML": ("nannyml==0.13.1", "statsmodels"),  # it imports statsmodels and does not ask for it
    "alibi-detect": ("alibi-detect==0.13.0",),
}
RIVERS = ("ADWIN", "PageHinkley", "KSWIN")
_RIVER = """
import json, sys
import numpy as np
from river import drift
found = {name: [] for name in sys.argv[3:]}
for values in np.load(sys.argv[1]).values():
    n = int(sys.argv[2])
    x = (values - values[:n].mean(0)) / values[:n].std(0)
    for name in found:
        kind = getattr(drift, name)
        detectors = [kind(seed=1) if name == "KSWIN" else kind() for _ in range(x.shape[1])]
        for row in x[:n]:
            for d, v in zip(detectors, row): d.update(float(v))
        at = None
        for t, row in enumerate(x[n:]):
            for d, v in zip(detectors, row): d.update(float(v))
            if any(d.drift_detected for d in detectors):
                at = t + 1
                break
        found[name].append(at)
print(json.dumps(found))
"""
_EVIDENTLY = """
import json, sys
import numpy as np, pandas as pd
from evidently import Dataset, DataDefinition, Report
from evidently.presets import DataDriftPreset
found = []
for values in np.load(sys.argv[1]).values():
    n, w = int(sys.argv[2]), int(sys.argv[3])
    names = [f"c{i}" for i in range(values.shape[1])]
    frame = pd.DataFrame(values, columns=names)
    its = DataDefinition(numerical_columns=names)
    now, before = (Dataset.from_pandas(part, its) for part in (frame[n:n + w], frame[:n]))
    metrics = Report([DataDriftPreset()]).run(now, before).dict()["metrics"]
    found += [m["value"]["share"] for m in metrics if "DriftedColumnsCount" in str(m.get("metric_name", m))][:1]
print(json.dumps(found))
"""

_NANNYML = """
import json, sys
import numpy as np, pandas as pd, nannyml
found = []
for values in np.load(sys.argv[1]).values():
    n, w = int(sys.argv[2]), int(sys.argv[3])
    names = [f"c{i}" for i in range(values.shape[1])]
    frame = pd.DataFrame(values, columns=names)
    its = nannyml.UnivariateDriftCalculator(column_names=names, chunk_size=w).fit(frame[:n])
    said = its.calculate(frame[n:n + w]).filter(period="analysis").to_df().iloc[0]
    found.append([[float(said[(c, "jensen_shannon", word)]) for c in names] for word in ("value", "upper_threshold")])
print(json.dumps(found))
"""
_ALIBI = """
import json, sys
import numpy as np
from alibi_detect.cd import KSDrift
found = []
for values in np.load(sys.argv[1]).values():
    n, w = int(sys.argv[2]), int(sys.argv[3])
    found.append(KSDrift(values[:n], p_val=0.05).predict(values[n:n + w])["data"]["p_val"].tolist())
print(json.dumps(found))
"""


def evidently_agrees(streams: Sequence[Floats], n: int) -> bool | str:
    """Whether the real library says the same share of drifted columns, or why it could not be asked."""
    done = _in_process(sys.executable, _EVIDENTLY, streams, n, str(rules.WINDOW))
    if isinstance(done, str):
        return done
    ours = [float(np.mean(rules.p_values(values, n, rules.WINDOW) < 0.05)) for values in streams]
    return bool(np.allclose(done, ours))


def others_agree(streams: Sequence[Floats], n: int) -> dict[str, bool | str]:
    """Whether NannyML and alibi-detect say what our short rules say: the distance and limit, the p of each column."""
    found: dict[str, bool | str] = {}
    for name, code, ours in (
        ("NannyML", _NANNYML, [[x.tolist() for x in _limits(values, n)] for values in streams]),
        (
            "alibi-detect",
            _ALIBI,
            [rules.p_values(values, n, rules.WINDOW, rules.ASYMPTOTIC).tolist() for values in streams],
        ),
    ):
        python = environment(name.lower(), PEERS[name])
        if not python.exists():
            found[name] = f"it is left out: {python.name}"
            continue
        done = _in_process(str(python), code, streams, n, str(rules.WINDOW))
        found[name] = done if isinstance(done, str) else bool(np.allclose(done, ours, atol=1e-6))
    return found


def _limits(values: Floats, n: int) -> tuple[Floats, Floats]:
    """Of each column the distance of the first later chunk, and the limit."""
    before, later = rules.distances(values, n)
    return later[0], before.mean(0) + 3 * before.std(0)


def environment(name: str, packages: Sequence[str]) -> Path:
    """The Python of an environment below build/ with these packages, or a path that is not there and says why."""
    place = BUILD / name
    python = place / "bin" / "python"
    try:
        if not python.exists():
            venv.create(place, with_pip=True)
            install = [str(python), "-m", "pip", "install", "-q", *packages]
            subprocess.run(install, check=True, capture_output=True, timeout=400)
    except (OSError, subprocess.SubprocessError) as error:
        shutil.rmtree(place, ignore_errors=True)
        return Path(f"its environment could not be made ({type(error).__name__})")
    return python


def river(streams: Sequence[Floats], n: int) -> dict[str, list[int | None]] | str:
    """Studies until the first alarm of each of river's detectors on any column, or why river could not be had."""
    python = environment("peers", PEERS["river"])
    if not python.exists():
        return f"river is left out: {python.name}"
    found: dict[str, list[int | None]] | str = _in_process(str(python), _RIVER, streams, n, *RIVERS)
    return found


def _in_process(python: str, code: str, streams: Sequence[Floats], n: int, *words: str) -> Any:
    with tempfile.TemporaryDirectory() as place:
        path = Path(place) / "streams.npz"
        np.savez(path, *streams)
        call = [python, "-c", code, str(path), str(n), *words]
        done = subprocess.run(call, capture_output=True, text=True, timeout=1200, check=False)
    if done.returncode:
        return f"it did not run: {(done.stderr.strip().splitlines() or ['?'])[-1][:200]}"
    return json.loads(done.stdout.splitlines()[-1])
