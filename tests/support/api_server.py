"""A Kubernetes API server of ours for InferenceServices, with a KServe that follows at once.

It speaks as much of the API as a rollout uses: get, create, replace and watch, with resource
versions, conflicts, 410 for what it has forgotten, and 403 for verbs it is told to refuse. With
`fieldValidation=Strict`, and if ../shared/crds is there, objects are validated against KServe's
schema, unknown fields included. After each change "KServe" writes the status that the real one
would once its pods are up.
"""

import contextlib
import copy
import json
import queue
import threading
import time
from collections import deque
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

import yaml

GROUP = "/apis/serving.kserve.io/v1beta1/namespaces/"
MODE = "serving.kserve.io/deploymentMode"
CONFIG = "/api/v1/namespaces/kserve/configmaps/inferenceservice-config"
DISALLOWED = ("marquee.dev/rollout", "marquee.dev/rollout-request")
DISALLOWED += ("marquee.dev/rollout-canary-revision",)
"""What KServe is told not to copy to revisions."""


class Refusal(Exception):
    def __init__(self, code, reason):
        super().__init__(reason)
        self.code = code


class ApiServer(ThreadingHTTPServer):
    """Holds InferenceServices of one namespace.

    Attributes:
        refuse: Verbs that are forbidden.
        conflicts: How many of the next replaces come too late.
        remembered: How many events a watch may go back.
        fail: How many of the next requests fail with 500.
        frozen: Whether KServe does not follow.
        disallowed: What KServe says that it does not copy to revisions.
    """

    daemon_threads = True

    def __init__(self, validate=None):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.validate = validate
        self.services = {}
        self.version = 100
        self.events = deque(maxlen=50)
        self.watchers = []
        self.lock = threading.RLock()
        self.refuse, self.conflicts, self.fail, self.frozen = set(), 0, 0, False
        self.disallowed = list(DISALLOWED)
        self.writes = []

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}"

    def kubeconfig(self, folder, namespace="films"):
        path = folder / "kubeconfig"
        path.write_text(
            yaml.safe_dump(
                {
                    "apiVersion": "v1",
                    "kind": "Config",
                    "clusters": [{"name": "c", "cluster": {"server": self.url}}],
                    "users": [{"name": "u", "user": {}}],
                    "contexts": [
                        {
                            "name": "x",
                            "context": {"cluster": "c", "user": "u", "namespace": namespace},
                        }
                    ],
                    "current-context": "x",
                }
            )
        )
        return str(path)

    def put(self, service, old=None):
        """Store an object, let KServe follow, and tell the watchers."""
        with self.lock:
            self.version += 1
            service = copy.deepcopy(service)
            metadata = service["metadata"]
            metadata["resourceVersion"] = str(self.version)
            changed = old is None or service["spec"] != old["spec"]
            metadata["generation"] = (old or service)["metadata"].get("generation", 0) + changed
            service["status"] = copy.deepcopy((old or {}).get("status", {}))
            if not self.frozen:
                follow(service)
            self.services[metadata["name"]] = service
            self.events.append(("MODIFIED" if old else "ADDED", copy.deepcopy(service)))
            for watcher in self.watchers:
                watcher.put(self.events[-1])
            return service


def follow(service):
    """Write the status that KServe would, once all pods are up."""
    status = service.setdefault("status", {})
    # That of what is below it, which tells nothing of the InferenceService.
    status["observedGeneration"] = 1
    annotations = service["metadata"].get("annotations", {})
    ready = [{"type": "Ready", "status": "True"}, {"type": "PredictorReady", "status": "True"}]
    if annotations.get(MODE) == "Standard":
        canaries = service["spec"].get("canary", [])
        status["canaryStatuses"] = [
            {
                "name": canary["predictor"]["name"],
                "ready": True,
                "trafficPercent": canary["trafficPercent"],
            }
            for canary in canaries
        ]
        if canaries:
            ready.append({"type": "CanaryPredictorReady", "status": "True"})
    else:
        _knative(service, status)
    status["conditions"] = ready


def _knative(service, status):
    """Revisions: a new one for each change of the template; the one that had all traffic stays.

    The template has the annotations in it, but for those that KServe was told not to copy.
    """
    metadata, predictor = service["metadata"], service["spec"]["predictor"]
    component = status.setdefault("components", {}).setdefault("predictor", {})
    template = {key: value for key, value in predictor.items() if key != "canaryTrafficPercent"}
    annotations = metadata.get("annotations", {}).items()
    template["annotations"] = {k: v for k, v in annotations if k not in DISALLOWED}
    revisions = component.setdefault("x", [])  # of this server, not of KServe
    if not revisions or revisions[-1] != template:
        revisions.append(copy.deepcopy(template))
    latest = f"{metadata['name']}-predictor-{len(revisions):05}"
    component.update(latestCreatedRevision=latest, latestReadyRevision=latest)
    traffic = _traffic(component, predictor.get("canaryTrafficPercent"))
    host = f"{metadata['name']}.films.example.com"
    component["traffic"] = [
        {
            "revisionName": revision,
            "latestRevision": tag == "latest",
            "percent": share,
            "tag": tag,
            "url": f"http://{tag}-{host}",
        }
        for tag, revision, share in traffic
    ]


def _traffic(component, percent):
    """Share the traffic as KServe does: what has all of it is what it falls back to later."""
    latest, rolled_out = component["latestReadyRevision"], component.get("latestRolledoutRevision")
    if rolled_out == latest and percent is not None and percent < 100:
        rolled_out = component.get("previousRolledoutRevision")
    if percent is not None and percent < 100 and rolled_out:
        return [("latest", latest, percent), ("prev", rolled_out, 100 - percent)]
    if component.get("latestRolledoutRevision") != latest:
        component["previousRolledoutRevision"] = component.get("latestRolledoutRevision")
        component["latestRolledoutRevision"] = latest
    return [("latest", latest, 100)]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *arguments):
        pass

    def do_GET(self):
        self._answer(self._get)

    def do_POST(self):
        self._answer(self._create)

    def do_PUT(self):
        self._answer(self._replace)

    def _answer(self, do):
        server = self.server
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        parts = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        words = parts.path.removeprefix(GROUP).split("/")
        name = words[2] if len(words) > 2 else ""
        try:
            if server.fail:
                server.fail -= 1
                raise Refusal(500, "etcd is away")
            document = do(name, query, json.loads(body) if body else None)
        except Refusal as refusal:
            self._send(
                refusal.code, {"kind": "Status", "code": refusal.code, "message": str(refusal)}
            )
        else:
            if document is not None:
                self._send(200, document)

    def _send(self, code, document):
        data = json.dumps(document).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _allow(self, verb):
        if verb in self.server.refuse:
            raise Refusal(403, f"forbidden: cannot {verb}")

    def _get(self, name, query, _):
        if self.path.startswith(CONFIG):
            told = {"serviceAnnotationDisallowedList": self.server.disallowed}
            return {
                "apiVersion": "v1",
                "kind": "ConfigMap",
                "metadata": {"name": "inferenceservice-config", "namespace": "kserve"},
                "data": {"inferenceService": json.dumps(told)},
            }
        if query.get("watch") in ("true", "True"):
            self._watch(query)
            return None
        self._allow("get")
        with self.server.lock:
            if name not in self.server.services:
                raise Refusal(404, "not found")
            return copy.deepcopy(self.server.services[name])

    def _create(self, _, query, body):
        self._allow("create")
        self._check(query, body)
        if body["metadata"]["name"] in self.server.services:
            raise Refusal(409, "already exists")
        return self.server.put(body)

    def _replace(self, name, query, body):
        self._allow("update")
        self._check(query, body)
        with self.server.lock:
            old = self.server.services.get(name)
            if old is None:
                raise Refusal(404, "not found")
            if self.server.conflicts:
                self.server.conflicts -= 1
                raise Refusal(409, "the object has been modified")
            if body["metadata"].get("resourceVersion") != old["metadata"]["resourceVersion"]:
                raise Refusal(409, "the object has been modified")
            if query.get("dryRun") == "All":
                return body
            self.server.writes.append(copy.deepcopy(body))
            return self.server.put(body, old)

    def _check(self, query, body):
        if query.get("fieldValidation") != "Strict":
            raise Refusal(400, "this test wants strict field validation")
        if self.server.validate:
            problem = self.server.validate(body)
            if problem:
                raise Refusal(422, problem)

    def _watch(self, query):
        self._allow("watch")
        since = int(query.get("resourceVersion") or 0)
        server, mine = self.server, queue.Queue()
        with server.lock:
            known = [int(event[1]["metadata"]["resourceVersion"]) for event in server.events]
            if known and since < known[0] - 1:
                status = {"kind": "Status", "code": 410, "reason": "Expired", "message": "too old"}
                gone = {"type": "ERROR", "object": status}
                self._stream([gone])
                return
            for event in server.events:
                if int(event[1]["metadata"]["resourceVersion"]) > since:
                    mine.put(event)
            server.watchers.append(mine)
        try:
            self._stream_from(mine, float(query.get("timeoutSeconds", 1)))
        finally:
            with server.lock:
                server.watchers.remove(mine)

    def _stream(self, events):
        self._begin()
        for event in events:
            self._chunk(event)
        self._end()

    def _stream_from(self, events, seconds):
        self._begin()
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            try:
                kind, service = events.get(timeout=left)
                self._chunk({"type": kind, "object": service})
            except queue.Empty:
                break
            except OSError:
                return
        self._end()

    def _begin(self):
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()

    def _chunk(self, event):
        data = json.dumps(event).encode() + b"\n"
        self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
        self.wfile.flush()

    def _end(self):
        with contextlib.suppress(OSError):
            self.wfile.write(b"0\r\n\r\n")


@contextmanager
def running_api_server(validate=None):
    server = ApiServer(validate)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server
    finally:
        server.shutdown()
