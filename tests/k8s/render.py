"""The manifests as Kubernetes would get them, and the pods that they describe."""

import copy
import subprocess
from dataclasses import dataclass
from functools import cache
from typing import Any

import yaml

from tests.house.tree import ROOT

OVERLAYS = ("demo", "prod")
FOLDER = ROOT / "k8s"
Object = dict[str, Any]


@cache
def _rendered(overlay: str) -> tuple[Object, ...]:
    done = subprocess.run(
        ["kubectl", "kustomize", str(FOLDER / "overlays" / overlay)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    # Warnings are what the next version of kustomize refuses.
    assert done.stderr == ""
    return tuple(found for found in yaml.safe_load_all(done.stdout) if found)


def render(overlay: str) -> list[Object]:
    """Every object of an overlay; a copy, so that a test may break it."""
    return copy.deepcopy(list(_rendered(overlay)))


@dataclass(frozen=True, slots=True)
class Pod:
    """A pod that some object makes. ``spec`` is the object's own part, not a copy."""

    name: str
    labels: dict[str, str]
    spec: Object

    @property
    def containers(self) -> list[Object]:
        """All containers, those that run before the others too."""
        return [*self.spec.get("initContainers", []), *self.spec["containers"]]

    @property
    def main(self) -> Object:
        """The container for which the pod is there."""
        found: Object = self.spec["containers"][0]
        return found

    @property
    def ports(self) -> set[int]:
        """The ports on which its containers say that they listen."""
        return {port["containerPort"] for one in self.containers for port in one.get("ports", [])}


def _pod(name: str, template: Object) -> Pod:
    return Pod(name, template.get("metadata", {}).get("labels", {}), template["spec"])


def kind(objects: list[Object], *kinds: str) -> list[Object]:
    """The objects of these kinds."""
    return [found for found in objects if found["kind"] in kinds]


def named(objects: list[Object], its_kind: str, name: str) -> Object:
    """The one object of that kind and name."""
    (found,) = [one for one in kind(objects, its_kind) if one["metadata"]["name"] == name]
    return found


def pods(objects: list[Object]) -> list[Pod]:
    """The pods whose content stands in these manifests; PostgreSQL's are made by its operator."""
    found = [
        _pod(one["metadata"]["name"], one["spec"]["template"]) for one in kind(objects, "Deployment", "Job")
    ]
    for service in kind(objects, "RayService"):
        cluster = service["spec"]["rayClusterConfig"]
        found.append(_pod("ray-head", cluster["headGroupSpec"]["template"]))
        found += [_pod("ray-worker", group["template"]) for group in cluster["workerGroupSpecs"]]
    return found


def pod(objects: list[Object], name: str) -> Pod:
    """One pod by the name of its workload."""
    (found,) = [one for one in pods(objects) if one.name == name]
    return found


def matches(selector: Object | None, labels: dict[str, str]) -> bool:
    """Whether a label selector selects these labels; an empty one selects everything."""
    selector = selector or {}
    fits = all(labels.get(key) == value for key, value in selector.get("matchLabels", {}).items())
    for rule in selector.get("matchExpressions", []):
        assert rule["operator"] == "In", "only In is used here"
        fits = fits and labels.get(rule["key"]) in rule["values"]
    return fits
