"""Planted faults: what is broken, by which check it must be found, and how it is broken in the objects of prod."""

from collections.abc import Callable
from typing import Any

from tests.k8s import checks, paths, schemas
from tests.k8s.render import Object, kind, named, pod

Check = Callable[[list[Object]], list[str]]


def _env(objects: list[Object], workload: str, name: str) -> Any:
    (found,) = [one for one in pod(objects, workload).main["env"] if one["name"] == name]
    return found


def _policy(objects: list[Object], name: str) -> Any:
    return named(objects, "NetworkPolicy", name)["spec"]


def _mount(objects: list[Object], workload: str, path: str) -> Any:
    (found,) = [m for m in pod(objects, workload).main["volumeMounts"] if m["mountPath"] == path]
    return found


def _ray(objects: list[Object]) -> Any:
    return named(objects, "RayService", "radfleet")["spec"]["rayClusterConfig"]


def _deployment(objects: list[Object], name: str) -> Any:
    return named(objects, "Deployment", name)["spec"]


def _secret(name: str) -> Object:
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": {"a": "b"}}


MUTANTS: tuple[tuple[str, Check, Callable[[list[Object]], Any]], ...] = (
    ("a misspelt field", schemas.faults, lambda o: _deployment(o, "work").update(replica=1)),
    ("a text for a number", schemas.faults, lambda o: _deployment(o, "work").update(replicas="two")),
    ("a misspelt field deep in a pod", schemas.faults, lambda o: pod(o, "work").main.update(readyProbe={})),
    ("a misspelt field of KubeRay", schemas.faults, lambda o: _ray(o).update(rayVersions="2")),
    ("a misspelt field in a Ray pod", schemas.faults, lambda o: pod(o, "ray-head").spec.update(hostNetworks=True)),
    ("a misspelt field of CloudNativePG", schemas.faults, lambda o: named(o, "Cluster", "radfleet-db")["spec"]["bootstrap"]["initdb"].update(postInitSql=[])),
    ("a text for CloudNativePG's number", schemas.faults, lambda o: named(o, "Cluster", "radfleet-db")["spec"].update(instances="3")),
    ("a kind without a schema", schemas.faults, lambda o: o.append({"apiVersion": "keda.sh/v1alpha1", "kind": "ScaledObject", "metadata": {"name": "x"}})),
    ("an unknown Secret", checks.references, lambda o: _env(o, "work", "RAY_AUTH_TOKEN")["valueFrom"]["secretKeyRef"].update(name="other")),
    ("an unknown key of a Secret", checks.references, lambda o: _env(o, "work", "RAY_AUTH_TOKEN")["valueFrom"]["secretKeyRef"].update(key="other")),
    ("a ConfigMap that is gone", checks.references, lambda o: o.remove(kind(o, "ConfigMap")[0])),
    ("a claim that is gone", checks.references, lambda o: o.remove(named(o, "PersistentVolumeClaim", "radfleet-work"))),
    ("an account that is gone", checks.references, lambda o: o.remove(named(o, "ServiceAccount", "radfleet"))),
    ("a Secret that nobody uses", checks.references, lambda o: [v.pop(key, None) for key in ("secret", "projected") for p in ("door-dicom", "door-http") for v in pod(o, p).spec["volumes"] if v["name"] == "patient-key"]),
    ("a Secret with its value", checks.no_secret_values, lambda o: o.append(_secret("radfleet-ray"))),
    ("a token in the open", checks.no_secret_values, lambda o: _env(o, "work", "RAY_AUTH_TOKEN").update(value="abc")),
    ("a password in an address", checks.no_secret_values, lambda o: _env(o, "mlflow", "_MLFLOW_SERVER_FILE_STORE").update(value="postgresql+psycopg://mlflow:word@db/mlflow")),
    ("a password in a setting", checks.no_secret_values, lambda o: checks.named_settings(o).update(RADFLEET_DATABASE_URL="host=db password=word")),
    ("a Deployment that does not select its pods", checks.selectors, lambda o: _deployment(o, "work")["selector"]["matchLabels"].update({"app.kubernetes.io/component": "worker"})),
    ("a Service that selects nobody", checks.selectors, lambda o: named(o, "Service", "door-dicom")["spec"]["selector"].update(a="b")),
    ("a Service with a port that is not there", checks.selectors, lambda o: named(o, "Service", "door-dicom")["spec"]["ports"][0].update(targetPort="http")),
    ("a budget for nobody", checks.selectors, lambda o: named(o, "PodDisruptionBudget", "work")["spec"]["selector"]["matchLabels"].update(a="b")),
    ("an autoscaler of nothing", checks.selectors, lambda o: named(o, "HorizontalPodAutoscaler", "door-http")["spec"]["scaleTargetRef"].update(name="door")),
    ("an autoscaler against a fixed number", checks.selectors, lambda o: _deployment(o, "door-http").update(replicas=2)),
    ("latest", checks.images, lambda o: pod(o, "work").main.update(image="registry.example.com/radfleet:latest")),
    ("an image without a tag", checks.images, lambda o: pod(o, "ray-worker").main.update(image="registry.example.com/radfleet")),
    ("another image in an init container", checks.images, lambda o: pod(o, "work").containers[0].update(image="busybox:0.1.0")),
    ("a command that does not exist", checks.known_commands, lambda o: pod(o, "work").main.update(command=["radfleet", "worker"])),
    ("a group in the place of a command", checks.known_commands, lambda o: pod(o, "door-http").main.update(command=["radfleet", "door"])),
    ("a script", checks.known_commands, lambda o: pod(o, "work").main.update(command=["sh", "-c", "radfleet work"])),
    ("root", checks.hardened, lambda o: pod(o, "work").spec["securityContext"].update(runAsUser=0)),
    ("root in a Ray pod", checks.hardened, lambda o: pod(o, "ray-worker").spec["securityContext"].pop("runAsNonRoot")),
    ("a writable image", checks.hardened, lambda o: pod(o, "ray-head").main["securityContext"].update(readOnlyRootFilesystem=False)),
    ("a kept capability", checks.hardened, lambda o: pod(o, "deliver").main["securityContext"]["capabilities"].update(add=["NET_RAW"])),
    ("a token of the API", checks.hardened, lambda o: pod(o, "sweep").spec.pop("automountServiceAccountToken")),
    ("no resources", checks.hardened, lambda o: pod(o, "sweep").main.pop("resources")),
    ("no limit of memory", checks.hardened, lambda o: pod(o, "work").main["resources"].pop("limits")),
    ("a folder of the node", checks.hardened, lambda o: pod(o, "work").spec["volumes"].append({"name": "x", "hostPath": {"path": "/"}})),
    ("a mount without its volume", checks.mounts, lambda o: _mount(o, "work", "/tmp").update(name="temp")),
    ("a replica that sees the store", checks.mounts, lambda o: _mount(o, "ray-worker", "/var/lib/radfleet/work").update(mountPath="/var/lib/radfleet/store")),
    ("a door that makes its own patient key", checks.mounts, lambda o: pod(o, "door-http").main["volumeMounts"].remove(_mount(o, "door-http", "/var/lib/radfleet/secrets"))),
    ("no scratch folder", checks.mounts, lambda o: _mount(o, "work", "/tmp").update(mountPath="/scratch")),
    ("a worker that sees the owner's password", checks.roles, lambda o: pod(o, "work").main["volumeMounts"].append({"name": "owner", "mountPath": "/run/owner"})),
    ("MLflow with the service's roles", checks.roles, lambda o: next(v for v in pod(o, "mlflow").spec["volumes"] if v["name"] == "roles")["projected"]["sources"][0]["secret"]["items"][0].update(path="radfleet_app")),
    ("a setting that does not exist", checks.settings, lambda o: checks.named_settings(o).update(RADFLEET_DATABASE="x")),
    ("Ray's address of another Service", checks.settings, lambda o: checks.named_settings(o).update(RADFLEET_RAY_ADDRESS="ray:6379")),
    ("MLflow's address with another port", checks.settings, lambda o: checks.named_settings(o).update(RADFLEET_MLFLOW_URL="http://mlflow:5000")),
    ("a database whose certificate nobody checks", checks.settings, lambda o: checks.named_settings(o).update(RADFLEET_DATABASE_URL="host=radfleet-db-rw port=5432 user={role}")),
    ("a ServiceMonitor of nothing", checks.selectors, lambda o: named(o, "ServiceMonitor", "radfleet")["spec"]["selector"]["matchLabels"].update(a="b")),
    ("a ServiceMonitor of a port that is not there", checks.selectors, lambda o: named(o, "ServiceMonitor", "radfleet")["spec"]["endpoints"][0].update(port="http")),
    ("a misspelt field of a rule", schemas.faults, lambda o: named(o, "PrometheusRule", "radfleet")["spec"]["groups"][0]["rules"][0].update(expression="1")),
    ("metrics open to all", paths.network, lambda o: _policy(o, "metrics")["ingress"][0].pop("from")),
    ("a door's address of another port", checks.settings, lambda o: checks.named_settings(o).update(RADFLEET_DOOR_URL="http://door-http:80")),
    ("no default deny", paths.network, lambda o: (o.remove(named(o, "NetworkPolicy", "default-deny")), o.remove(named(o, "NetworkPolicy", "door-http")))),
    ("MLflow open to all", paths.network, lambda o: _policy(o, "mlflow")["ingress"][0].pop("from")),
    ("a path with one half only", paths.network, lambda o: o.remove(named(o, "NetworkPolicy", "mlflow-clients"))),
    ("a port on which nobody listens", paths.network, lambda o: _policy(o, "door-http")["ingress"][0]["ports"][0].update(port=8080)),
    ("a container port that moved", paths.network, lambda o: pod(o, "door-dicom").main["ports"][0].update(containerPort=104)),
    ("a door that may speak to Ray", paths.network, lambda o: [rule["podSelector"]["matchExpressions"][0]["values"].append("door-http") for rule in (_policy(o, "ray-nodes"), _policy(o, "ray-nodes")["ingress"][0]["from"][0])]),
    ("a monitor that reaches everything", paths.network, lambda o: _policy(o, "notices")["egress"][0].pop("ports")),
    ("a policy that selects nobody", paths.network, lambda o: _policy(o, "archives")["podSelector"]["matchLabels"].update(a="b")),
    ("no readiness", paths.probes, lambda o: [pod(o, "deliver").main.pop(key) for key in ("startupProbe", "readinessProbe")]),
    ("a door that nobody watches", paths.probes, lambda o: pod(o, "door-dicom").main.pop("livenessProbe")),
    ("a probe of an address that is not there", paths.probes, lambda o: pod(o, "door-http").main["readinessProbe"]["httpGet"].update(path="/ready")),
    ("a probe of MLflow that is not ours", paths.probes, lambda o: pod(o, "mlflow").main["livenessProbe"]["httpGet"].update(path="/healthy")),
    ("a probe of Serve's proxy", paths.probes, lambda o: pod(o, "ray-worker").main["readinessProbe"]["httpGet"].update(path="/-/healthz")),
    ("a probe of a port that is not there", paths.probes, lambda o: pod(o, "ray-worker").main["readinessProbe"]["httpGet"].update(port="serve")),
    ("a probe of another file", paths.probes, lambda o: _env(o, "work", "RADFLEET_READY_FILE").update(value="/run/radfleet/started")),
    ("Ray without a token", paths.ray_token, lambda o: _ray(o).pop("authOptions")),
    ("a driver without a token", paths.ray_token, lambda o: pod(o, "engine").main["env"].remove(_env(o, "engine", "RAY_AUTH_TOKEN"))),
    ("a token of another Secret", paths.ray_token, lambda o: _ray(o)["authOptions"].update(secretName="radfleet-db-app")),
    ("a driver without a node", paths.ray_token, lambda o: pod(o, "work").spec["initContainers"].pop()),
    ("a driver that cannot see its node", paths.ray_token, lambda o: pod(o, "work").spec.update(shareProcessNamespace=False)),
)  # fmt: skip
