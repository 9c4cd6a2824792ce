"""A server of ours that speaks as much of Kubeflow Pipelines' v2beta1 API as our client asks for.

What comes in is parsed by the API client's own models, and so is what goes out. As with the real
one: runs and schedules may share a name, pipelines and their versions may not; int64 comes as text
and whole numbers in parameters as floats; the enabled ones of the schedules fire.
"""

import json
import ssl
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from email.parser import BytesParser
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import kfp_server_api as api
import yaml

_BASE = "/apis/v2beta1/"
_API = api.ApiClient()
_PAGE = 3
_MODELS = {
    "pipelines": "V2beta1Pipeline",
    "pipeline_versions": "V2beta1PipelineVersion",
    "experiments": "V2beta1Experiment",
    "runs": "V2beta1Run",
    "recurring_runs": "V2beta1RecurringRun",
}


class Refusal(Exception):
    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


class KfpServer(ThreadingHTTPServer):
    """Holds pipelines, versions, experiments, runs and recurring runs.

    Attributes:
        token: What requests have to bear; empty if they need none.
        refusals: Status codes that the next requests get, one each.
        fail_after: How many writes still succeed; None for all.
        asked: All requests, such as `POST runs`.
        writes: Those of them that wrote something.
        firing: After each write, how many schedules fire, and how many there are.
        page: Whether it answers with a login page.
        multi_user: Whether it says that it has several users.
    """

    daemon_threads = True

    def __init__(self, certificate: Path | None = None) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self._certificate = certificate
        if certificate:
            tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
            tls.load_cert_chain(certificate)
            self.socket = tls.wrap_socket(self.socket, server_side=True)
        self.lock = threading.RLock()
        self.kinds: dict[str, dict[str, dict[str, Any]]] = {kind: {} for kind in _MODELS}
        self.token, self.refusals, self.page = "", list[int](), False
        self.multi_user = False
        self.fail_after: int | None = None
        self.asked, self.writes = list[str](), list[str]()
        self.firing = list[tuple[int, int]]()
        self._last = 0

    @property
    def url(self) -> str:
        scheme, host = ("https", "localhost") if self._certificate else ("http", "127.0.0.1")
        return f"{scheme}://{host}:{self.server_port}"

    def handle_error(self, *_: Any) -> None:
        """Say nothing of clients that do not trust our certificate."""
        if not isinstance(sys.exception(), ssl.SSLError | ConnectionError):
            super().handle_error(*_)

    def add(self, kind: str, key: str, document: dict[str, Any]) -> dict[str, Any]:
        self._last += 1
        made = datetime(2026, 11, 30, tzinfo=UTC) + timedelta(seconds=self._last)
        item = {**document, key: f"id-{self._last}", "created_at": made.isoformat()}
        self.kinds[kind][item[key]] = item
        return _checked(_MODELS[kind], item)

    def named(self, kind: str) -> list[str]:
        return [item["display_name"] for item in self.kinds[kind].values()]

    def end(self, run_id: str, state: str, **more: Any) -> None:
        self.kinds["runs"][run_id] |= {"state": state, **more}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: KfpServer

    def log_message(self, *_: Any) -> None:
        pass

    def do_GET(self) -> None:
        self._answer(self._get)

    def do_POST(self) -> None:
        self._answer(self._post)

    def do_DELETE(self) -> None:
        self._answer(self._delete)

    def _answer(self, do: Any) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        parts = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        words = parts.path.removeprefix(_BASE).split("/")
        try:
            with self.server.lock:
                self._check_access(words)
                document, code = do(words, query, body), 200
                self._note(words)
        except Refusal as refusal:
            document, code = {"code": refusal.code, "message": str(refusal)}, refusal.code
        self._send(code, document)

    def _send(self, code: int, document: dict[str, Any]) -> None:
        data = b"<html>Log in</html>" if self.server.page else json.dumps(document).encode()
        self.send_response(code)
        self.send_header("Content-Type", "text/html" if self.server.page else "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _check_access(self, words: list[str]) -> None:
        server = self.server
        server.asked.append(f"{self.command} {words[-1]}")
        if server.refusals:
            raise Refusal(server.refusals.pop(0), "not now")
        if server.token and self.headers.get("authorization") != f"Bearer {server.token}":
            raise Refusal(401, "Request header error: there is no user identity header")
        if self.command != "GET" and server.fail_after is not None:
            if not server.fail_after:
                raise Refusal(500, "the database is read-only")
            server.fail_after -= 1

    def _note(self, words: list[str]) -> None:
        if self.command != "GET":
            modes = [item["mode"] for item in self.server.kinds["recurring_runs"].values()]
            self.server.writes.append(f"{self.command} {words[-1]}")
            self.server.firing.append((modes.count("ENABLE"), len(modes)))

    def _get(self, words: list[str], query: dict[str, str], _: bytes) -> dict[str, Any]:
        kinds = self.server.kinds
        match words:
            case ["healthz"]:
                said = {"multi_user": self.server.multi_user, "pipeline_store": "database"}
                return _checked("V2beta1GetHealthzResponse", said)
            case ["pipelines" | "experiments" as kind]:
                inside = [
                    item
                    for item in kinds[kind].values()
                    if item.get("namespace", "") == query.get("namespace", "")
                ]
                return _page(kind, inside, query)
            case ["pipelines", pipeline, "versions"]:
                versions = kinds["pipeline_versions"].values()
                of_it = [item for item in versions if item["pipeline_id"] == pipeline]
                return _page("pipeline_versions", of_it, query)
            case ["runs"]:
                wanted = query["experiment_id"]
                runs = [r for r in kinds["runs"].values() if r["experiment_id"] == wanted]
                return _page("runs", runs, query)
            case ["runs", run]:
                return _checked("V2beta1Run", self._item("runs", run))
            case ["recurringruns"]:
                return _page("recurring_runs", list(kinds["recurring_runs"].values()), query)
        raise Refusal(404, "Not Found")

    def _post(self, words: list[str], query: dict[str, str], body: bytes) -> dict[str, Any]:
        server = self.server
        match words:
            case ["pipelines"]:
                document = _checked("V2beta1Pipeline", json.loads(body))
                self._take_name("pipelines", document["display_name"])
                return server.add("pipelines", "pipeline_id", document)
            case ["pipelines", "upload_version"]:
                return self._upload(query, body)
            case ["experiments"]:
                document = _checked("V2beta1Experiment", json.loads(body))
                return server.add("experiments", "experiment_id", document)
            case ["runs"]:
                document = _checked("V2beta1Run", json.loads(body))
                self._look_up(document)
                return server.add("runs", "run_id", document | {"state": "PENDING"})
            case ["recurringruns"]:
                document = _checked("V2beta1RecurringRun", json.loads(body))
                self._look_up(document)
                return server.add("recurring_runs", "recurring_run_id", document)
            case ["recurringruns", verb]:
                schedule, _, mode = verb.partition(":")
                self._item("recurring_runs", schedule)["mode"] = mode.upper()
                return {}
        raise Refusal(404, "Not Found")

    def _delete(self, words: list[str], query: dict[str, str], _: bytes) -> dict[str, Any]:
        match words:
            case ["recurringruns", schedule]:
                if query.get("propagation_policy") != "ORPHAN":
                    raise Refusal(400, "that would end its runs")
                self._item("recurring_runs", schedule)
                del self.server.kinds["recurring_runs"][schedule]
                return {}
        raise Refusal(404, "Not Found")

    def _upload(self, query: dict[str, str], body: bytes) -> dict[str, Any]:
        head = f"Content-Type: {self.headers['Content-Type']}\r\n\r\n".encode()
        (part,) = BytesParser().parsebytes(head + body).get_payload()
        assert part.get_param("name", header="content-disposition") == "uploadfile"
        pipeline, *platform = yaml.safe_load_all(part.get_payload(decode=True))
        both = {"pipeline_spec": pipeline, "platform_spec": platform[0]} if platform else pipeline
        self._item("pipelines", query["pipelineid"])
        self._take_name("pipeline_versions", query["name"], pipeline_id=query["pipelineid"])
        version = {
            "pipeline_id": query["pipelineid"],
            "name": query["name"],
            "display_name": query["name"],
            "pipeline_spec": both,
        }
        return self.server.add("pipeline_versions", "pipeline_version_id", version)

    def _take_name(self, kind: str, name: str, **where: str) -> None:
        for item in self.server.kinds[kind].values():
            if item["display_name"] == name and where.items() <= item.items():
                raise Refusal(409, f"there is a {name} already")

    def _look_up(self, document: dict[str, Any]) -> None:
        """Refuse what names no version or experiment that there is, and make numbers floats."""
        named = document["pipeline_version_reference"]
        version = self._item("pipeline_versions", named["pipeline_version_id"])
        assert version["pipeline_id"] == named["pipeline_id"]
        self._item("experiments", document["experiment_id"])
        parameters = document["runtime_config"].get("parameters", {})
        for name, value in parameters.items():
            if type(value) is int:
                parameters[name] = float(value)

    def _item(self, kind: str, name: str) -> dict[str, Any]:
        try:
            return self.server.kinds[kind][name]
        except KeyError:
            raise Refusal(404, f"{kind} {name} not found") from None


class _Text:
    def __init__(self, document: dict[str, Any]) -> None:
        self.data = json.dumps(document)


def _checked(model: str, document: dict[str, Any]) -> dict[str, Any]:
    """Refuse a document that the API client's own model does not know in whole."""
    try:
        read = _API.sanitize_for_serialization(_API.deserialize(_Text(document), model))
    except ValueError as error:
        raise Refusal(400, str(error)) from error
    lost = [name for name, value in document.items() if read.get(name) != value]
    if lost and any(not name.endswith("_at") for name in lost):
        raise Refusal(400, f"{model} does not hold {lost}: {document}")
    return document


def _page(kind: str, items: list[dict[str, Any]], query: dict[str, str]) -> dict[str, Any]:
    """Give a page; never more than three items, so that clients have to turn pages."""
    for predicate in json.loads(query.get("filter", '{"predicates": []}'))["predicates"]:
        assert predicate["operation"] == 1, "EQUALS"
        items = [item for item in items if item[predicate["key"]] == predicate["stringValue"]]
    field, _, order = query.get("sort_by", "created_at asc").partition(" ")
    items = sorted(items, key=lambda item: item[field], reverse=order == "desc")
    start = int(query.get("page_token") or 0)
    end = start + min(_PAGE, int(query["page_size"]))
    # KFP's definition has this one name in another style.
    field = "recurringRuns" if kind == "recurring_runs" else kind
    answer = {field: items[start:end], "total_size": len(items)}
    if end < len(items):
        answer["next_page_token"] = str(end)
    listed = _MODELS[kind].removeprefix("V2beta1")
    return _checked(f"V2beta1List{listed}sResponse", answer)


@contextmanager
def running_kfp(certificate: Path | None = None) -> Iterator[KfpServer]:
    with KfpServer(certificate) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        yield server
        server.shutdown()
