"""A server of ours that speaks as much of Kubeflow's Model Registry as its client asks for.

What comes in is parsed by the client's own OpenAPI models, and so is what goes out; names are
unique below their parent, and an update replaces all custom properties, as with the real one.
"""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import mr_openapi

_BASE = "/api/model_registry/v1/"
_ARTIFACTS = {"model-artifact": mr_openapi.ModelArtifact, "doc-artifact": mr_openapi.DocArtifact}


class Refusal(Exception):
    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


class ModelRegistryServer(ThreadingHTTPServer):
    """Holds registered models, versions and artifacts.

    Attributes:
        down: Whether all requests fail.
        fail_after: How many writes still succeed; None for all.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.lock = threading.RLock()
        self.kinds: dict[str, dict[str, dict[str, Any]]] = {
            "registered_models": {},
            "model_versions": {},
            "artifacts": {},
        }
        self.down, self.fail_after, self._last = False, None, 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def add(self, kind: str, document: dict[str, Any], parent: str = "") -> dict[str, Any]:
        with self.lock:
            held = self.kinds[kind]
            if self.find(kind, document["name"], parent):
                raise Refusal(409, f"there is a {document['name']} already")
            self._last += 1
            name = str(self._last)
            held[name] = {**document, "id": name, "parent": parent}
            held[name] |= {"createTimeSinceEpoch": name, "lastUpdateTimeSinceEpoch": name}
            return held[name]

    def find(self, kind: str, name: str, parent: str = "") -> dict[str, Any] | None:
        for item in self.kinds[kind].values():
            if (item["name"], item["parent"]) == (name, parent):
                return item
        return None


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: ModelRegistryServer

    def log_message(self, *_: Any) -> None:
        pass

    def do_GET(self) -> None:
        self._answer(self._get)

    def do_POST(self) -> None:
        self._answer(self._post)

    def do_PATCH(self) -> None:
        self._answer(self._patch)

    def _answer(self, do: Any) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        parts = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        words = parts.path.removeprefix(_BASE).strip("/").split("/")
        try:
            if self.server.down:
                raise Refusal(500, "the database is away")
            if self.command != "GET":
                self._count_write()
            with self.server.lock:
                document, code = do(words, query, json.loads(body) if body else None)
        except Refusal as refusal:
            document, code = {"code": str(refusal.code), "message": str(refusal)}, refusal.code
        data = json.dumps(document).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _count_write(self) -> None:
        if self.server.fail_after is not None:
            if not self.server.fail_after:
                raise Refusal(500, "the database is read-only")
            self.server.fail_after -= 1

    def _get(self, words: list[str], query: dict[str, str], _: Any) -> Any:
        kinds = self.server.kinds
        match words:
            case ["registered_model"]:
                return _shown(self.server.find("registered_models", query["name"])), 200
            case ["model_version"]:
                found = self.server.find("model_versions", query["name"], query["parentResourceId"])
                return _shown(found), 200
            case ["model_artifact"]:
                found = self.server.find("artifacts", query["name"], query["parentResourceId"])
                return _shown(found), 200
            case ["registered_models"]:
                return _page(list(kinds["registered_models"].values()), query), 200
            case ["registered_models", parent, "versions"]:
                return _page(_below(kinds["model_versions"], parent), query), 200
            case ["model_versions", parent, "artifacts"]:
                return _page(_below(kinds["artifacts"], parent), query), 200
        raise Refusal(404, f"no {'/'.join(words)}")

    def _post(self, words: list[str], _: dict[str, str], body: dict[str, Any]) -> Any:
        match words:
            case ["registered_models"]:
                _check(mr_openapi.RegisteredModelCreate, body)
                return _shown(self.server.add("registered_models", body)), 201
            case ["model_versions"]:
                _check(mr_openapi.ModelVersionCreate, body)
                return _shown(
                    self.server.add("model_versions", body, body["registeredModelId"])
                ), 201
            case ["model_versions", parent, "artifacts"]:
                _check(_ARTIFACTS[body["artifactType"]], body)
                return _shown(self.server.add("artifacts", body, parent)), 201
        raise Refusal(404, f"no {'/'.join(words)}")

    def _patch(self, words: list[str], _: dict[str, str], body: dict[str, Any]) -> Any:
        match words:
            case ["registered_models", name]:
                _check(mr_openapi.RegisteredModelUpdate, body)
                item = self.server.kinds["registered_models"][name]
                item.update(body)
                return _shown(item), 200
        raise Refusal(404, f"no {'/'.join(words)}")


def _check(model: Any, body: dict[str, Any]) -> None:
    """Refuse a body that the client's own model does not know in whole."""
    unknown = set(body) - {field.alias or name for name, field in model.model_fields.items()}
    if unknown:
        raise Refusal(400, f"unknown fields {unknown}")
    try:
        model.from_dict(body)
    except ValueError as error:
        raise Refusal(400, str(error)) from error


def _shown(item: dict[str, Any] | None) -> dict[str, Any]:
    if item is None:
        raise Refusal(404, "not found")
    return {name: value for name, value in item.items() if name != "parent"}


def _below(items: dict[str, dict[str, Any]], parent: str) -> list[dict[str, Any]]:
    return [item for item in items.values() if item["parent"] == parent]


def _page(items: list[dict[str, Any]], query: dict[str, str]) -> dict[str, Any]:
    """Give a page; never more than three items, so that clients have to turn pages."""
    start, size = int(query.get("nextPageToken") or 0), min(3, int(query.get("pageSize") or 3))
    end = start + size
    return {
        "items": [_shown(item) for item in items[start:end]],
        "size": len(items[start:end]),
        "pageSize": size,
        "nextPageToken": str(end) if end < len(items) else "",
    }


@contextmanager
def running_model_registry() -> Iterator[ModelRegistryServer]:
    with ModelRegistryServer() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()
