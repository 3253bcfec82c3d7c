"""The Serve document of the manifests is the one that the code deploys, and fits the cluster that it stands in."""

import json
import subprocess
import sys
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import BaseModel

from registry import parts
from registry.core.settings import Settings, from_environment
from serving.engine import app
from tests.k8s.checks import named_settings
from tests.k8s.render import OVERLAYS, Object, kind, named, pod, render

pytestmark = pytest.mark.tool("kubectl")


def settings(objects: list[Object]) -> Settings:
    """The settings of a workload: those of the ConfigMap and no others."""
    return from_environment(named_settings(objects))


def cluster(objects: list[Object]) -> Any:
    return kind(objects, "RayService")[0]["spec"]["rayClusterConfig"]


def cores(objects: list[Object]) -> int:
    """What ``ray.cluster_resources`` counts once every worker has joined."""
    groups = cluster(objects)["workerGroupSpecs"]
    head = int(cluster(objects)["headGroupSpec"]["rayStartParams"]["num-cpus"])
    return head + sum(group["replicas"] * int(group["rayStartParams"]["num-cpus"]) for group in groups)


def document(objects: list[Object]) -> Any:
    return yaml.safe_load(kind(objects, "RayService")[0]["spec"]["serveConfigV2"])


def unknown_keys(data: Any, model: type[BaseModel], where: str = "") -> list[str]:
    """Keys that Ray's schema does not know: it takes them without a word."""
    found = []
    for key, value in data.items():
        if key not in model.model_fields:
            found.append(f"{where}{key}")
            continue
        below = [
            kind_
            for kind_ in _models(model.model_fields[key].annotation)
            if isinstance(kind_, type) and issubclass(kind_, BaseModel)
        ]
        for one in value if isinstance(value, list) else [value]:
            if isinstance(one, dict) and below:
                found += min((unknown_keys(one, kind_, f"{where}{key}.") for kind_ in below), key=len)
    return found


def _models(annotation: Any) -> list[Any]:
    inside = getattr(annotation, "__args__", ())
    return [annotation, *(below for one in inside for below in _models(one))]


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_document_is_the_one_that_the_engine_deploys(overlay: str) -> None:
    objects = render(overlay)
    want = app.document(settings(objects), cores(objects))
    assert document(objects) == want, "serveConfigV2 must be:\n" + yaml.safe_dump(want, sort_keys=False)


def test_another_number_of_cores_or_another_address_is_noticed() -> None:
    objects = render("prod")
    here = settings(objects)
    assert app.document(here, cores(objects) + 2) != document(objects)
    named_settings(objects)["RADFLEET_MLFLOW_URL"] = "http://elsewhere:15500"
    assert app.document(settings(objects), cores(objects)) != document(objects)


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_ray_knows_every_key_of_the_document(overlay: str) -> None:
    from ray.serve.schema import ServeDeploySchema

    found = document(render(overlay))
    ServeDeploySchema.model_validate(found)
    assert unknown_keys(found, ServeDeploySchema) == []
    for one in found["applications"]:
        assert one["import_path"] == f"{app.build.__module__}:{app.build.__name__}"


def test_an_unknown_key_is_refused_at_every_depth() -> None:
    from ray.serve.schema import ServeDeploySchema

    for path in ((), ("applications", 0), ("applications", 0, "deployments", 0),
                 ("applications", 0, "deployments", 0, "ray_actor_options")):  # fmt: skip
        found = document(render("prod"))
        node = found
        for step in path:
            node = node[step]
        node["num_replica"] = 1
        assert len(unknown_keys(found, ServeDeploySchema)) == 1, path


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_replicas_fit_and_have_a_worker_each(overlay: str) -> None:
    objects = render(overlay)
    assert cluster(objects)["rayVersion"] == version("ray")
    (its_app,) = document(objects)["applications"]
    (deployment,) = its_app["deployments"]
    fit = 0
    for group in cluster(objects)["workerGroupSpecs"]:
        assert group["replicas"] == group["minReplicas"] == group["maxReplicas"]
        limit = group["template"]["spec"]["containers"][0]["resources"]["limits"]["cpu"]
        assert limit == group["rayStartParams"]["num-cpus"], "Ray counts on cores that the pod may not use"
        fit += group["replicas"] * (int(limit) // int(deployment["ray_actor_options"]["num_cpus"]))
    assert fit == deployment["num_replicas"]
    assert named(objects, "Deployment", "work")["spec"]["replicas"] == deployment["num_replicas"]
    grace = cluster(objects)["workerGroupSpecs"][0]["template"]["spec"]["terminationGracePeriodSeconds"]
    assert grace > deployment["graceful_shutdown_timeout_s"]


def test_the_replica_finds_what_its_arguments_name() -> None:
    objects = render("prod")
    (its_app,) = document(objects)["applications"]
    mounted = {m["mountPath"] for m in pod(objects, "ray-worker").main["volumeMounts"]}
    assert its_app["args"]["cache_dir"] in mounted


SAYS = """
import json, os
from ray._raylet import AuthenticationTokenLoader
print(json.dumps(AuthenticationTokenLoader.instance().get_raw_token()))
"""


def test_a_workers_caller_shows_the_token_of_its_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The caller's environment also names the token's file of one machine, which is not there in a pod."""
    here = replace(settings(render("prod")), home=tmp_path)
    monkeypatch.setenv("RAY_AUTH_TOKEN", "a-word-of-this-test")
    done = subprocess.run(
        [sys.executable, "-c", SAYS],
        env=parts.environment(here),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-500:]
    assert json.loads(done.stdout) == "a-word-of-this-test"
