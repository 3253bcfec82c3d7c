"""One fine-tune from a prepared folder to a package and a report: what the Ray task, or a process here, runs.

The folder holds request.json and the cohort's studies; `package/` and report.json are what it leaves. No database: the
caller decided who is trained on and who judges before this began, and records what came of it.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np

from registry.canonical import sha256_digest
from registry.promotions import gates
from registry.promotions.evidence_store import Evidence, Policy
from registry.promotions.gates import Gate, Verdict
from serving.engine.errors import PackageParity
from serving.engine.package import OpenPackage, read_package, write_package
from serving.training import scenes
from serving.training.calibrate import Case, direction_logits, folded
from serving.training.curves import Curve, open_curve
from serving.training.finetune_cases import (
    EVALUATION,
    TRAIN,
    Remembered,
    Study,
    labelled,
    nets_of,
    read_studies,
    score_heads,
    score_studies,
)
from serving.training.finetune_tiers import Kept, Labelled, Recipe, Weights, mean_dice_of, rescale, tune
from serving.training.lesion_pool import pack

REQUEST, REPORT, PACKAGE, CURVE = "request.json", "report.json", "package", "curve.jsonl"
T1, T2 = "T1", "T2"
TIERS = (T1, T2)
# Stricter than the gate's own margin: what was learned before must stay, head by head on average.
GLOBAL_LOSS_MAX = 0.01
BRAIN, STAGE = "brain", "lesion"
Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Scores:
    """Dice of one version by person of the clinic and by generated head."""

    clinic: dict[str, float]
    heads: dict[str, float]


@dataclass(frozen=True, slots=True)
class Judged:
    """A tier's scores beside the active version's, the gates, and whether it may be proposed."""

    tier: str
    passes: bool
    why: str
    clinic: Gate
    fleet: Gate
    global_change: float


def judge(tier: str, policy: Policy, candidate: Scores, active: Scores) -> Judged:
    """The promotion's own gates on these scores, and the stricter rule that no tier may forget."""
    rows = [(_rows(policy.metric, scores)) for scores in (candidate, active)]
    clinic, fleet = gates.judge(policy, *rows)
    change = float(np.mean(list(candidate.heads.values())) - np.mean(list(active.heads.values())))
    unmet = [f"{gate.name}: {gate.why}" for gate in (clinic, fleet) if gate.verdict is not Verdict.PASS]
    if change < -GLOBAL_LOSS_MAX:
        unmet.append(f"global: the mean fell by {-change:.3f}, allowed is {GLOBAL_LOSS_MAX:g}")
    return Judged(tier, not unmet, "; ".join(unmet) or "both gates pass", clinic, fleet, change)


def _rows(metric: str, scores: Scores) -> list[Evidence]:
    """Scores as the gates read them; numbers and names stand in for what the database will give."""
    now = datetime.now(UTC)
    return [
        Evidence(number, clinic, "", metric, "cohort", dict(people), "", "", now)
        for number, clinic, people in ((1, UUID(int=1), scores.clinic), (2, None, scores.heads))
    ]


class Trial:
    """The cohort, the generated heads and the active version, read once for all tiers."""

    def __init__(self, content: OpenPackage, studies: Sequence[Study], threads: int, folder: Path) -> None:
        self._content, self._threads, self._folder = content, threads, folder
        self._parameters = content.package.model["parameters"]
        self._nets = nets_of(content, threads)
        self._nets[BRAIN] = Remembered(self._nets[BRAIN])
        with ThreadPoolExecutor(threads) as pool:  # heads are drawn on one core each, beside the networks
            heads, replay = (pool.submit(_drawn, kind) for kind in (scenes.GLOBAL, scenes.REPLAY))
            self._train = [
                labelled(study, self._nets, self._parameters) for study in studies if study.split == TRAIN
            ]
        self._judges = [study for study in studies if study.split == EVALUATION]
        self._heads = heads.result()
        self._replay = [Labelled(name, case) for name, case in replay.result()]

    def scores(self, content: OpenPackage) -> Scores:
        """Served answers of a package on the people who judge, and on the generated heads."""
        nets, parameters = nets_of(content, self._threads), content.package.model["parameters"]
        if content.openvino(BRAIN) == self._content.openvino(BRAIN):
            nets[BRAIN] = self._nets[BRAIN]
        return Scores(
            score_studies(self._judges, nets, parameters), score_heads(self._heads, nets[STAGE], parameters)
        )

    def weights(self, tier: str, recipe: Recipe, curve: Curve) -> tuple[Weights, dict[str, Any]]:
        """The lesion net that a tier makes of the active one, and what was done."""
        weights: Weights = dict(self._content.weights(STAGE))
        facts: dict[str, Any] = {"replay_heads": len(self._replay)}
        if tier == T2:
            cohort, old = (
                [pack(one.case.image, one.case.lesion) for one in side]
                for side in (self._train, self._replay)
            )
            weights, done = tune(weights, cohort, old, recipe, curve)
            return weights, {**facts, **done, "seed": recipe.seed}
        net, threshold = self._nets[STAGE], float(self._parameters["threshold"])
        known, logits = (
            direction_logits(net, [one.case for one in side]) for side in (self._replay, self._train)
        )
        least = mean_dice_of(known, self._replay, (1.0, 0.0), threshold) - GLOBAL_LOSS_MAX / 2
        slope, offset = rescale(logits, self._train, threshold, Kept(known, self._replay, least))
        return folded(weights, slope, offset), {**facts, "slope": round(slope, 4), "offset": offset}

    def package(self, weights: Weights, facts: Mapping[str, Any], card: Mapping[str, Any]) -> OpenPackage:
        """A package beside the request: the active one with another lesion net, its parent named."""
        parent = self._content.package
        words = b"".join(np.ascontiguousarray(weights[name]).tobytes() for name in sorted(weights))
        number = sha256_digest(words)[7:15]
        base, tier = parent.model["version"].partition("-")[0], str(facts["tier"])
        model = {**parent.model, "version": f"{base}-{tier.lower()}.{number}", "parent": parent.digest}
        about = {
            **parent.card,
            **card,
            "version_story": _story(parent.model["version"], facts),
            "fine_tune": dict(facts),
        }
        about.pop("parity", None)
        stages = {stage: self._content.weights(stage) for stage in model["stages"]} | {STAGE: weights}
        made = write_package(self._folder / f"{PACKAGE}-{tier}", model, about, stages, parent=self._content)
        return read_package(made.path)


def _drawn(kind: str) -> list[tuple[str, Case]]:
    return list(scenes.cases(kind))


def run(folder: Path, say: Say = lambda _: None, recipe: Recipe | None = None) -> dict[str, Any]:
    """Try the tiers in order, stop at the first that passes, and leave the report; `recipe` is T2's, else the usual."""
    request = json.loads((folder / REQUEST).read_text(encoding="utf-8"))
    began, made = time.monotonic(), None
    tried: list[dict[str, Any]] = []
    content = read_package(Path(request["active"]))
    policy = Policy(**request["policy"], set_by="", reason="", set_at=datetime.now(UTC))
    trial = Trial(content, read_studies(folder, request["studies"]), int(request["threads"]), folder)
    with open_curve(request["run"], folder / CURVE, request["params"]) as curve:
        active = trial.scores(content)
        say(f"active: {_line(active)}")
        for tier in request["tiers"]:
            weights, facts = trial.weights(tier, recipe or Recipe(**request["recipe"]), curve)
            try:
                made = trial.package(weights, {"tier": tier, **facts}, request["card"])
            except PackageParity as error:  # what answers differently on two runtimes is no candidate
                tried.append({"tier": tier, "passes": False, "why": error.what, "facts": facts})
                continue
            candidate = trial.scores(made)
            told = judge(tier, policy, candidate, active)
            for name, people in asdict(candidate).items():
                curve(f"dice_{name}", _mean(people), len(tried) + 1)
            say(f"{tier}: {_line(candidate)}: {told.why}")
            tried.append(asdict(told) | {"scores": asdict(candidate), "facts": facts})
            if told.passes:
                break
    report: dict[str, Any] = {
        "tiers": tried,
        "active": asdict(active),
        "package": str(made.package.path) if made and tried[-1]["passes"] else None,
        "global_set": scenes.digest(),
        "seconds": round(time.monotonic() - began, 1),
    }
    (folder / REPORT).write_text(json.dumps(report, indent=1, default=str) + "\n", encoding="utf-8")
    return report


def _mean(people: Mapping[str, float]) -> float:
    return float(np.mean(list(people.values())))


def _line(scores: Scores) -> str:
    return f"Dice {_mean(scores.clinic):.3f} (n={len(scores.clinic)} people), generated heads {_mean(scores.heads):.3f}"


def _story(parent: str, facts: Mapping[str, Any]) -> str:
    what = {
        T1: "its logit was rescaled",
        T2: "norms and first blocks were trained, mostly on replay",
    }
    return f"Local version of {parent}: {what[str(facts['tier'])]} on reviewed cases of one clinic."


def main() -> int:
    """The process: one folder in, the report out; progress goes to standard error."""
    import torch

    folder = Path(sys.argv[1])
    request = json.loads((folder / REQUEST).read_text(encoding="utf-8"))
    os.environ["MLFLOW_TRACKING_URI"] = request["mlflow"]
    torch.set_num_threads(int(request["threads"]))
    run(folder, lambda text: print(text, file=sys.stderr, flush=True))  # noqa: T201 - the child's way to speak
    return 0


if __name__ == "__main__":
    sys.exit(main())
