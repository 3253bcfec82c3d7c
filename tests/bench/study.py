"""One study's time: its volume against dcm2niix, the platform against bare networks, and the seconds of every step.

Everything is measured in one run on one machine, in turns that change their order from round to round, so that
whatever else the machine does meets all sides; the figure is the median of the ratios within a round.

Run: python -m tests.bench.study [--rounds N] [--volume-rounds N] [--studies N]
"""

import argparse
import json
import math
import os
import shutil
import statistics
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import numpy as np

from registry.core.settings import Settings
from serving.demo.head import write_head
from serving.demo.stage import Stage, free_ports
from serving.engine.answering import Question
from serving.engine.calls import RayEngine
from serving.engine.package import read_package
from serving.engine.predictor import build_net
from serving.engine.segmentation import TASKS
from serving.imaging.series import read_series
from serving.imaging.volume import load_volume, save_volume
from tests.bench.record import BUILD, Goal, record, versions
from tests.conformance.line import CAST, CLINIC, HEADS, PACKAGES, QUIET_S, STUDIES, installation, travel

VERSION = "ms-lesion@1.0.0"
PACKAGE = PACKAGES / VERSION.replace("@", "-")
ARCHIVES = Path(__file__).parents[1] / "data" / "dicom"
REAL = ("siemens_prisma_e11_t1_fl2d_sag_HFS", "siemens_prisma_xa30_enhanced_t1_tfl")
TOOLS = ("dcm2niix", "dcmsend")
VOLUME_GOAL, PLATFORM_GOAL, EAGER_GOAL, DELIVERY_GOAL_S = 1.0, 1.1, 2.5, QUIET_S + 20.0
READER = """
import sys
from pathlib import Path
from serving.imaging.series import read_series
from serving.imaging.volume import save_volume
save_volume(read_series([Path(p) for p in sys.argv[2:]]), Path(sys.argv[1]))
"""
Nets = Mapping[str, Callable[[Any], Any]]


def timed(call: Callable[[], Any]) -> float:
    """Seconds of one call."""
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def spread(values: Sequence[float]) -> dict[str, float]:
    """n, median, and the smallest and largest of some figures."""
    return {
        "n": len(values),
        "median": round(statistics.median(values), 4),
        "min": round(min(values), 4),
        "max": round(max(values), 4),
    }


def in_turns(sides: Mapping[str, Callable[[], Any]], rounds: int, label: str = "") -> list[dict[str, float]]:
    """Seconds of every side in every round; each round begins with another side. With a label, each is printed."""
    names = list(sides)
    rows = []
    for turn in range(rounds):
        order = names[turn % len(names) :] + names[: turn % len(names)]
        took = {name: timed(sides[name]) for name in order}
        rows.append({name: took[name] for name in names})
        if label:
            said = "  ".join(f"{name} {took[name]:.2f} s" for name in names)
            print(f"{label} {turn + 1}/{rounds}  {said}", flush=True)
    return rows


def ratio(rows: Sequence[Mapping[str, float]], over: str, under: str) -> dict[str, float]:
    """Spread of ``over`` / ``under`` within the rounds."""
    return spread([row[over] / row[under] for row in rows])


# -- volume -----------------------------------------------------------------------------------------------------


def scans(folder: Path) -> dict[str, list[Path]]:
    """Series to read: two real heads written as DICOM, and real vendors' series of the repository."""
    found = {}
    for name in STUDIES:
        write_head(HEADS / f"{name}.nii.gz", folder / name, CAST)
    for name in REAL:
        with tarfile.open(ARCHIVES / f"{name}.tar.xz") as tar:
            tar.extractall(folder / name, filter="data")
    for name in (*STUDIES, *REAL):
        found[name] = sorted(path for path in (folder / name).rglob("*") if path.is_file())
    return found


def volume(folder: Path, rounds: int) -> dict[str, Any]:
    """Reading a series in this process, reading and saving it, and Python's start with it, against dcm2niix."""
    figures = {}
    for name, paths in scans(folder / "scans").items():
        out = folder / "out" / name
        out.mkdir(parents=True)
        sides = {
            "read": lambda p=paths: read_series(p),
            "read_and_save": lambda p=paths, o=out: save_volume(read_series(p), o),
            "process": lambda p=paths, o=out: _run([sys.executable, "-c", READER, o, *p]),
            "dcm2niix": lambda f=folder / "scans" / name, o=out: _run(
                ["dcm2niix", "-z", "n", "-b", "n", "-w", "1", "-o", o, f]
            ),
        }
        for call in sides.values():
            call()
        rows = in_turns(sides, rounds)
        figures[name] = {
            "files": len(paths), "voxels": list(read_series(paths).shape),
            "seconds": {side: spread([row[side] for row in rows]) for side in sides},
            **{f"{side} / dcm2niix": ratio(rows, side, "dcm2niix") for side in list(sides)[:3]},
        }  # fmt: skip
        print(f"volume {name}: {figures[name]['read / dcm2niix']} x dcm2niix", flush=True)
    return figures


def _run(command: Sequence[Any]) -> None:
    subprocess.run([str(word) for word in command], check=True, capture_output=True, timeout=300)


# -- platform ---------------------------------------------------------------------------------------------------


def bare_openvino(threads: int) -> Nets:
    """The package's networks as a script would run them: OpenVINO alone, float32, one graph a shape."""
    import openvino

    core = openvino.Core()
    config = {
        "PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": "f32",
        "ENABLE_CPU_PINNING": False,
    }  # fmt: skip
    content = read_package(PACKAGE)

    def net(xml: bytes, weights: bytes) -> Callable[[Any], Any]:
        graphs: dict[tuple[int, ...], Any] = {}

        def call(x: Any) -> Any:
            if x.shape not in graphs:
                model = core.read_model(xml, weights)
                model.reshape(list(x.shape))
                graphs[x.shape] = core.compile_model(model, "CPU", config)
            return np.array(graphs[x.shape](x)[0])

        return call

    return {stage: net(*content.openvino(stage)) for stage in content.package.model["stages"]}


def bare_eager(threads: int) -> Nets:
    """The same networks in torch, eager, on the processor."""
    import torch

    torch.set_num_threads(threads)
    content = read_package(PACKAGE)

    def net(module: Any) -> Callable[[Any], Any]:
        def call(x: Any) -> Any:
            with torch.inference_mode():
                return module(torch.from_numpy(x)).numpy()

        return call

    stages = content.package.model["stages"]
    return {s: net(build_net(stages[s]["architecture"], content.weights(s))) for s in stages}


class Script:
    """A study with no platform: load the volume, run the task with bare networks, save the mask."""

    def __init__(self, nets: Nets, folder: Path) -> None:
        self._nets, self._folder = nets, folder
        self.nets_s = 0.0
        self.mask: Any = None

    def __call__(self) -> None:
        """Answer once; ``nets_s`` keeps the seconds inside the networks."""
        self.nets_s = 0.0
        model = read_model()
        nets = {stage: self._watch(net) for stage, net in self._nets.items()}
        self.mask = TASKS[model["task"]](load_volume(self._folder), nets, model["parameters"]).mask
        np.save(self._folder / "script.npy", self.mask)

    def _watch(self, net: Callable[[Any], Any]) -> Callable[[Any], Any]:
        def call(x: Any) -> Any:
            began = time.perf_counter()
            answer = net(x)
            self.nets_s += time.perf_counter() - began
            return answer

        return call


class Served:
    """The same study asked of the running installation: a worker's own call, through Ray Serve to the replica."""

    def __init__(self, settings: Settings, folder: Path) -> None:
        self._engine, self._folder = RayEngine(settings), folder
        self._digest = read_package(PACKAGE).package.digest
        self.nets_s = 0.0
        self.mask: Any = None

    def __call__(self) -> None:
        """Ask once and read the answer back."""
        model = read_model()
        question = Question(
            clinic_id=UUID(int=0), study_id=uuid4(), revision=1, task=model["task"], fence=1, digest=self._digest,
            binding_seq=None, name=model["name"], version=model["version"], created_at=datetime.now(UTC), paths=(),
            work_dir=self._folder, trace=lambda _step, _detail: None,
        )  # fmt: skip
        reply = self._engine.infer(question, self._folder)
        self.mask, self.nets_s = reply.mask, sum(reply.seconds[stage] for stage in model["stages"])

    def close(self) -> None:
        """Leave Ray."""
        self._engine.close()


def read_model() -> dict[str, Any]:
    """model.json of the package."""
    model: dict[str, Any] = json.loads((PACKAGE / "model.json").read_text())
    return model


def platform(stage: Stage, folder: Path, rounds: int) -> dict[str, Any]:
    """Served, bare OpenVINO and bare eager in turns, on one real head."""
    settings = stage.settings()
    paths = write_head(HEADS / f"{STUDIES[0]}.nii.gz", folder / "head", CAST)
    save_volume(read_series(sorted(paths.iterdir())), folder / "volume")
    served = Served(settings, folder / "volume")
    sides = {
        "served": served,
        "openvino": Script(bare_openvino(settings.threads), folder / "volume"),
        "eager": Script(bare_eager(settings.threads), folder / "volume"),
    }
    try:
        for side in sides.values():
            side()
        inside: dict[str, list[float]] = {name: [] for name in sides}

        def noted(name: str) -> Callable[[], None]:
            def call() -> None:
                sides[name]()
                inside[name].append(sides[name].nets_s)

            return call

        rows = in_turns({name: noted(name) for name in sides}, rounds, "platform")
    finally:
        served.close()
    nets = [dict(zip(inside, values, strict=True)) for values in zip(*inside.values(), strict=True)]
    masks = {name: side.mask for name, side in sides.items()}
    return {
        "package": VERSION, "threads": settings.threads, "scan": STUDIES[0],
        "seconds": {name: spread([row[name] for row in rows]) for name in sides},
        "served / openvino": ratio(rows, "served", "openvino"),
        "eager / served": ratio(rows, "eager", "served"),
        "seconds_in_networks": {name: spread(values) for name, values in inside.items()},
        "networks: served / openvino": ratio(nets, "served", "openvino"),
        "networks: eager / served": ratio(nets, "eager", "served"),
        "mask_voxels": int(masks["served"].sum()),
        "voxels_unlike_openvino": int((masks["served"] != masks["openvino"]).sum()),
        "voxels_unlike_eager": int((masks["served"] != masks["eager"]).sum()),
    }  # fmt: skip


# -- whole studies ----------------------------------------------------------------------------------------------


def steps_of(study: Mapping[str, Any]) -> dict[str, float]:
    """Seconds of every step: what the trace measured, and the waits between its rows."""
    trace = study["trace"]
    found = {
        row["step"]: row["detail"]["seconds"]
        for row in trace
        if isinstance(row["detail"].get("seconds"), float)
    }
    at = {row["step"]: datetime.fromisoformat(row["at"]) for row in trace}
    at["last C-STORE"] = study["sent_at"]
    for name, begin, end in (
        ("receive", "received", "last C-STORE"),
        ("quiet time and sweep", "last C-STORE", "complete"),
        ("claim", "complete", "claimed"),
        ("store the answer", "results", "answered"),
        ("deliver", "answered", "delivered"),
    ):
        found[name] = (at[end] - at[begin]).total_seconds()
    return found


def studies(stage: Stage, count: int) -> dict[str, Any]:
    """``count`` studies one after the other, from dcmsend to the peer."""
    known: set[str] = set()
    rows = [travel(stage, STUDIES[number % len(STUDIES)], known) for number in range(count)]
    seconds = sorted(row["seconds"] for row in rows)
    steps = [steps_of(row) for row in rows]
    return {
        "clinic": CLINIC, "version": VERSION, "quiet_s": QUIET_S,
        "last_cstore_to_delivered_s": spread(seconds),
        # nearest rank; below 20 studies that is the slowest one
        "p95_s": seconds[math.ceil(0.95 * len(seconds)) - 1],
        "steps_s": {name: spread([row[name] for row in steps]) for name in steps[0]},
    }  # fmt: skip


def main() -> int:
    """Measure, write build/bench-study.json, and say by the exit code whether the goals are met."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=9, help="served, bare OpenVINO and eager in turns")
    parser.add_argument("--volume-rounds", type=int, default=15, help="our reading and dcm2niix in turns")
    parser.add_argument("--studies", type=int, default=20, help="whole studies, one after the other")
    given = parser.parse_args()
    missing = [tool for tool in TOOLS if shutil.which(tool) is None]
    if missing:
        raise SystemExit(
            f"bench-study needs the outside tools {', '.join(missing)}: install dcm2niix and dcmtk"
        )
    folder = BUILD / "bench-study"
    shutil.rmtree(folder, ignore_errors=True)
    load_before = os.getloadavg()
    volumes = volume(folder / "volume", given.volume_rounds)
    port = free_ports(1)[0]
    with installation(folder / "home", port, (VERSION,)) as stage:
        stage.start("serving.demo.pacs", str(port), str(folder / "pacs"), log="pacs.jsonl")
        served = studies(stage, given.studies)
        compared = platform(stage, folder / "platform", given.rounds)
    shutil.rmtree(folder, ignore_errors=True)
    slowest = max(figures["read / dcm2niix"]["median"] for figures in volumes.values())
    goals = [
        Goal("volume read / dcm2niix, the slowest series", slowest, VOLUME_GOAL, False),
        Goal("served study / bare OpenVINO", compared["served / openvino"]["median"], PLATFORM_GOAL, False),
        Goal("times faster than bare torch eager", compared["eager / served"]["median"], EAGER_GOAL),
        Goal("voxels unlike bare OpenVINO's", compared["voxels_unlike_openvino"], 0, False),
        Goal("p95 last C-STORE to delivered, s", served["p95_s"], DELIVERY_GOAL_S, False),
    ]
    tools = {"dcm2niix": ["dcm2niix", "--version"], "dcmtk": ["dcmsend", "--version"]}
    return record(
        "bench-study", goals, volume=volumes, platform=compared, studies=served, load_before=load_before,
        versions=versions(("radfleet", "openvino", "torch", "ray", "numpy", "scipy", "pydicom", "mlflow"), tools),
        conditions="platform: one real head (FLAIR; vendor header simulated); studies: two scans of one person (n = 1);"
        " dcm2niix is a process and writes an uncompressed NIfTI without a sidecar; `read` ends with the volume in this"
        " process's memory, `process` has Python's start and the saved volume in it; ratios: medians within rounds."
        " Where the machine was laden, do not trust the ratios: Linux gives each session its share (autogroup), and the"
        " served side is a session of its own.",
        laden=load_before[0] > (os.cpu_count() or 1) / 2,
    )  # fmt: skip


if __name__ == "__main__":
    raise SystemExit(main())
