"""Detectors of other libraries on the very same streams: Evidently's dataset rule, river's ADWIN, textbook CUSUM.

Evidently's rule (KS p < .05 a column, drifted when half of the columns are) is computed with scipy and compared with
the real library in a process of its own; its figures count only where both say the same share. river runs in an
environment that this makes itself below build/, because Radfleet does not need it.
"""

import json
import subprocess
import sys
import venv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import ks_2samp

from monitoring.detect.ranks import Floats
from tests.bench.record import BUILD

WINDOW, DAY = 50, 10
RIVER = "river==0.26.1"
CUSUM_K, CUSUM_H = 0.5, 10.03
"""For one false alarm in 3,650 studies over 20 two-sided normal columns with known mean (the research note)."""
_ADWIN = """
import json, sys
import numpy as np
from river import drift
found = []
for values in np.load(sys.argv[1]).values():
    n = int(sys.argv[2])
    x = (values[n:] - values[:n].mean(0)) / values[:n].std(0)
    detectors = [drift.ADWIN() for _ in range(x.shape[1])]
    for row in (values[:n] - values[:n].mean(0)) / values[:n].std(0):
        for d, v in zip(detectors, row): d.update(float(v))
    at = None
    for t, row in enumerate(x):
        for d, v in zip(detectors, row): d.update(float(v))
        if any(d.drift_detected for d in detectors):
            at = t + 1
            break
    found.append(at)
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


def cusum(values: Floats, n: int) -> int | None:
    """Studies until the first alarm of two-sided CUSUMs on columns standardised by the reference."""
    x = (values[n:] - values[:n].mean(0)) / values[:n].std(0)
    up, down = np.zeros(x.shape[1]), np.zeros(x.shape[1])
    for t, row in enumerate(x):
        up, down = np.maximum(up + row - CUSUM_K, 0), np.maximum(down - row - CUSUM_K, 0)
        if max(up.max(), down.max()) >= CUSUM_H:
            return t + 1
    return None


def share(values: Floats, n: int, at: int) -> float:
    """Share of columns that Evidently's default test calls drifted in the window that ends before row n + at."""
    window = values[n + at - WINDOW : n + at]
    return float(np.mean([_drifted(values[:n, f], window[:, f]) for f in range(values.shape[1])]))


_P: dict[tuple[int, int, int], bool] = {}


def _drifted(reference: Floats, window: Floats) -> bool:
    """KS p < .05. Without ties p follows from the sizes and the largest distance, so each distance is asked once."""
    both = np.sort(np.concatenate([reference, window]))
    below = [np.searchsorted(np.sort(x), both, side="right") for x in (reference, window)]
    apart = int(np.abs(below[0] * len(window) - below[1] * len(reference)).max())
    key = (len(reference), len(window), apart)
    if key not in _P:
        _P[key] = bool(ks_2samp(reference, window).pvalue < 0.05)
    return _P[key]


def evidently_rule(values: Floats, n: int) -> int | None:
    """Studies until the dataset rule first fires, looked at once a day."""
    return next((at for at in range(WINDOW, len(values) - n + 1, DAY) if share(values, n, at) >= 0.5), None)


def evidently_agrees(streams: Sequence[Floats], n: int) -> bool | str:
    """Whether the real library says the same share of drifted columns, or why it could not be asked."""
    done = _in_process(sys.executable, _EVIDENTLY, streams, n, WINDOW)
    if isinstance(done, str):
        return done
    return bool(np.allclose(done, [share(values, n, WINDOW) for values in streams]))


def adwin(streams: Sequence[Floats], n: int) -> list[int | None] | str:
    """Studies until the first alarm of river's ADWIN on any column, or why river could not be had."""
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
    return _in_process(str(python), _ADWIN, streams, n)


def _in_process(python: str, code: str, streams: Sequence[Floats], *numbers: int) -> Any:
    BUILD.mkdir(exist_ok=True)
    path = Path(BUILD) / "peers-streams.npz"
    np.savez(path, *streams)
    words = [python, "-c", code, str(path), *map(str, numbers)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=600, check=False)
    path.unlink()
    if done.returncode:
        return f"it did not run: {(done.stderr.strip().splitlines() or ['?'])[-1][:200]}"
    return json.loads(done.stdout.splitlines()[-1])
