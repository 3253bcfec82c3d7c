"""Who can speak with whom under the NetworkPolicies, computed as a network plug-in would, and where probes lead."""

import inspect
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from monitoring.metrics import server
from monitoring.web.app import routes
from registry import parts
from registry.processes import READY_FILE
from serving.doors import http
from tests.k8s.render import Object, Pod, kind, matches, pods

EVERY = -1  # all ports
OUTSIDE, KUBERAY, CNPG, PROMETHEUS = "outside", "kuberay-operator", "cloudnative-pg", "prometheus"
DATABASE = "postgres"
CLIENTS = (
    "migrate",
    "mlflow",
    "door-dicom",
    "door-http",
    "web",
    "work",
    "deliver",
    "sweep",
    "engine",
    "monitor",
    "metrics",
)
RAY = ("ray-head", "ray-worker", "engine", "work")
# (who asks, who is asked): ports. All else is denied.
EXPECTED: dict[tuple[str, str], set[int]] = {
    **{(client, DATABASE): {5432} for client in CLIENTS},
    (DATABASE, DATABASE): {5432, 8000},
    **{(client, "mlflow"): {15500} for client in ("work", "engine", "ray-worker", "web", "metrics")},
    **{(one, other): {EVERY} for one in RAY for other in RAY},
    (OUTSIDE, "door-dicom"): {11112},
    (OUTSIDE, "door-http"): {18080},
    (OUTSIDE, "web"): {18090},
    ("web", "door-http"): {18080},
    ("metrics", "door-http"): {18080},
    (PROMETHEUS, "metrics"): {18091},
    (KUBERAY, "ray-head"): {8265},
    (CNPG, DATABASE): {8000},
    ("deliver", OUTSIDE): {EVERY},
    ("monitor", OUTSIDE): {443, 465, 587},
    (DATABASE, OUTSIDE): {443, 6443},
}


def everyone(objects: list[Object]) -> list[Pod]:
    """All pods, and those that CloudNativePG makes of the Cluster."""
    made = [
        Pod(
            DATABASE,
            {"cnpg.io/cluster": one["metadata"]["name"]},
            {
                "containers": [
                    {"name": "postgres", "ports": [{"containerPort": 5432}, {"containerPort": 8000}]}
                ]
            },
        )
        for one in kind(objects, "Cluster")
    ]
    return pods(objects) + made


def _peer(peers: list[Object] | None, other: Pod | None, name: str) -> bool:
    """Whether a rule's peers hold the other side. No peers: everybody."""
    if not peers:
        return True
    for peer in peers:
        if "ipBlock" in peer:
            fits = name == OUTSIDE
        elif "namespaceSelector" in peer:
            # Of other namespaces only the operators are asked about, each by its own label.
            fits = (
                other is None
                and peer.get("podSelector", {}).get("matchLabels", {}).get("app.kubernetes.io/name") == name
            )
        else:
            fits = other is not None and matches(peer["podSelector"], other.labels)
        if fits:
            return True
    return False


def _ports(objects: list[Object], me: Pod, side: str, other: Pod | None, name: str) -> set[int]:
    """Ports on which the policies that select ``me`` let it speak with the other side."""
    mine = [
        one["spec"]
        for one in kind(objects, "NetworkPolicy")
        if matches(one["spec"]["podSelector"], me.labels) and side in one["spec"]["policyTypes"]
    ]
    if not mine:
        return {EVERY}
    found: set[int] = set()
    for policy in mine:
        for rule in policy.get(side.lower(), []):
            if _peer(rule.get("from" if side == "Ingress" else "to"), other, name):
                found |= {port["port"] for port in rule["ports"]} if "ports" in rule else {EVERY}
    return found


def _both(one: set[int], other: set[int]) -> set[int]:
    if EVERY in one:
        return other
    return one if EVERY in other else one & other


def matrix(objects: list[Object]) -> dict[tuple[str, str], set[int]]:
    """Every pair that may speak, with the ports."""
    found: dict[tuple[str, str], set[int]] = {}
    all_of_us = everyone(objects)
    for asked in all_of_us:
        for asker in all_of_us:
            out = _ports(objects, asker, "Egress", asked, asked.name)
            found[asker.name, asked.name] = _both(
                out, _ports(objects, asked, "Ingress", asker, asker.name)
            ) & (asked.ports | {EVERY})
        for name in (OUTSIDE, KUBERAY, CNPG, PROMETHEUS):
            found[name, asked.name] = _ports(objects, asked, "Ingress", None, name)
        found[asked.name, OUTSIDE] = _ports(objects, asked, "Egress", None, OUTSIDE)
    open_to_all = ("door-dicom", "door-http", "web")
    doors = {pair for pair in found if pair[0] in (KUBERAY, CNPG, PROMETHEUS) and pair[1] in open_to_all}
    return {pair: ports for pair, ports in found.items() if ports and pair not in doors}


def network(objects: list[Object]) -> list[str]:
    """The paths are exactly the expected ones, and each named port is one on which somebody listens."""
    have = matrix(objects)
    found = [f"denied: {a} -> {b} {EXPECTED[a, b]}" for a, b in EXPECTED.keys() - have.keys()]
    found += [f"allowed: {a} -> {b} {have[a, b]}" for a, b in have.keys() - EXPECTED.keys()]
    found += [
        f"{a} -> {b}: {have[a, b]} and not {EXPECTED[a, b]}"
        for a, b in have.keys() & EXPECTED.keys()
        if have[a, b] != EXPECTED[a, b]
    ]
    for one in kind(objects, "NetworkPolicy"):
        asked = [p for p in everyone(objects) if matches(one["spec"]["podSelector"], p.labels)]
        for rule in one["spec"].get("ingress", []):
            for port in rule.get("ports", []):
                found += [
                    f"{one['metadata']['name']}: {p.name} does not listen on {port['port']}"
                    for p in asked
                    if port["port"] not in p.ports
                ]
        if not asked:
            found.append(f"{one['metadata']['name']}: selects nobody")
    return found


def _paths(p: Pod, container: Object) -> set[str] | str:
    """The addresses that exist: routes, or the source in which an address must stand."""
    if container["name"] == "ray":
        spec = find_spec("ray.dashboard.modules.reporter.healthz_agent")
        assert spec is not None
        assert spec.origin is not None
        return Path(spec.origin).read_text()
    if p.name == "mlflow":
        return inspect.getsource(parts._mlflow)
    nothing: Any = None
    if p.name == "metrics":
        return inspect.getsource(server.application)
    if p.name == "web":
        return {str(getattr(route, "path", "")) for route in routes(nothing, nothing).routes}
    if p.name == "door-http":
        return {
            str(getattr(route, "path", "")) for route in http.application(nothing, nothing, nothing).routes
        }
    return set()


def probes(objects: list[Object]) -> list[str]:
    """Whoever serves says when it is ready, whoever listens is watched, and a probe asks what exists."""
    found = []
    for p in pods(objects):
        if p.name == "migrate":
            continue
        for container in p.containers:
            if container is not p.main and "restartPolicy" not in container:
                continue
            where = f"{p.name}/{container['name']}"
            have = {key: container[key] for key in container if key.endswith("Probe")}
            if not have.keys() & {"readinessProbe", "startupProbe"}:
                found.append(f"{where}: never says that it is ready")
            if container.get("ports") and "livenessProbe" not in have:
                found.append(f"{where}: listens and is not watched")
            for probe in have.values():
                found += [f"{where}: {fault}" for fault in _probe(p, container, probe)]
    return found


def _probe(p: Pod, container: Object, probe: Object) -> list[str]:
    ports = {port["name"] for port in container.get("ports", [])}
    match probe:
        case {"httpGet": {"path": path, "port": port}}:
            found = [] if port in ports else [f"no port {port}"]
            return found + ([] if path in _paths(p, container) else [f"no address {path}"])
        case {"tcpSocket": {"port": port}}:
            return [] if port in ports else [f"no port {port}"]
        case {"exec": {"command": ["sh", "-c", script]}}:
            env = {one["name"]: one.get("value", "") for one in container["env"]}
            file = env.get(READY_FILE, "")
            mounted = any(file.startswith(f"{m['mountPath']}/") for m in container["volumeMounts"])
            return [] if file and mounted and f"cat {file})" in script else ["looks for no ready file"]
    return ["is of no known form"]


def ray_token(objects: list[Object]) -> list[str]:
    """Ray's head and workers, KubeRay, sidecars and drivers all show the token of the same Secret."""
    (service,) = kind(objects, "RayService")
    options = service["spec"]["rayClusterConfig"].get("authOptions", {})
    found = [] if options.get("mode") == "token" else ["the Ray cluster lets anybody in"]
    want = {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": {"secretKeyRef": {"name": options.get("secretName"), "key": "auth_token"}},
    }
    for p in pods(objects):
        if p.name not in ("work", "engine"):
            continue
        sides = [one for one in p.containers if one["name"] in ("ray", "radfleet")]
        if (
            len(sides) != 2
            or sides[0].get("restartPolicy") != "Always"
            or not p.spec["shareProcessNamespace"]
        ):
            found.append(f"{p.name}: no Ray node beside the driver")
        for one in sides:
            env = {e["name"]: e.get("value", e.get("valueFrom")) for e in one["env"] if e["name"] in want}
            if env != want:
                found.append(f"{p.name}/{one['name']}: shows another token")
            if not {"/tmp", "/dev/shm"} <= {m["mountPath"] for m in one["volumeMounts"]}:
                found.append(f"{p.name}/{one['name']}: cannot reach the node's sockets")
    return found
