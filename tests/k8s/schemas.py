"""Strict validation: built-in kinds by Kubernetes' own schemas, custom ones by the schemas of their operators.

Strict: a field that the schema does not know is refused. Kubernetes itself would drop it without a word.
"""

import gzip
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import yaml

from tests.k8s.render import Object

DATA = Path(__file__).parent.parent / "data" / "k8s"
# Native sidecars (an init container with restartPolicy Always) are stable since 1.33.
KUBERNETES = "1.33"
CUSTOM = {
    ("ray.io/v1", "RayService"): "ray.io_rayservices.crd.json.gz",
    ("monitoring.coreos.com/v1", "ServiceMonitor"): "monitoring.coreos.com_servicemonitors.yaml.gz",
    ("monitoring.coreos.com/v1", "PrometheusRule"): "monitoring.coreos.com_prometheusrules.yaml.gz",
    ("postgresql.cnpg.io/v1", "Cluster"): "postgresql.cnpg.io_clusters.yaml.gz",
}


def strict(schema: Any) -> Any:
    """An OpenAPI v3 structural schema as JSON Schema that refuses what it does not name."""
    if isinstance(schema, list):
        return [strict(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    made = {key: strict(value) for key, value in schema.items() if not key.startswith("x-kubernetes-")}
    if "properties" in schema and isinstance(schema["properties"], dict):
        made["properties"] = {name: strict(below) for name, below in schema["properties"].items()}
        if "additionalProperties" not in schema and not schema.get("x-kubernetes-preserve-unknown-fields"):
            made["additionalProperties"] = False
    if schema.get("x-kubernetes-int-or-string"):
        made.pop("type", None)
        made.setdefault("anyOf", [{"type": "integer"}, {"type": "string"}])
    if schema.get("nullable") and "type" in made:
        made["type"] = [made["type"], "null"]
    return made


@cache
def custom_schema(api: str, kind: str) -> Any:
    """The strict schema of a custom resource. Raises KeyError for one that we have no schema of."""
    definition = yaml.safe_load(gzip.decompress((DATA / CUSTOM[api, kind]).read_bytes()))
    number = api.partition("/")[2]
    (version,) = [one for one in definition["spec"]["versions"] if one["name"] == number]
    made = strict(version["schema"]["openAPIV3Schema"])
    # The structural schema leaves the metadata open; its fields are those of every object.
    made["properties"]["metadata"] = {
        "type": "object",
        "properties": {
            "name": {"type": "string"},
            "namespace": {"type": "string"},
            "labels": {"type": "object"},
        },
        "required": ["name", "namespace"],
        "additionalProperties": False,
    }
    return made


def faults(objects: list[Object]) -> list[str]:
    """What the schemas refuse."""
    found = []
    for one in objects:
        where = f"{one['kind']}/{one['metadata']['name']}"
        try:
            if (one["apiVersion"], one["kind"]) in CUSTOM:
                schema = custom_schema(one["apiVersion"], one["kind"])
                for error in jsonschema.Draft202012Validator(schema).iter_errors(one):
                    found.append(f"{where}: {error.json_path}: {error.message}")
            else:
                kubernetes_validate.validate(one, KUBERNETES, strict=True)
        except kubernetes_validate.SchemaNotFoundError as error:
            found.append(f"{where}: no schema: {error.message}")
        except kubernetes_validate.ValidationError as error:
            found.append(f"{where}: {error.json_path}: {error.message}")
    return found
