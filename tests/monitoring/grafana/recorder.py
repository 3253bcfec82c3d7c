"""A stand-in for Grafana on loopback: it keeps folders, dashboards and annotations, and records every request.

It is no Grafana: what a real server would answer beyond its OpenAPI is not proven by it.
"""

import gzip
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import jsonschema

Json = dict[str, Any]


@dataclass
class Grafana:
    """Its state, and (method, path, query, body) of every request."""

    url: str = ""
    folders: dict[str, Json] = field(default_factory=dict)
    dashboards: dict[str, Json] = field(default_factory=dict)
    annotations: list[Json] = field(default_factory=list)
    requests: list[tuple[str, str, list[tuple[str, str]], Any]] = field(default_factory=list)
    tokens: set[str] = field(default_factory=set)
    fails: int = 0

    def answer(self, method: str, path: str, query: list[tuple[str, str]], body: Any) -> tuple[int, Any]:
        """Status and document."""
        if self.fails:
            return self.fails, {"message": "no: " + json.dumps(body)}
        match method, path.removeprefix("/api").strip("/").split("/"):
            case "GET", ["folders", uid]:
                return (200, self.folders[uid]) if uid in self.folders else (404, {"message": "no folder"})
            case "POST", ["folders"]:
                self.folders[body["uid"]] = body
                return 200, body
            case "GET", ["dashboards", "uid", uid]:
                return (200, self.dashboards[uid]) if uid in self.dashboards else (404, {"message": "none"})
            case "POST", ["dashboards", "db"]:
                uid = body["dashboard"]["uid"]
                number = self.dashboards.get(uid, {"dashboard": {"version": 0}})["dashboard"]["version"] + 1
                self.dashboards[uid] = {
                    "dashboard": {**body["dashboard"], "id": 7, "version": number},
                    "meta": {"folderUid": body["folderUid"]},
                }
                return 200, {"uid": uid, "version": number, "status": "success"}
            case "GET", ["annotations"]:
                wanted = {value for name, value in query if name == "tags"}
                return 200, [one for one in self.annotations if wanted <= set(one["tags"])]
            case "POST", ["annotations"]:
                self.annotations.insert(0, body)
                return 200, {"id": len(self.annotations), "message": "Annotation added"}
        return 404, {"message": "not here"}


@contextmanager
def grafana() -> Iterator[Grafana]:
    """One on a free port."""
    its = Grafana()

    class Handler(BaseHTTPRequestHandler):
        def _do(self) -> None:
            where = urlsplit(self.path)
            length = int(self.headers.get("Content-Length") or 0)
            raw = self.rfile.read(length)
            body = json.loads(raw) if raw and raw != b"null" else None
            query = parse_qsl(where.query, keep_blank_values=True)
            its.requests.append((self.command, where.path, query, body))
            its.tokens.add(self.headers.get("Authorization", ""))
            status, document = its.answer(self.command, where.path, query, body)
            data = json.dumps(document).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_POST = do_PUT = do_DELETE = do_PATCH = _do

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    its.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield its
    finally:
        server.shutdown()
        server.server_close()


@dataclass(frozen=True)
class OpenApi:
    """Grafana's own description (Swagger 2)."""

    document: Json

    @classmethod
    def read(cls, path: Path) -> "OpenApi":
        return cls(json.loads(gzip.decompress(path.read_bytes())))

    def faults(self, method: str, path: str, query: list[tuple[str, str]], body: Any) -> list[str]:
        """What the description refuses of one request; names that it does not know too."""
        where = f"{method} {path}"
        if not path.startswith(self.document["basePath"]):
            return [f"{where}: not below {self.document['basePath']}"]
        bare = path.removeprefix(self.document["basePath"])
        found = [
            operations[method.lower()]
            for template, operations in self.document["paths"].items()
            if re.fullmatch(re.sub(r"\{[^}]+\}", "[^/]+", template), bare) and method.lower() in operations
        ]
        if not found:
            return [f"{where}: no such operation"]
        parameters = found[0].get("parameters", [])
        known = {one["name"]: one for one in parameters if one["in"] == "query"}
        faults = [f"{where}: no parameter {name}" for name, _ in query if name not in known]
        for name, value in query:
            its = known.get(name, {})
            if (its.get("type") == "integer" and not value.isdecimal()) or value not in its.get(
                "enum", [value]
            ):
                faults.append(f"{where}: {name}={value}")
        schemas = [one["schema"] for one in parameters if one["in"] == "body"]
        if bool(schemas) != (body is not None):
            return [*faults, f"{where}: body {'missing' if schemas else 'not expected'}"]
        for schema in schemas:
            whole = {**self._strict(schema), "definitions": self._strict(self.document["definitions"])}
            faults += [
                f"{where}: {error.json_path}: {error.message}"
                for error in jsonschema.Draft4Validator(whole).iter_errors(body)
            ]
        return faults

    def _strict(self, node: Any) -> Any:
        """Objects with named properties refuse other names: Grafana would drop them without a word."""
        if isinstance(node, list):
            return [self._strict(one) for one in node]
        if not isinstance(node, dict):
            return node
        made = {key: self._strict(value) for key, value in node.items()}
        if isinstance(node.get("properties"), dict) and node.get("type") == "object":
            made.setdefault("additionalProperties", False)
        return made
