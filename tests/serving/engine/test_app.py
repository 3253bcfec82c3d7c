"""The deployment document is one that Serve takes, key by key, and says what the design says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import BaseModel
from ray.serve.schema import DeploymentSchema, ServeApplicationSchema, ServeDeploySchema

from registry.core.settings import Settings
from serving.engine import app


def unknown(model: type[BaseModel], fields: dict[str, Any]) -> set[str]:
    """Keys that Serve's schema would silently ignore."""
    return set(fields) - set(model.model_fields)


def test_serve_takes_every_key_of_the_document(tmp_path: Path) -> None:
    document = app.document(Settings(home=tmp_path, threads=2), cpus=8, gpus=1)
    ServeDeploySchema.model_validate(document)
    assert not unknown(ServeDeploySchema, document)
    for application in document["applications"]:
        assert not unknown(ServeApplicationSchema, application)
        for deployment in application["deployments"]:
            assert not unknown(DeploymentSchema, deployment)


def test_a_replica_gets_its_threads_as_cpus_and_one_study_at_a_time(tmp_path: Path) -> None:
    document = app.document(Settings(home=tmp_path, threads=2), cpus=8)
    (application,) = document["applications"]
    (deployment,) = application["deployments"]
    assert application["name"] == "engine-cpu-small"
    assert application["route_prefix"] is None
    assert document["proxy_location"] == "Disabled"
    assert deployment["max_ongoing_requests"] == 1
    assert deployment["num_replicas"] == 4
    assert deployment["ray_actor_options"]["num_cpus"] == application["args"]["threads"] == 2


def test_a_small_machine_still_gets_one_replica_that_fits(tmp_path: Path) -> None:
    document = app.document(Settings(home=tmp_path, threads=4), cpus=2)
    deployment = document["applications"][0]["deployments"][0]
    assert (deployment["num_replicas"], deployment["ray_actor_options"]["num_cpus"]) == (1, 2)


def test_a_gpu_brings_its_own_runtime_class(tmp_path: Path) -> None:
    names = [a["name"] for a in app.document(Settings(home=tmp_path), cpus=2, gpus=2)["applications"]]
    assert names == ["engine-cpu-small", "engine-gpu-small"]
