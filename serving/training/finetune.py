"""The cure, from reviews to a version that may be proposed: freeze, prepare, train, judge, record.

Nothing here changes what answers a clinic: that is the promotion's. Whatever breaks off, the frozen cohort stays, and
the same command goes on from it.
"""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from registry import bindings_store, clinics, local_versions_store, models, versions
from registry.bindings import EVERYWHERE
from registry.canonical import sha256_digest
from registry.clinics_store import Clinic
from registry.core.db import Database
from registry.core.settings import Settings
from registry.errors import MlflowAway, NoBinding
from registry.promotions import add_evidence, evidence_store
from registry.promotions.evidence_store import Policy
from serving.engine import cache, calls, registering
from serving.engine.package import Package, verify_package
from serving.imaging import child
from serving.imaging.volume import Volume, load_volume
from serving.reviews import masks
from serving.reviews.lattice import Grid, onto
from serving.studies import studies_store
from serving.training import cohorts
from serving.training.cohorts import Cohort
from serving.training.cohorts_store import Reviewed
from serving.training.errors import MetricUnknown, NothingPasses, RecipeNone, TrainerDied

RECIPES, SEED = ("ms-lesion",), 1
TIERS = ("T1", "T2")
JOB = "serving.training.finetune_job"
REPORT, STUDIES, TRUTH = "report.json", "studies", "truth.npy"
Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Made:
    """A candidate that passed: its package, the tier that made it, the cohort, the job's whole report."""

    package: Package
    tier: str
    cohort: Cohort
    report: dict[str, Any]


def finetune(
    settings: Settings, db: Database, slug: str, task: str, tiers: Sequence[str] = TIERS,
    steps: int | None = None, *, by: str, say: Say,
) -> Made:  # fmt: skip
    """Make a local version of what answers a clinic's task; registered with its evidence where a tier passes.

    ``steps``: T2's length, else its recipe's.

    Raises RecipeNone, NoBinding, MetricUnknown, CohortSmall, NothingPasses, MlflowAway, EngineAway,
    TrainerDied.
    """
    if task not in RECIPES:
        raise RecipeNone(f"there is no recipe for {task}; there are: {', '.join(RECIPES)}")
    with db.system() as conn:
        clinic = clinics.by_slug(conn, slug)
        active = bindings_store.answering(conn, clinic.id, task, EVERYWHERE)
        policy = evidence_store.policies(conn, 1)[0]
    if active is None:
        raise NoBinding(f"nothing answers {task} here, so there is nothing to begin from")
    if policy.metric != "dice":
        raise MetricUnknown(f"policy {policy.version} compares {policy.metric}; a fine-tune measures dice")
    models.answers(settings.mlflow_uri())
    parent = cache.ensure(settings.mlflow_uri(), active.digest, settings.cache_dir)
    # Committed before anything is trained: who judges is reserved from here on.
    with db.tenant(clinic.id) as conn:
        cohort = cohorts.freeze(conn, clinic.id, task, policy.clinic_people_min, by=by)
    say(
        f"cohort {cohort.digest[7:19]}: {cohort.people(cohorts.TRAIN)} people to train on, "
        f"{cohort.people(cohorts.EVALUATION)} who judge"
    )
    folder = settings.root / "finetune" / cohort.digest[7:19]
    shutil.rmtree(folder, ignore_errors=True)
    try:
        listed = prepare(settings, db, clinic, cohort, verify_package(parent), folder)
        request = _request(settings, parent, active.digest, policy, cohort, listed, tiers, steps)
        (folder / "request.json").write_text(json.dumps(request, indent=1) + "\n", encoding="utf-8")
        train(settings, folder, say)
    finally:
        shutil.rmtree(folder / STUDIES, ignore_errors=True)  # images of patients stay in the store alone
    report = json.loads((folder / REPORT).read_text(encoding="utf-8"))
    if report["package"] is None:
        told = "; ".join(f"{row['tier']}: {row['why']}" for row in report["tiers"])
        raise NothingPasses(f"{len(report['tiers'])} tiers were tried and none passes", told)
    return record(settings, db, clinic, active.digest, cohort, folder, by=by)


def prepare(
    settings: Settings, db: Database, clinic: Clinic, cohort: Cohort, package: Package, folder: Path
) -> list[dict[str, str]]:
    """Volume and corrected mask of every study of a cohort below ``folder``; listed as the job wants them."""

    def one(number: int) -> dict[str, str]:
        item, side = cohort.items[number]
        place = folder / STUDIES / f"{number:04d}"
        with db.tenant(clinic.id) as conn:
            relative = studies_store.instance_paths(conn, clinic.id, item.study_id)
        child.prepare([settings.store_dir / path for path in relative], package.model["accepts"], place)
        truth = mask_on(settings.store_dir / item.mask_path, item, load_volume(place))
        np.save(place / TRUTH, truth, allow_pickle=False)
        person = cohorts.pseudonym(item.person_key)
        return {"person": person, "split": side, "folder": f"{STUDIES}/{number:04d}"}

    with ThreadPoolExecutor(settings.threads) as pool:  # each study is decoded in a process of its own
        return list(pool.map(one, range(len(cohort.items))))


def mask_on(path: Path, item: Reviewed, volume: Volume) -> NDArray[np.bool_]:
    """A kept mask on the grid [I,J,K] of its study's volume. Raises KeptMaskDamaged, MaskElsewhere."""
    labels, affine = masks.decode(path.read_bytes(), bytes.fromhex(item.mask_sha256))
    return np.asarray(onto(labels, affine, Grid(volume.shape, volume.affine)) > 0)


def train(settings: Settings, folder: Path, say: Say) -> None:
    """Run the job as a Ray task where a cluster is up, else in a process here. Raises EngineAway, TrainerDied."""
    if calls.head_answers(settings):
        say("training as a task on Ray")
        calls.run_task(settings, JOB, folder)
    else:
        say("training in a process here: Ray is not up")
        done = subprocess.run([sys.executable, "-m", JOB, str(folder)], check=False)
        if done.returncode:
            raise TrainerDied(f"the trainer ended with status {done.returncode}")
    if not (folder / REPORT).exists():
        raise TrainerDied


def record(
    settings: Settings, db: Database, clinic: Clinic, parent: str, cohort: Cohort, folder: Path, *, by: str
) -> Made:
    """Register the candidate of a finished job as the clinic's own, with the evidence of both versions.

    With MLflow away all of it is recorded first, then MlflowAway is raised: the version waits for its label alone.
    """
    data = (folder / REPORT).read_bytes()
    report = json.loads(data)
    last = report["tiers"][-1]
    package = verify_package(Path(report["package"]))
    registering.keep(settings, package)
    sets = {"clinic": f"cohort-{cohort.digest[7:19]}", "heads": f"generated-{report['global_set'][7:19]}"}
    with db.system() as conn:
        versions.add(conn, digest=package.digest, model=package.model, card=package.card, by=by)
        values = {
            "clinic_id": clinic.id, "digest": package.digest, "parent": parent, "cohort": cohort.digest,
            "people_train": cohort.people(cohorts.TRAIN), "people_evaluation": cohort.people(cohorts.EVALUATION),
            "tier": last["tier"], "by": by,
        }  # fmt: skip
        local_versions_store.add(conn, values)
        for digest, scores in ((parent, report["active"]), (package.digest, last["scores"])):
            for name, dataset in sets.items():
                whose = clinic if name == "clinic" else None
                add_evidence(
                    conn,
                    digest,
                    whose,
                    "dice",
                    dataset,
                    scores[name],
                    source_digest=sha256_digest(data),
                    by=by,
                )
    try:
        registering.register(settings, db, package.path, by)
    except MlflowAway as away:
        cure = f"Version and evidence are recorded. Run radfleet model register {package.path} once MLflow is back."
        raise MlflowAway("MLflow went away while the cure was made", away.why_text, cure) from away
    return Made(package, last["tier"], cohort, report)


def _request(
    settings: Settings, parent: Path, digest: str, policy: Policy, cohort: Cohort,
    listed: Sequence[Mapping[str, str]], tiers: Sequence[str], steps: int | None,
) -> dict[str, Any]:  # fmt: skip
    margins = {k: v for k, v in asdict(policy).items() if k not in ("set_by", "reason", "set_at")}
    card = {
        "parent": digest,
        "cohort": cohort.digest,
        "people_trained_on": cohort.people(cohorts.TRAIN),
        "people_who_judged": cohort.people(cohorts.EVALUATION),
        "replay": "six generated heads, two thirds of each batch",
        "global_set": "ten generated heads, which are no people",
    }
    recipe = {"seed": SEED} | ({"steps": steps} if steps else {})
    params = {
        "parent": digest, "cohort": cohort.digest, "tiers": " ".join(tiers), **recipe,
        "people_train": cohort.people(cohorts.TRAIN), "people_evaluation": cohort.people(cohorts.EVALUATION),
    }  # fmt: skip
    return {
        "active": str(parent.absolute()), "studies": list(listed), "policy": margins, "tiers": list(tiers),
        "card": card, "threads": settings.threads, "recipe": recipe, "mlflow": settings.mlflow_uri(),
        "run": f"finetune-{cohort.digest[7:19]}", "params": params,
    }  # fmt: skip
