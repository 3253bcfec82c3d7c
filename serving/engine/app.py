"""The engine's shape on Ray Serve: one application per runtime class, deployed as one document.

The document is the same one that Kubernetes gets as ``serveConfigV2``. A new model version never changes it.
"""

import os
from collections.abc import Mapping
from typing import Any

from ray import serve
from ray.serve.schema import ServeDeploySchema

from registry.core.settings import Settings
from serving.engine.host import Host

# Runtime class (a package names one) -> runtime and GPUs a replica.
CLASSES: Mapping[str, tuple[str, float]] = {"cpu-small": ("openvino", 0), "gpu-small": ("torch", 1)}
# Packages at rest in a replica: the lesion package counts 12 MB and takes about 8, so more than 40 versions.
# Measured on two cores: a replica takes 330 MB (180 of its own); a study of 320x320x36 voxels adds 290, which
# stay for the last two versions asked (cache.HOT). The loop and each worker's caller take 270 (160 their own).
SHELF_BYTES = 512 * 2**20
# Longest study on a slow processor, and a margin: a draining replica finishes what it began.
DRAIN_S = 150


def application(runtime_class: str) -> str:
    """The Serve application that answers for a runtime class."""
    return f"engine-{runtime_class}"


def build(args: dict[str, Any]) -> serve.Application:
    """Serve's builder: ``args`` are those of ``Host``; number of replicas and resources are in the document."""
    return serve.deployment(Host, name="Host").bind(**args)


def document(settings: Settings, cpus: float, gpus: float = 0) -> dict[str, Any]:
    """The ``ServeDeploySchema`` document for a cluster of so many cores and GPUs.

    As many replicas of a class as the cluster holds. The HTTP proxy is off: only workers ask, by handle, so
    nobody on the network can ask for another clinic's model.
    """
    threads = max(1, min(settings.threads, int(cpus)))
    copies = {"cpu-small": max(1, int(cpus) // threads), "gpu-small": int(gpus)}
    return {
        "proxy_location": "Disabled",
        "applications": [
            {
                "name": application(name),
                "route_prefix": None,
                "import_path": "serving.engine.app:build",
                "args": {
                    "cache_dir": str(settings.cache_dir),
                    "mlflow_uri": settings.mlflow_uri(),
                    "threads": threads,
                    "runtime": runtime,
                    "bytes_max": SHELF_BYTES,
                },
                "deployments": [_deployment(copies[name], threads if not gpu else 1, gpu)],
            }
            for name, (runtime, gpu) in CLASSES.items()
            if copies[name]
        ],
    }


def _deployment(copies: int, cpus: float, gpus: float) -> dict[str, Any]:
    return {
        "name": "Host",
        "num_replicas": copies,
        "max_ongoing_requests": 1,
        # The queue is in PostgreSQL; a worker asks for one study at a time.
        "max_queued_requests": 64,
        "graceful_shutdown_timeout_s": DRAIN_S,
        "health_check_period_s": 2,
        "health_check_timeout_s": 30,
        "ray_actor_options": {"num_cpus": cpus, "num_gpus": gpus},
        "logging_config": {"enable_access_log": False},
    }


def connect(address: str) -> None:
    """Join the Ray cluster at ``address`` (host:port) as a driver; its token comes from the environment.

    A driver whose head has died ends its process after 5 s instead of Ray's 60, so that its parent knows.
    """
    import ray

    os.environ.setdefault("RAY_gcs_rpc_server_reconnect_timeout_s", "5")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    ray.init(address=address, namespace="radfleet", log_to_driver=False, logging_level="ERROR")


def deploy(settings: Settings) -> list[str]:
    """Bring the connected cluster to ``document``; returns the applications' names. Safe to repeat.

    Uses Serve's private client, since the public ways are the dashboard's REST API, which is off here, and
    ``serve.run``, which restarts replicas that need not change.
    """
    import ray
    from ray.serve.context import _get_global_client

    resources = ray.cluster_resources()
    wanted = document(settings, resources.get("CPU", 1), resources.get("GPU", 0))
    serve.start(proxy_location="Disabled")
    _get_global_client().deploy_apps(ServeDeploySchema.model_validate(wanted))
    return [app["name"] for app in wanted["applications"]]


def warm(runtime_class: str, digest: str, timeout_s: float) -> int:
    """Have every replica of a class load a package: how many did. Raises what Ray raises, and TimeoutError.

    One call a replica at once: a replica takes one at a time, so each gets its own unless it is busy with a study.
    """
    name = application(runtime_class)
    replicas = serve.status().applications[name].deployments["Host"].replica_states.get("RUNNING", 0)
    handle = serve.get_app_handle(name)
    answers = [handle.warm.remote(digest) for _ in range(replicas)]
    return sum("ok" in answer.result(timeout_s=timeout_s) for answer in answers)


def states(names: list[str]) -> dict[str, str]:
    """State of each application as Serve gives it: RUNNING, DEPLOYING, DEPLOY_FAILED, ..., or ABSENT."""
    found = serve.status().applications
    return {name: str(found[name].status.value) if name in found else "ABSENT" for name in names}
