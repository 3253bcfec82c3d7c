"""The one door to MLflow: shows each registered package there once, and fetches packages by digest.

PostgreSQL is the record; MLflow is the workshop and a projection of it. A version is found by its tag
``radfleet.digest`` before it is created, because MLflow itself happily creates the same version twice.
Names, numbers and aliases there are labels; the digest of the bytes decides.
"""

import fcntl
import os
import re
import shutil
import tempfile
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from registry.core.errors import Invalid
from registry.errors import AliasInvalid, ArtefactDamaged, MlflowAway, ModelNotInMlflow

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

EXPERIMENT, ARTIFACTS = "radfleet packages", "package"
TAG = "radfleet.digest"
DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_SLUG = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")


@dataclass(frozen=True, slots=True)
class Label:
    """What MLflow calls a version: registered model name and number."""

    name: str
    version: str


def register(uri: str, folder: Path, digest: str, model: Mapping[str, Any]) -> Label:
    """Show the package in ``folder`` in MLflow: artefacts, one model version, tags. Safe to repeat.

    ``model`` is the package's model.json. The caller has verified the package. Raises ``MlflowAway``.
    """
    name = str(model["name"])
    with _client(uri) as client:
        found = _find(client, digest)
        if found is not None:
            return found
        source, run_id = _upload(client, folder, digest)
        if not client.search_registered_models(f"name = '{name}'", max_results=1):
            _create_model(client, name)
        made = client.create_model_version(
            name,
            source=source,
            run_id=run_id,
            tags={
                TAG: digest,
                "radfleet.task": str(model["task"]),
                "radfleet.version": str(model["version"]),
            },
        )
        # Two registrars may both have found nothing: the older version stays, the younger one goes, and
        # since no alias points to a version this new, nothing else is lost with it.
        kept = _find(client, digest) or Label(name, str(made.version))
        if kept != Label(name, str(made.version)):
            client.delete_model_version(name, str(made.version))
        return kept


def _create_model(client: "MlflowClient", name: str) -> None:
    from mlflow.exceptions import MlflowException

    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":  # another registrar was faster
            raise


def _upload(client: "MlflowClient", folder: Path, digest: str) -> tuple[str, str]:
    """Artefact address and run of a finished upload of this digest, made now if there is none."""
    experiment = client.get_experiment_by_name(EXPERIMENT)
    number = experiment.experiment_id if experiment else client.create_experiment(EXPERIMENT)
    query = f"tags.`{TAG}` = '{digest}' and attributes.status = 'FINISHED'"
    runs = client.search_runs([number], query, max_results=1)
    if runs:
        run = runs[0]
    else:
        run = client.create_run(number, run_name=folder.name, tags={TAG: digest})
        client.log_artifacts(run.info.run_id, str(folder), ARTIFACTS)
        client.set_terminated(run.info.run_id, "FINISHED")
    return f"{run.info.artifact_uri}/{ARTIFACTS}", str(run.info.run_id)


def _find(client: "MlflowClient", digest: str) -> Label | None:
    if not DIGEST.fullmatch(digest):
        raise ModelNotInMlflow("That is not a digest")
    found = client.search_model_versions(f"tags.`{TAG}` = '{digest}'", max_results=10)
    if not found:
        return None
    oldest = min(found, key=lambda version: (version.creation_timestamp, int(version.version)))
    return Label(str(oldest.name), str(oldest.version))


def find(uri: str, digest: str) -> Label | None:
    """The MLflow version that carries this digest, or None. Raises ``MlflowAway``."""
    with _client(uri) as client:
        return _find(client, digest)


def answers(uri: str) -> None:
    """Ask whether MLflow is there, before minutes are spent on what it is to show. Raises ``MlflowAway``."""
    _answers(uri)


def place(cache_dir: Path, digest: str) -> Path:
    """Where a node keeps the package of a digest. Raises ``ModelNotInMlflow`` for what is no digest."""
    if not DIGEST.fullmatch(digest):
        raise ModelNotInMlflow("That is not a digest")
    return cache_dir / digest.removeprefix("sha256:")


def fetch(uri: str, digest: str, cache_dir: Path, verify: Callable[[Path], str]) -> Path:
    """The folder of a verified package in this node's cache, downloaded once if it is not there yet.

    ``verify`` reads a folder, proves every byte and returns its digest, or raises. What is cached needs no
    MLflow. A download becomes visible only after it was proven, by one rename. Raises ``MlflowAway``,
    ``ModelNotInMlflow``, ``ArtefactDamaged``.
    """
    target = place(cache_dir, digest)
    if target.is_dir():
        return target
    cache_dir.mkdir(parents=True, exist_ok=True)
    with (cache_dir / f".{target.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # one download a node, whoever asks
        if target.is_dir():
            return target
        draft = Path(tempfile.mkdtemp(prefix=f".{target.name[:16]}.", dir=cache_dir))
        try:
            folder = _download(uri, digest, draft)
            try:
                proven = verify(folder)
            except Invalid as error:
                raise ArtefactDamaged("A downloaded package is damaged", error.what) from error
            if proven != digest:
                raise ArtefactDamaged("A downloaded package has another digest than its tag says")
            folder.rename(target)
        finally:
            shutil.rmtree(draft, ignore_errors=True)
    return target


def _download(uri: str, digest: str, draft: Path) -> Path:
    from mlflow.artifacts import download_artifacts

    with _client(uri) as client:
        label = _find(client, digest)
        if label is None:
            raise ModelNotInMlflow("No MLflow version carries the digest that a binding names")
        source = client.get_model_version_download_uri(label.name, label.version)
        return Path(download_artifacts(artifact_uri=source, dst_path=str(draft), tracking_uri=uri))


def set_alias(uri: str, slug: str, task: str, digest: str) -> bool:
    """Point the alias ``clinic-<slug>-<task>`` at the version of ``digest``: one way, from PostgreSQL.

    True when it pointed elsewhere before, as after a new binding or when somebody moved it by hand. Raises
    ``AliasInvalid``, ``ModelNotInMlflow``, ``MlflowAway``.
    """
    if not (_SLUG.fullmatch(slug) and _SLUG.fullmatch(task)):
        raise AliasInvalid()
    alias = f"clinic-{slug}-{task}"
    with _client(uri) as client:
        label = _find(client, digest)
        if label is None:
            raise ModelNotInMlflow("No MLflow version carries the digest that a binding names")
        aliases = client.get_registered_model(label.name).aliases
        if str(aliases.get(alias, "")) == label.version:
            return False
        client.set_registered_model_alias(label.name, alias, label.version)
        return True


def curve_logger(
    name: str, uri: str | None = None, params: Mapping[str, Any] | None = None
) -> Callable[[str, float, int], None]:
    """A function (metric, value, step) that draws into a new MLflow run ``name`` of experiment ``training``.

    ``uri`` defaults to MLFLOW_TRACKING_URI; ``params`` are written beside the curve. MLflow being away later costs
    points of the curve and never the training. Raises ``MlflowAway`` when it does not answer at the start.
    """
    with _client(uri or os.environ.get("MLFLOW_TRACKING_URI", "")) as client:
        experiment = client.get_experiment_by_name("training")
        number = experiment.experiment_id if experiment else client.create_experiment("training")
        run_id = client.create_run(number, run_name=name).info.run_id
        for key, value in (params or {}).items():
            client.log_param(run_id, key, value)

    def log(metric: str, value: float, step: int) -> None:
        from mlflow.exceptions import MlflowException

        try:
            client.log_metric(run_id, metric, float(value), step=step)
        except MlflowException:
            return

    return log


@contextmanager
def _client(uri: str) -> Iterator["MlflowClient"]:
    """A client of the server at ``uri`` (http, or a database for tests and training without a server)."""
    # MLflow's own defaults retry for minutes, print bars and links and report usage. A person's setting wins.
    for setting, value in {
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
        "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
        "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",  # a command's standard output is its answer
        "GIT_PYTHON_REFRESH": "quiet",
    }.items():
        os.environ.setdefault(setting, value)
    _answers(uri)
    from mlflow.exceptions import MlflowException
    from mlflow.tracking import MlflowClient

    try:
        yield MlflowClient(tracking_uri=uri, registry_uri=uri)
    except (MlflowException, OSError) as error:
        # Errors that say what was asked and not found are bugs of ours; all the rest is an absent server.
        if getattr(error, "error_code", "") in ("INVALID_PARAMETER_VALUE", "BAD_REQUEST"):
            raise
        raise MlflowAway("MLflow broke off", type(error).__name__) from error


def _answers(uri: str) -> None:
    """Ask for /health first: a refused connection is known in milliseconds, before 170 MB are imported."""
    if not uri:
        raise MlflowAway("No MLflow address is set", cure="Set MLFLOW_TRACKING_URI or RADFLEET_MLFLOW_URL.")
    if not uri.startswith(("http://", "https://")):
        return
    try:
        with urllib.request.urlopen(f"{uri.rstrip('/')}/health", timeout=5):  # noqa: S310 - scheme checked above
            return
    except (OSError, urllib.error.URLError, ValueError) as error:
        raise MlflowAway("MLflow does not answer", type(error).__name__) from error
