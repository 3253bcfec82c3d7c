"""Detectors of other libraries in environments of their own: river's at their defaults, and whether Evidently agrees.

Rules that are published and short stand as curves in tests/bench/rules.py. river runs in an environment that this makes
below build/, because Radfleet does not need it; a library that cannot be had is said so and never guessed.
"""

import json
import subprocess
import sys
import venv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from monitoring.detect.ranks import Floats
from tests.bench import rules
from tests.bench.record import BUILD

RIVER = "river==0.26.1"
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


def evidently_agrees(streams: Sequence[Floats], n: int) -> bool | str:
    """Whether the real library says the same share of drifted columns, or why it could not be asked."""
    done = _in_process(sys.executable, _EVIDENTLY, streams, n, str(rules.WINDOW))
    if isinstance(done, str):
        return done
    ours = [float(np.mean(rules.p_values(values, n, rules.WINDOW) < 0.05)) for values in streams]
    return bool(np.allclose(done, ours))


def river(streams: Sequence[Floats], n: int) -> dict[str, list[int | None]] | str:
    """Studies until the first alarm of each of river's detectors on any column, or why river could not be had."""
    place = BUILD / "peers"
    python = place / "bin" / "python"
    try:
        if not python.exists():
            venv.create(place, with_pip=True)
        if subprocess.run([python, "-c", "import river"], capture_output=True, check=False).returncode:
            install = [str(python), "-m", "pip", "install", "-q", RIVER]
            subprocess.run(install, check=True, capture_output=True, timeout=300)
    except (OSError, subprocess.SubprocessError) as error:
        return f"river is left out: its environment could not be made ({type(error).__name__})"
    found: dict[str, list[int | None]] | str = _in_process(str(python), _RIVER, streams, n, *RIVERS)
    return found


def _in_process(python: str, code: str, streams: Sequence[Floats], n: int, *words: str) -> Any:
    BUILD.mkdir(exist_ok=True)
    path = Path(BUILD) / "peers-streams.npz"
    np.savez(path, *streams)
    call = [python, "-c", code, str(path), str(n), *words]
    done = subprocess.run(call, capture_output=True, text=True, timeout=1200, check=False)
    path.unlink()
    if done.returncode:
        return f"it did not run: {(done.stderr.strip().splitlines() or ['?'])[-1][:200]}"
    return json.loads(done.stdout.splitlines()[-1])
