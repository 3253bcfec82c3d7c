"""What must be true of rendered manifests. Each check returns the faults that it finds, as sentences."""

import re
import tomllib
from dataclasses import fields
from functools import cache
from typing import Any

from registry.core.settings import Settings
from tests.house.test_docs import commands
from tests.house.tree import ROOT
from tests.k8s.render import Object, kind, matches, pods

# Made by an operator from an object of ours: CloudNativePG's certificate authority of the cluster.
MADE_BY_OPERATOR = {"radfleet-db-ca": {"ca.crt"}}
_ROW = re.compile(r"^\| `(radfleet-[a-z-]+)` \| ((?:`[^`]+`(?:, )?)+) \|", re.MULTILINE)
NOT_SETTINGS = {"PGPASSFILE", "RAY_USAGE_STATS_ENABLED"}
USER = 10001
LOCKED = {
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "capabilities": {"drop": ["ALL"]},
}
# Which workload may log in as which role of the database.
SERVICE = {"radfleet_owner", "radfleet_app", "radfleet_system"}
ROLES = {
    "migrate": {"radfleet_owner"},
    "mlflow": {"mlflow"},
    **dict.fromkeys(("door-dicom", "door-http", "work", "deliver", "sweep", "engine"), SERVICE),
    "monitor": {"radfleet_owner", "radfleet_monitor"},
    "metrics": {"radfleet_owner", "radfleet_monitor"},
    "web": {"radfleet_owner", "radfleet_app", "radfleet_system", "radfleet_monitor"},
}
# Who needs which folder of the installation; True: writes there.
FOLDERS: dict[str, dict[str, bool]] = {
    "door-dicom": {"store": True, "secrets": False},
    "door-http": {"store": True, "secrets": False},
    "web": {"secrets": False},
    "monitor": {"secrets": False},
    "work": {"store": True, "work": True, "packages": True},
    "deliver": {"store": False},
    "sweep": {"store": True},
    "engine": {"packages": True},
    "ray-worker": {"work": True, "packages": True},
}


@cache
def provided() -> dict[str, set[str]]:
    """The Secrets that the README asks for: name and keys."""
    text = (ROOT / "k8s" / "README.md").read_text()
    return {name: set(re.findall(r"`([^`]+)`", keys)) for name, keys in _ROW.findall(text)}


def walk(node: Any) -> Any:
    """Every dictionary inside."""
    if isinstance(node, dict):
        yield node
        for below in node.values():
            yield from walk(below)
    elif isinstance(node, list):
        for below in node:
            yield from walk(below)


def texts(node: Any) -> Any:
    """Every string inside."""
    if isinstance(node, dict):
        for below in node.values():
            yield from texts(below)
    elif isinstance(node, list):
        for below in node:
            yield from texts(below)
    elif isinstance(node, str):
        yield node


def references(objects: list[Object]) -> list[str]:
    """Every Secret, ConfigMap, claim and account that is named exists or is one that the README asks for."""
    found = []
    secrets = provided() | MADE_BY_OPERATOR
    maps = {one["metadata"]["name"]: one for one in kind(objects, "ConfigMap")}
    claims = {one["metadata"]["name"] for one in kind(objects, "PersistentVolumeClaim")}
    accounts = {one["metadata"]["name"] for one in kind(objects, "ServiceAccount")}
    used: set[str] = set()

    def secret(name: str, keys: set[str]) -> None:
        used.add(name)
        if keys - secrets.get(name, set()):
            found.append(f"nobody provides Secret {name} with {sorted(keys)}")

    for node in walk(objects):
        if "secretKeyRef" in node:
            secret(node["secretKeyRef"]["name"], {node["secretKeyRef"]["key"]})
        for place, field in (("secret", "name"), ("secret", "secretName")):
            inside = node.get(place)
            if isinstance(inside, dict) and field in inside:
                secret(inside[field], {item["key"] for item in inside.get("items", [])})
        if "passwordSecret" in node:
            secret(node["passwordSecret"]["name"], {"username", "password"})
        if "authOptions" in node:
            secret(node["authOptions"]["secretName"], {"auth_token"})
        for place in ("configMapRef", "configMapKeyRef"):
            if place in node and node[place]["name"] not in maps:
                found.append(f"no ConfigMap {node[place]['name']}")
        if "claimName" in node and node["claimName"] not in claims:
            found.append(f"no claim {node['claimName']}")
        if "serviceAccountName" in node and node["serviceAccountName"] not in accounts:
            found.append(f"no account {node['serviceAccountName']}")
    found += [
        f"the README asks for Secret {name}, which nothing uses" for name in provided() if name not in used
    ]
    return found


def no_secret_values(objects: list[Object]) -> list[str]:
    """Secrets are named and never written."""
    found = [f"a Secret stands here: {one['metadata']['name']}" for one in kind(objects, "Secret")]
    for node in walk(objects):
        name, value = str(node.get("name", "")), node.get("value")
        if value and re.search(r"TOKEN|PASSWORD|SECRET|_KEY\b|CREDENTIAL", name):
            found.append(f"{name} has a value")
    for text in texts(objects):
        if re.search(r"password=|://[^/\s@]*:[^/\s@]+@|-----BEGIN|\b[0-9a-f]{32,}\b", text, re.IGNORECASE):
            found.append(f"looks like a secret: {text[:20]}")
    return found


def selectors(objects: list[Object]) -> list[str]:
    """Selectors select what they are there for, and named ports exist."""
    found = []
    for one in kind(objects, "Deployment"):
        if not matches(one["spec"]["selector"], one["spec"]["template"]["metadata"]["labels"]):
            found.append(f"Deployment {one['metadata']['name']} does not select its own pods")
    for one in kind(objects, "Service"):
        name = one["metadata"]["name"]
        mine = [p for p in pods(objects) if matches({"matchLabels": one["spec"]["selector"]}, p.labels)]
        if len(mine) != 1:
            found.append(f"Service {name} selects {len(mine)} workloads")
        for port in one["spec"]["ports"]:
            names = {p["name"] for m in mine for c in m.containers for p in c.get("ports", [])}
            if port["targetPort"] not in names:
                found.append(f"Service {name} has no port {port['targetPort']} behind it")
    for one in kind(objects, "ServiceMonitor"):
        mine = [
            s
            for s in kind(objects, "Service")
            if matches(one["spec"]["selector"], s["metadata"].get("labels", {}))
        ]
        ports = {port["name"] for s in mine for port in s["spec"]["ports"]}
        if len(mine) != 1 or {end["port"] for end in one["spec"]["endpoints"]} - ports:
            found.append(f"ServiceMonitor {one['metadata']['name']} reads no port of one Service")
    for one in kind(objects, "PodDisruptionBudget"):
        if len([p for p in pods(objects) if matches(one["spec"]["selector"], p.labels)]) != 1:
            found.append(f"the budget {one['metadata']['name']} is not that of one workload")
    for one in kind(objects, "HorizontalPodAutoscaler"):
        target = one["spec"]["scaleTargetRef"]
        mine = [d for d in kind(objects, target["kind"]) if d["metadata"]["name"] == target["name"]]
        if not mine:
            found.append(f"nothing to scale: {target['name']}")
        elif "replicas" in mine[0]["spec"]:
            found.append(f"{target['name']} has replicas and an autoscaler, which fight at every apply")
    return found


def images(objects: list[Object]) -> list[str]:
    """One image, of the version of this tree."""
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    used = {container["image"] for p in pods(objects) for container in p.containers}
    found = [f"{image} is not version {version}" for image in used if not image.endswith(f":{version}")]
    return found + ([f"several images: {sorted(used)}"] if len(used) != 1 else [])


def known_commands(objects: list[Object]) -> list[str]:
    """Every command is one of `radfleet`, Ray's, MLflow's server, or the one script that writes the password file."""
    found = []
    for p in pods(objects):
        for container in p.containers:
            words = container.get("command", [])
            match words:
                case ["radfleet", *verbs]:
                    command = commands().get(tuple(verbs))
                    if command is None or getattr(command, "commands", None):
                        found.append(f"{p.name}: no command {' '.join(verbs)}")
                case ["ray", "start", *_] if container["name"] == "ray":
                    pass
                case [] if container["name"] == "ray" and p.name.startswith("ray-"):
                    pass  # KubeRay writes it
                case ["python", "-m", "uvicorn", *_] if p.name == "mlflow":
                    pass
                case ["sh", *_] if container["name"] == "passwords":
                    pass
                case _:
                    found.append(f"{p.name}/{container['name']}: unknown command {words}")
    return found


def hardened(objects: list[Object]) -> list[str]:
    """No root, no token, no writable image, no capability; every container says what it takes."""
    found = []
    for p in pods(objects):
        pod = p.spec.get("securityContext", {})
        if (
            pod.get("runAsNonRoot") is not True
            or pod.get("runAsUser") != USER
            or pod.get("seccompProfile") != {"type": "RuntimeDefault"}
        ):
            found.append(f"{p.name}: its pod may be root")
        if p.spec.get("automountServiceAccountToken") is not False:
            found.append(f"{p.name}: gets a token")
        if p.spec.keys() & {"hostNetwork", "hostPID", "hostIPC"} or any(
            "hostPath" in v for v in p.spec["volumes"]
        ):
            found.append(f"{p.name}: touches its node")
        for container in p.containers:
            where = f"{p.name}/{container['name']}"
            if container.get("securityContext") != LOCKED:
                found.append(f"{where}: not locked")
            asked = container.get("resources", {})
            if not {"cpu", "memory"} <= asked.get("requests", {}).keys() or "memory" not in asked.get(
                "limits", {}
            ):
                found.append(f"{where}: does not say what it takes")
    found += [
        f"account {one['metadata']['name']} gives a token"
        for one in kind(objects, "ServiceAccount")
        if one.get("automountServiceAccountToken") is not False
    ]
    return found


def mounts(objects: list[Object]) -> list[str]:
    """Every mount has its volume, every volume its mount, and each workload the folders that it needs and no other."""
    found = []
    home = named_settings(objects)["RADFLEET_HOME"]
    for p in pods(objects):
        volumes = {volume["name"] for volume in p.spec["volumes"]}
        used = {m["name"] for container in p.containers for m in container.get("volumeMounts", [])}
        found += [f"{p.name}: no volume {name}" for name in used - volumes]
        found += [f"{p.name}: nobody mounts {name}" for name in volumes - used]
        folders = {
            m["mountPath"].removeprefix(f"{home}/"): not m.get("readOnly", False)
            for m in p.main["volumeMounts"]
            if m["mountPath"].startswith(home)
        }
        if folders != FOLDERS.get(p.name, {}):
            found.append(f"{p.name}: has the folders {folders}")
        if "/tmp" not in {m["mountPath"] for m in p.main["volumeMounts"]}:
            found.append(f"{p.name}: no scratch folder")
    return found


def roles(objects: list[Object]) -> list[str]:
    """Each workload gets the passwords of its own roles, and no running service the owner's."""
    found = []
    for p in pods(objects):
        given = {
            item["path"]
            for volume in p.spec["volumes"]
            if volume["name"] == "roles"
            for source in volume["projected"]["sources"]
            for item in source["secret"]["items"]
        }
        if given != ROLES.get(p.name, set()):
            found.append(f"{p.name}: can log in as {sorted(given)}")
        seen = {m["name"] for m in p.main["volumeMounts"]}
        if "roles" in seen or ("owner" in seen) != (p.name == "migrate"):
            found.append(f"{p.name}: sees passwords that are not its own")
    return found


def named_settings(objects: list[Object]) -> dict[str, str]:
    """The content of the one ConfigMap."""
    (found,) = kind(objects, "ConfigMap")
    data: dict[str, str] = found["data"]
    return data


def settings(objects: list[Object]) -> list[str]:
    """Every setting exists, and every address in one is that of an object here."""
    data = named_settings(objects)
    known = {f"RADFLEET_{one.name.upper()}" for one in fields(Settings)} | NOT_SETTINGS
    found = [f"no setting {name}" for name in data.keys() - known]
    services = {one["metadata"]["name"]: one["spec"]["ports"][0]["port"] for one in kind(objects, "Service")}
    (ray,), (database,) = kind(objects, "RayService"), kind(objects, "Cluster")
    if data.get("RADFLEET_RAY_ADDRESS") != f"{ray['metadata']['name']}-head-svc:6379":
        found.append("RADFLEET_RAY_ADDRESS is not the head that KubeRay makes")
    if data.get("RADFLEET_MLFLOW_URL") != f"http://mlflow:{services.get('mlflow')}":
        found.append("RADFLEET_MLFLOW_URL is not MLflow's Service")
    if data.get("RADFLEET_DOOR_URL") != f"http://door-http:{services.get('door-http')}":
        found.append("RADFLEET_DOOR_URL is not the door's Service")
    address = f"host={database['metadata']['name']}-rw port=5432 "
    if not data.get("RADFLEET_DATABASE_URL", "").startswith(address):
        found.append("RADFLEET_DATABASE_URL is not the Service that CloudNativePG makes")
    if "sslmode=verify-full" not in data.get("RADFLEET_DATABASE_URL", ""):
        found.append("the database's certificate is not checked")
    for p in pods(objects):
        for container in p.containers:
            reads = any("configMapRef" in source for source in container.get("envFrom", []))
            where = {m["mountPath"] for m in container.get("volumeMounts", [])}
            if reads and container["name"] != "ray" and "/etc/radfleet/database" not in where:
                found.append(f"{p.name}/{container['name']}: cannot check the database's certificate")
    return found
