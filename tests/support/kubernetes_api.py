"""A Kubernetes API server of ours: kubectl, helm and the Python client work against it.

It holds the built-in kinds and those of the CRDs in ../shared/crds, in memory, and does what
clients notice of a real one: discovery, strict validation against schemas, their CEL rules and
defaults, resource versions and conflicts, watches, selectors, all kinds of patches with managed
fields, dry runs, garbage collection, RBAC and access reviews, logs of pods, proxied services. It
runs no webhooks, knows no admission but namespaces', and defaults nothing of built-in kinds. CEL
rules about changes are not evaluated; `_IMMUTABLE` stands for those that matter here.

Nothing runs in it: `controllers` write the status that the real ones would, such as those of
`kubernetes_controllers`.
"""

import base64
import contextlib
import copy
import datetime
import json
import re
import ssl
import threading
import time
import urllib.error
import urllib.request
import uuid
from collections import deque
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit

import kubernetes_patches as patches
import kubernetes_protobuf
import yaml
from crds import Loader, fill
from kubernetes_rbac import ADMIN, ANONYMOUS, Rbac, User, service_account
from kubernetes_schemas import VERSION, Resource, built_in, crds_in, of_crd, whole

ALL_CRDS = (
    *("gateway-api", "istio", "jobset", "katib", "keda", "kfp", "knative-serving", "kserve"),
    *("prometheus-operator", "trainer"),
)
REVIEWS = {
    "subjectaccessreviews": "SubjectAccessReview",
    "selfsubjectaccessreviews": "SelfSubjectAccessReview",
    "localsubjectaccessreviews": "LocalSubjectAccessReview",
}
_AUTHORIZATION = "authorization.k8s.io"
_IMMUTABLE = {
    ("apps", "deployments"): ("spec.selector",),
    ("apps", "statefulsets"): ("spec.selector", "spec.serviceName", "spec.volumeClaimTemplates"),
    ("batch", "jobs"): ("spec.selector", "spec.template", "spec.completionMode"),
    ("", "persistentvolumeclaims"): ("spec.accessModes", "spec.storageClassName"),
    ("rbac.authorization.k8s.io", "rolebindings"): ("roleRef",),
    ("rbac.authorization.k8s.io", "clusterrolebindings"): ("roleRef",),
    ("storage.k8s.io", "storageclasses"): ("provisioner", "parameters"),
    ("trainer.kubeflow.org", "trainjobs"): ("spec.runtimeRef", "spec.trainer"),
}
"""What may not be changed after creation."""
_VERBS = {"POST": "create", "PUT": "update", "PATCH": "patch"}
_DNS = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")


class Refusal(Exception):
    """What a request is answered that cannot be fulfilled."""

    def __init__(self, code, reason, message, causes=()):
        super().__init__(message)
        self.document = {
            "apiVersion": "v1",
            "kind": "Status",
            "status": "Failure",
            "code": code,
            "reason": reason,
            "message": message,
            "details": {"causes": list(causes)},
        }


class KubernetesApi(ThreadingHTTPServer):
    """A cluster's objects, and the HTTP server that gives them out.

    Args:
        namespaces: Those that are there.
        crds: The folders of ../shared/crds whose kinds it knows.
        controllers: Each is called with an object that was written, to change its status in place.
        pem: A certificate with its key: then it speaks TLS, and clients send it tokens.

    Attributes:
        refuse: What is forbidden to everybody, such as ("update", "inferenceservices"); "*" is all.
        fail: How many of the next requests are answered 500.
        conflicts: How many of the next replaces come too late.
        users: Whom a token belongs to.
        logs: The lines of a pod's log, by namespace and name, each after its time; what the kubelet
            says in place of a log has none.
        services: Where the server's proxy finds a service, by namespace and name.
        requests: The method and path of each request.
        asked: Who asked for what, allowed or not: the user, the verb, the group and the plural.
    """

    daemon_threads = True

    def __init__(self, namespaces=("default", "films"), crds=ALL_CRDS, controllers=(), pem=None):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.pem = pem
        if pem:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(pem)
            self.socket = context.wrap_socket(self.socket, server_side=True)
        self.controllers = list(controllers)
        self.changed = threading.Condition(threading.RLock())
        self.version = 100
        self.objects = {}
        self.events = deque(maxlen=2000)
        self.forgotten = 0
        self.refuse, self.fail, self.conflicts = set(), 0, 0
        self.users, self.logs, self.services, self.requests = {}, {}, {}, []
        self.rbac, self.asked = Rbac(self), set()
        self.resources = {(r.group, r.version, r.plural): r for r in built_in()}
        for folder in crds:
            for crd in crds_in(folder):
                self._install(crd)
        for name in ("kube-system", *namespaces):
            self.put({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})

    @property
    def url(self):
        scheme, host = ("https", "localhost") if self.pem else ("http", "127.0.0.1")
        return f"{scheme}://{host}:{self.server_port}"

    def kubeconfig(self, folder, namespace="films", user=None):
        """Write a kubeconfig.

        Args:
            folder: Where.
            namespace: The context's.
            user: Who asks, such as system:serviceaccount:films:x; the administrator without it.
        """
        if user:
            self.users[user] = service_account(user) or User(user)
        path = folder / "kubeconfig"
        cluster = {"server": self.url}
        cluster |= {"certificate-authority": str(self.pem)} if self.pem else {}
        configuration = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "c", "cluster": cluster}],
            # kubectl sends no token without TLS, and the Python client does not impersonate.
            "users": [{"name": "u", "user": {"as": user, "token": user} if user else {}}],
            "contexts": [
                {"name": "x", "context": {"cluster": "c", "user": "u", "namespace": namespace}}
            ],
            "current-context": "x",
        }
        path.write_text(yaml.safe_dump(configuration))
        return str(path)

    # What tests do, without HTTP and without being checked.

    def put(self, document):
        """Write an object as it is, status and all."""
        resource = self.resource_of(document)
        metadata = document["metadata"]
        namespace = metadata.get("namespace", "default") if resource.namespaced else ""
        with self.changed:
            old = self.find(resource, namespace, metadata["name"])
            document = copy.deepcopy(document)
            if resource.namespaced:
                document["metadata"]["namespace"] = namespace
            return self.store(resource, document, old)

    def get(self, kind, name, namespace=""):
        """Give a copy of an object; None if there is none."""
        found = self.find(self.resource(kind), namespace, name)
        return copy.deepcopy(found)

    def all(self, kind, namespace=None):
        """Give copies of all objects of a kind."""
        resource = self.resource(kind)
        with self.changed:
            return [
                copy.deepcopy(document)
                for (where, _), document in sorted(self.objects.get(resource.key, {}).items())
                if namespace in (None, where)
            ]

    def drop(self, kind, name, namespace=""):
        """Remove an object."""
        resource = self.resource(kind)
        with self.changed:
            self.delete(resource, self.find(resource, namespace, name))

    @contextmanager
    def undone(self):
        """Undo afterwards what happens meanwhile, so that many tests can share a server."""
        names = ("objects", "resources", "controllers", "refuse", "fail", "conflicts", "users")
        before = {name: _copy(getattr(self, name)) for name in (*names, "logs", "services")}
        try:
            yield self
        finally:
            with self.changed:
                vars(self).update(before)
                self.forget()

    def resource(self, kind):
        """Find a kind by its name, or by `kind.group` where several groups have one."""
        name, _, group = kind.partition(".")
        found = [r for r in self.resources.values() if r.kind == name and group in ("", r.group)]
        if len({r.key for r in found}) != 1:
            raise LookupError(f"{len(found)} kinds {kind}")
        return found[0]

    def resource_of(self, document):
        group, _, version = document["apiVersion"].rpartition("/")
        for resource in self.resources.values():
            if (resource.group, resource.version, resource.kind) == (
                group,
                version,
                document["kind"],
            ):
                return resource
        raise LookupError(f"no kind {document['apiVersion']} {document['kind']}")

    # What the API does.

    def find(self, resource, namespace, name):
        return self.objects.get(resource.key, {}).get((namespace, name))

    def store(self, resource, document, old=None):
        """Write an object, let the controllers follow, and tell who watches."""
        with self.changed:
            self.version += 1
            metadata = document["metadata"]
            before = (old or {}).get("metadata", {})
            metadata["uid"] = before.get("uid") or str(uuid.uuid4())
            metadata["creationTimestamp"] = before.get("creationTimestamp") or _now()
            changed = old is None or _without(old) != _without(document)
            metadata["generation"] = before.get("generation", 0) + changed
            metadata["resourceVersion"] = str(self.version)
            for follow in self.controllers:
                follow(document)
            if metadata.get("deletionTimestamp") and not metadata.get("finalizers"):
                return self.delete(resource, document)
            key = (metadata.get("namespace", ""), metadata["name"])
            self.objects.setdefault(resource.key, {})[key] = document
            self._tell("MODIFIED" if old else "ADDED", resource, document, old)
            if resource.plural == "customresourcedefinitions":
                self._serve(document)
            if resource.plural == "namespaces" and not old:
                self.put(_default_account(metadata["name"]))
            return document

    def delete(self, resource, document, orphan=False):
        """Remove an object, and what is in it or owned by it; wait if it has finalizers."""
        with self.changed:
            metadata = document["metadata"]
            if metadata.get("finalizers"):
                if "deletionTimestamp" in metadata:
                    return document
                document = copy.deepcopy(document)
                document["metadata"]["deletionTimestamp"] = _now()
                return self.store(resource, document, self.find(resource, *_place(document)))
            if self.objects.get(resource.key, {}).pop(_place(document), None) is None:
                return document
            self.version += 1
            gone = copy.deepcopy(document)
            gone["metadata"]["resourceVersion"] = str(self.version)
            self._tell("DELETED", resource, gone, document)
            self._collect(resource, document, orphan)
            return gone

    def _collect(self, resource, gone, orphan):
        """Remove what was in a namespace, of a CRD, or owned by what is gone."""
        uid, name = gone["metadata"]["uid"], gone["metadata"]["name"]
        if resource.plural == "customresourcedefinitions":
            for served in of_crd(gone):
                self.resources.pop((served.group, served.version, served.plural), None)
                self.objects.pop(served.key, None)
        for other in {r.key: r for r in self.resources.values()}.values():
            for document in list(self.objects.get(other.key, {}).values()):
                metadata = document["metadata"]
                owners = metadata.get("ownerReferences", [])
                left = [owner for owner in owners if owner["uid"] != uid]
                inside = resource.plural == "namespaces" and metadata.get("namespace") == name
                if inside or (owners and not left and not orphan):
                    self.delete(other, document)
                elif left != owners:
                    new = copy.deepcopy(document)
                    new["metadata"]["ownerReferences"] = left
                    self.store(other, new, document)

    def _install(self, crd):
        """Have a CRD from the start; never copied, for some are as large as a book."""
        kind = self.resource("CustomResourceDefinition")
        given = {"resourceVersion": "1", "uid": str(uuid.uuid4())}
        crd = crd | {"metadata": crd["metadata"] | given}
        for follow in self.controllers:
            follow(crd)
        self.objects.setdefault(kind.key, {})[("", crd["metadata"]["name"])] = crd
        self._serve(crd)

    def _serve(self, crd):
        for resource in of_crd(crd):
            self.resources[(resource.group, resource.version, resource.plural)] = resource

    def _tell(self, kind, resource, document, old):
        if len(self.events) == self.events.maxlen:
            self.forgotten = self.events[0][0]
        self.events.append((self.version, kind, resource.key, copy.deepcopy(document), old))
        self.changed.notify_all()

    def forget(self):
        """Let watches begin no earlier than now."""
        with self.changed:
            self.events.clear()
            self.version += 1
            self.forgotten = self.version


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # each answer would wait 40 ms for its header's receipt

    def log_message(self, *arguments):
        pass

    def do_GET(self):
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.server.requests.append((self.command, self.path))
        parts = urlsplit(self.path)
        self.query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        try:
            if self.server.fail:
                self.server.fail -= 1
                raise Refusal(500, "InternalError", "etcd is away")
            self.user = self._user()
            self._route([unquote(word) for word in parts.path.strip("/").split("/")], body)
        except Refusal as refusal:
            self._send(refusal.document["code"], refusal.document)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True

    do_POST = do_PUT = do_PATCH = do_DELETE = do_GET  # noqa: N815

    def _user(self):
        server = self.server
        token = (self.headers.get("Authorization") or "").removeprefix("Bearer ")
        user = server.users.get(token, ANONYMOUS) if token else ADMIN
        if user is ANONYMOUS:
            raise Refusal(401, "Unauthorized", "Unauthorized")
        if name := self.headers.get("Impersonate-User"):
            if not server.rbac.allows(user, "impersonate", ("", "users"), "", name):
                raise _forbidden(user, "impersonate", "users", "", name)
            groups = tuple(self.headers.get_all("Impersonate-Group") or ())
            return service_account(name) or User(name, (*groups, "system:authenticated"))
        return user

    def _route(self, words, body):
        match words:
            case ["healthz" | "livez" | "readyz", *_]:
                self._reply(200, b"ok", "text/plain")
            case ["version"]:
                major, minor, _ = VERSION.split(".")
                told = {"major": major, "minor": minor, "gitVersion": f"v{VERSION}"}
                self._send(200, told | {"platform": "linux/amd64", "goVersion": "go1.26"})
            case ["openapi", "v3", *group]:
                self._send(200, _openapi(self.server, group))
            case ["openapi", *_]:
                raise _not_there()
            case ["api"]:
                self._send(200, {"kind": "APIVersions", "versions": ["v1"]})
            case ["apis"]:
                self._send(200, _groups(self.server))
            case ["api", "v1", *rest]:
                self._in_group("", "v1", rest, body)
            case ["apis", group, version, *rest]:
                self._in_group(group, version, rest, body)
            case ["apis", group]:
                found = [g for g in _groups(self.server)["groups"] if g["name"] == group]
                if not found:
                    raise _not_there()
                self._send(200, {"kind": "APIGroup", "apiVersion": "v1"} | found[0])
            case _:
                raise _not_there()

    def _in_group(self, group, version, rest, body):
        match rest:
            case []:
                self._send(200, _resource_list(self.server, group, version))
                return
            case ["namespaces", namespace, plural, *more] if plural not in ("status", "finalize"):
                pass
            case [plural, *more]:
                namespace = ""
        content = self.headers.get("Content-Type", "")
        if (group, plural) == ("authentication.k8s.io", "selfsubjectreviews"):
            about = {"username": self.user.name, "groups": list(self.user.groups)}
            self._send(201, _read(body, content) | {"status": {"userInfo": about}})
            return
        if group == _AUTHORIZATION and plural in REVIEWS:
            self._send(201, self._review(plural, namespace, _read(body, content)))
            return
        resource = self.server.resources.get((group, version, plural))
        if resource is None:
            raise _not_there()
        name, subresource = (*more, "", "")[:2]
        document = _read(body, content)
        request = _Request(self, resource, namespace, name, subresource, document, content)
        verb = request.verb
        if subresource == "proxy":
            self._proxy(request, more[2:])
            return
        self._allow(verb, resource, namespace, name, subresource)
        if verb == "watch":
            self._watch(request)
        elif subresource == "log":
            self._log(request)
        elif subresource == "token":
            self._send(201, request.token())
        else:
            code = 201 if self.command == "POST" else 200
            self._send(code, request.answer())

    def _allow(self, verb, resource, namespace, name, subresource):
        kind = (resource.group, "/".join(filter(None, (resource.plural, subresource))))
        self.server.asked.add((self.user.name, verb, *kind))
        if not self.server.rbac.allows(self.user, verb, kind, namespace, name):
            raise _forbidden(self.user, verb, f"{kind[1]}.{kind[0]}".strip("."), namespace, name)

    def _review(self, plural, namespace, document):
        spec, rbac = document["spec"], self.server.rbac
        user = self.user
        if plural != "selfsubjectaccessreviews":
            if not rbac.allows(user, "create", (_AUTHORIZATION, plural), namespace, ""):
                raise _forbidden(user, "create", f"{plural}.{_AUTHORIZATION}", namespace, "")
            name = spec.get("user", "")
            user = service_account(name) or User(name, tuple(spec.get("groups", ())))
        asked = spec.get("resourceAttributes", {})
        kind = "/".join(filter(None, (asked.get("resource", ""), asked.get("subresource", ""))))
        allowed = bool(asked) and rbac.allows(
            user,
            asked.get("verb", ""),
            (asked.get("group", ""), kind),
            asked.get("namespace", ""),
            asked.get("name", ""),
        )
        return document | {"kind": REVIEWS[plural], "status": {"allowed": allowed}}

    def _proxy(self, request, path):
        """Pass a GET on to a service, as `kubectl get --raw .../proxy/...` does."""
        self._allow("get", request.resource, request.namespace, request.name, "proxy")
        service = request.name.split(":")
        name = service[1] if len(service) == 3 else service[0]
        target = self.server.services.get((request.namespace, name))
        if target is None:
            raise Refusal(503, "ServiceUnavailable", f'no endpoints available for service "{name}"')
        query = urlsplit(self.path).query
        url = f"{target}/{'/'.join(path)}" + (f"?{query}" if query else "")
        try:
            with urllib.request.urlopen(url, timeout=10) as answer:
                self._reply(answer.status, answer.read(), answer.headers["Content-Type"] or "")
        except urllib.error.HTTPError as error:
            self._reply(error.code, error.read(), "text/plain")
        except OSError as error:
            raise Refusal(502, "BadGateway", str(error)) from error

    def _log(self, request):
        """Give a pod's log; `follow` waits for more until the pod has ended."""
        key = (request.namespace, request.name)
        follow, timed = (self.query.get(k) in ("true", "True") for k in ("follow", "timestamps"))
        _check_container(request.existing(), self.query.get("container"))
        tail, since = self.query.get("tailLines"), self.query.get("sinceSeconds")
        oldest = time.time() - int(since) if since else 0
        sent = max(0, len(self.server.logs.get(key, [])) - int(tail)) if tail else 0
        self._begin("text/plain")
        while True:
            with self.server.changed:
                lines = self.server.logs.get(key, [])[sent:]
                pod = self.server.find(request.resource, *key)
                ended = pod is None or pod.get("status", {}).get("phase") in ("Succeeded", "Failed")
            for line in lines:
                at, text = _parted(line)
                if at is None or at >= oldest:
                    self._chunk((line if timed else text).encode() + b"\n")
            sent += len(lines)
            if not follow or ended:
                break
            time.sleep(0.02)
        self._end()

    def _watch(self, request):
        """Send what changes from a version on, or first of all what is there."""
        server, query = self.server, self.query
        since = int(query.get("resourceVersion") or 0)
        with server.changed:
            first = []
            if query.get("sendInitialEvents") in ("true", "True") or not since:
                first = [("ADDED", document) for document in request.listed()]
                since = server.version
            gone = since < server.forgotten
        self._begin("application/json")
        if gone:
            status = Refusal(410, "Expired", f"too old resource version: {since}").document
            self._event("ERROR", status)
            self._end()
            return
        for kind, document in first:
            self._event(kind, request.shown(document))
        if query.get("sendInitialEvents") in ("true", "True"):
            self._event("BOOKMARK", request.bookmark(since))
        self._follow(request, since, float(query.get("timeoutSeconds") or 1800))
        self._end()

    def _follow(self, request, since, seconds):
        server, deadline = self.server, time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            with server.changed:
                fresh = [event for event in server.events if event[0] > since]
                if not fresh:
                    server.changed.wait(min(left, 1))
                    continue
                since = fresh[-1][0]
            for _, kind, key, document, old in fresh:
                if key == request.resource.key and (told := request.event(kind, document, old)):
                    self._event(told, request.shown(document))

    def _event(self, kind, document):
        self._chunk(json.dumps({"type": kind, "object": document}).encode() + b"\n")

    def _send(self, code, document):
        self._reply(code, json.dumps(document).encode(), "application/json")

    def _reply(self, code, data, content):
        self.send_response(code)
        self.send_header("Content-Type", content)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _begin(self, content):
        self.send_response(200)
        self.send_header("Content-Type", content)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        self.wfile.flush()

    def _chunk(self, data):
        self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
        self.wfile.flush()

    def _end(self):
        with contextlib.suppress(OSError):
            self.wfile.write(b"0\r\n\r\n")


class _Request:
    """One request for a kind's objects."""

    def __init__(self, handler, resource, namespace, name, subresource, body, content):
        self.server: KubernetesApi = handler.server
        self.method, self.query = handler.command, handler.query
        self.resource: Resource = resource
        self.namespace, self.name, self.subresource = namespace, name, subresource
        self.body, self.content = body, content
        agent = (handler.headers.get("User-Agent") or "unknown").split("/")[0]
        self.manager = self.query.get("fieldManager") or agent

    @property
    def verb(self):
        if self.method == "GET":
            if self.query.get("watch") in ("true", "True", "1"):
                return "watch"
            return "get" if self.name else "list"
        if self.method == "DELETE":
            return "delete" if self.name else "deletecollection"
        return _VERBS[self.method]

    @property
    def dry(self):
        return self.query.get("dryRun") == "All" or (
            self.method == "DELETE" and self.body.get("dryRun") == ["All"]
        )

    def answer(self):
        if self.subresource not in ("", "status"):
            raise _not_there()
        with self.server.changed:
            return getattr(self, f"_{self.verb}")()

    def _get(self):
        return self.shown(self.existing())

    def _list(self):
        return {
            "apiVersion": self.resource.api_version,
            "kind": f"{self.resource.kind}List",
            "metadata": {"resourceVersion": str(self.server.version)},
            "items": [self.shown(document) for document in self.listed()],
        }

    def _create(self):
        document = self._checked(self.body)
        metadata = document["metadata"]
        if "generateName" in metadata and not metadata.get("name"):
            metadata["name"] = metadata["generateName"] + uuid.uuid4().hex[:5]
        name = metadata.get("name", "")
        self._check_name(name)
        if self.server.find(self.resource, self.namespace, name):
            raise self._refusal(409, "AlreadyExists", name, "already exists")
        document = patches.update({}, document, self._schema, self.manager, **self._origin)
        return self._write(document, None)

    def _update(self):
        old = self._unless_late(self.existing())
        if self.server.conflicts:
            self.server.conflicts -= 1
            raise self._too_late(self.name)
        return self._replace(old, self.body)

    def _patch(self):
        if "apply" in self.content:
            return self._apply()
        old = self.existing()
        try:
            if "json-patch" in self.content:
                new = patches.json_patch(old, self.body)
            elif "strategic" in self.content:
                if self.resource.crd is not None:
                    raise Refusal(415, "UnsupportedMediaType", "no strategic merge of CRDs' kinds")
                new = patches.strategic_patch(old, self.body, self._schema)
            else:
                new = patches.merge_patch(old, self.body)
        except patches.jsonpatch.JsonPatchException as error:
            raise Refusal(422, "Invalid", str(error)) from error
        if new["metadata"].get("resourceVersion") != old["metadata"]["resourceVersion"]:
            raise self._too_late(self.name)
        return self._replace(old, new)

    def _replace(self, old, new):
        new = self._checked(new, old)
        new = patches.update(old, new, self._schema, self.manager, **self._origin)
        return self._write(new, old)

    def _apply(self):
        if "fieldManager" not in self.query:
            raise Refusal(422, "Invalid", "fieldManager is required for apply patch")
        if self.body.get("metadata", {}).get("managedFields"):
            raise Refusal(400, "BadRequest", "metadata.managedFields must be nil")
        old = self.server.find(self.resource, self.namespace, self.name)
        self._check_name(self.name)
        if self.body["metadata"].get("name", self.name) != self.name:
            raise Refusal(400, "BadRequest", "the name of the object does not match the URL")
        wanted = self._pruned(_without_nulls(self.body))
        wanted["metadata"].setdefault("name", self.name)
        if self.resource.has_status and not self.subresource:
            wanted.pop("status", None)
        there = old or {"apiVersion": wanted["apiVersion"], "kind": wanted["kind"], "metadata": {}}
        version = wanted["metadata"].pop("resourceVersion", None)
        if version and version != there["metadata"].get("resourceVersion"):
            raise self._too_late(self.name)
        try:
            new = patches.apply(
                there,
                wanted,
                self._schema,
                self.manager,
                force=self.query.get("force") in ("true", "True"),
                **self._origin,
            )
        except patches.FieldConflict as error:
            raise self._field_conflict(error.conflicts) from error
        managed = new["metadata"]["managedFields"]
        new = self._checked(new, old)
        new["metadata"]["managedFields"] = managed
        return self._write(new, old)

    def _delete(self):
        old = self._unless_late(self.existing(), self.body.get("preconditions", {}))
        return self._remove(old)

    def _deletecollection(self):
        for document in self.listed():
            self._remove(document)
        return self._success()

    def _remove(self, document):
        if not self.dry:
            orphan = self.body.get("propagationPolicy", self.query.get("propagationPolicy"))
            self.server.delete(self.resource, document, orphan == "Orphan")
        return self._success(document)

    def _success(self, document=None):
        details = {"group": self.resource.group, "kind": self.resource.plural}
        if document:
            details |= {key: document["metadata"][key] for key in ("name", "uid")}
        return {"apiVersion": "v1", "kind": "Status", "status": "Success", "details": details}

    def token(self):
        """Give a service account's token."""
        self.existing()
        token = uuid.uuid4().hex
        name = f"system:serviceaccount:{self.namespace}:{self.name}"
        self.server.users[token] = service_account(name)
        expires = datetime.datetime.now(datetime.UTC) + datetime.timedelta(hours=1)
        status = {"token": token, "expirationTimestamp": expires.strftime("%Y-%m-%dT%H:%M:%SZ")}
        return self.body | {"status": status}

    # What there is.

    def existing(self):
        found = self.server.find(self.resource, self.namespace, self.name)
        if found is None:
            raise self._refusal(404, "NotFound", self.name, "not found")
        return found

    def listed(self):
        found = self.server.objects.get(self.resource.key, {})
        return [found[key] for key in sorted(found) if self._selects(found[key])]

    def shown(self, document):
        """Give an object in the version that was asked for."""
        if self.resource.plural == "customresourcedefinitions":
            document = whole(document)
        document = copy.deepcopy(document)
        return document | {"apiVersion": self.resource.api_version, "kind": self.resource.kind}

    def event(self, kind, document, old):
        """Say what a change is to who watches a selection; "" if nothing."""
        now, before = self._selects(document), old is not None and self._selects(old)
        if kind == "DELETED" or (before and not now):
            return "DELETED" if before or now else ""
        return ("MODIFIED" if before else "ADDED") if now else ""

    def bookmark(self, version):
        annotations = {"k8s.io/initial-events-end": "true"}
        metadata = {"resourceVersion": str(version), "annotations": annotations}
        return self.shown({"metadata": metadata})

    def _selects(self, document):
        metadata = document["metadata"]
        return (
            self.namespace in ("", metadata.get("namespace", ""))
            and self.name in ("", metadata["name"])
            and _labels_match(metadata.get("labels", {}), self.query.get("labelSelector", ""))
            and _fields_match(document, self.query.get("fieldSelector", ""))
        )

    # What may be written.

    @property
    def _schema(self):
        return self.resource.schema

    @property
    def _origin(self):
        return {"version": self.resource.api_version, "subresource": self.subresource}

    def _checked(self, document, old=None):
        """Give an object as it would be stored, or refuse it."""
        document = _without_nulls(document)
        self._check_identity(document, old)
        if self.subresource == "status":
            document = copy.deepcopy(old) | {
                key: document[key] for key in ("status",) if key in document
            }
        elif self.resource.has_status:
            document.pop("status", None)
        document = self._pruned(document)
        if self.resource.crd is not None:
            fill(document, self._schema.schema)
        self._check_schema(document)
        if old is not None:
            self._check_unchanged(document, old)
        if (
            old is not None
            and not self.subresource
            and self.resource.has_status
            and "status" in old
        ):
            document["status"] = copy.deepcopy(old["status"])
        return document

    def _check_identity(self, document, old):
        metadata = document.setdefault("metadata", {})
        for field, wanted in (
            ("apiVersion", self.resource.api_version),
            ("kind", self.resource.kind),
        ):
            if document.setdefault(field, wanted) != wanted:
                raise Refusal(400, "BadRequest", f"{field} {document[field]!r}, wanted {wanted!r}")
        if self.resource.namespaced:
            if metadata.setdefault("namespace", self.namespace) != self.namespace:
                message = "the namespace of the provided object does not match the namespace sent"
                raise Refusal(400, "BadRequest", f"{message} on the request")
        else:
            metadata.pop("namespace", None)
        if old is not None and metadata.get("name") != self.name:
            raise Refusal(400, "BadRequest", "the name of the object does not match the URL")
        for field in ("uid", "creationTimestamp", "generation", "deletionTimestamp"):
            metadata.pop(field, None)
            if old is not None and field in old["metadata"]:
                metadata[field] = old["metadata"][field]

    def _check_name(self, name):
        if not _DNS.fullmatch(name) and not self.resource.group.startswith("rbac"):
            raise self._refusal(422, "Invalid", name, "is invalid: metadata.name: RFC 1123 wanted")
        if self.resource.namespaced:
            namespaces = self.server.objects.get(("", "namespaces"), {})
            if ("", self.namespace) not in namespaces:
                raise Refusal(404, "NotFound", f'namespaces "{self.namespace}" not found')

    def _pruned(self, document):
        """Drop unknown fields, or refuse them if validation is to be strict."""
        while unknown := [
            (error.instance, name, ".".join(map(str, [*error.path, name])))
            for error in self._errors(document)
            if error.validator == "additionalProperties"
            for name in error.instance
            if name not in error.schema.get("properties", {})
        ]:
            if self.query.get("fieldValidation") == "Strict":
                names = ", ".join(f'unknown field "{path}"' for _, _, path in unknown)
                raise Refusal(400, "BadRequest", f"strict decoding error: {names}")
            for instance, name, _ in unknown:
                instance.pop(name, None)
        return document

    def _check_schema(self, document):
        errors = self._errors(document)
        if errors:
            told = [f"{'.'.join(map(str, e.path))}: {e.message[:200]}" for e in errors[:5]]
            name = document["metadata"].get("name", "")
            raise self._refusal(422, "Invalid", name, f"is invalid: {'; '.join(told)}")

    def _errors(self, document):
        if self.resource.has_status and "status" in document and self.subresource != "status":
            document = {key: value for key, value in document.items() if key != "status"}
        return self.resource.errors(document)

    def _check_unchanged(self, new, old):
        fixed = list(_IMMUTABLE.get(self.resource.key, ()))
        if old.get("immutable"):
            fixed += ["data", "stringData", "binaryData", "immutable"]
        for path in fixed:
            if (before := _at(old, path)) is not None and _at(new, path) != before:
                message = f"is invalid: {path}: Invalid value: field is immutable"
                raise self._refusal(422, "Invalid", self.name, message)

    def _unless_late(self, old, told=None):
        told = self.body.get("metadata", {}) if told is None else told
        for field in ("resourceVersion", "uid"):
            if told.get(field) and told[field] != old["metadata"][field]:
                raise self._too_late(self.name)
        return old

    def _write(self, new, old):
        if old is not None and _comparable(new) == _comparable(old):
            return self.shown(old)
        if self.resource.plural == "secrets" and "stringData" in new:
            texts = new.pop("stringData").items()
            encoded = {name: base64.b64encode(text.encode()).decode() for name, text in texts}
            new["data"] = new.get("data", {}) | encoded
        if self.dry:
            new["metadata"].setdefault("uid", str(uuid.uuid4()))
            return self.shown(new)
        return self.shown(self.server.store(self.resource, new, old))

    def _refusal(self, code, reason, name, what):
        refusal = Refusal(code, reason, f'{self.resource.full} "{name}" {what}')
        refusal.document["details"] |= {
            "name": name,
            "group": self.resource.group,
            "kind": self.resource.plural,
        }
        return refusal

    def _too_late(self, name):
        return self._refusal(
            409,
            "Conflict",
            name,
            "cannot be changed: the object has been modified; please apply your changes to the "
            "latest version and try again",
        )

    def _field_conflict(self, conflicts):
        causes = [
            {
                "reason": "FieldManagerConflict",
                "message": f'conflict with "{manager}"',
                "field": "".join(f".{step[2:]}" for step in path),
            }
            for manager, path in sorted(conflicts)
        ]
        told = ", ".join(f"{cause['message']}: {cause['field']}" for cause in causes)
        count = f"{len(causes)} conflict{'s' * (len(causes) > 1)}"
        return Refusal(409, "Conflict", f"Apply failed with {count}: {told}", causes)


def _read(body, content):
    if not body:
        return {}
    if content == kubernetes_protobuf.CONTENT:
        found = kubernetes_protobuf.read(body)
        if found is None:
            raise Refusal(415, "UnsupportedMediaType", "protobuf of this kind is not understood")
        return found
    try:
        return json.loads(body)
    except ValueError:
        return yaml.load(body, Loader)


def _without_nulls(value):
    if isinstance(value, dict):
        return {name: _without_nulls(field) for name, field in value.items() if field is not None}
    return [_without_nulls(item) for item in value] if isinstance(value, list) else value


def _labels_match(labels, selector):
    terms = re.split(r",(?![^(]*\))", selector) if selector else []
    return all(_label_matches(labels, term.strip()) for term in terms)


def _label_matches(labels, term):
    if found := re.fullmatch(r"(\S+)\s+(in|notin)\s+\(([^)]*)\)", term):
        name, how, values = found.groups()
        return (labels.get(name) in [v.strip() for v in values.split(",")]) is (how == "in")
    for sign, same in (("!=", False), ("==", True), ("=", True)):
        name, found, value = term.partition(sign)
        if found:
            return (labels.get(name.strip()) == value.strip()) is same
    return (term.lstrip("!") in labels) is not term.startswith("!")


def _fields_match(document, selector):
    for term in filter(None, selector.split(",")):
        path, sign, value = re.fullmatch(r"([^!=]+)(!=|==?)(.*)", term).groups()
        if (str(_at(document, path) or "") == value) is (sign == "!="):
            return False
    return True


def _at(document, path):
    for name in path.split("."):
        document = document.get(name) if isinstance(document, dict) else None
    return document


def _default_account(namespace):
    metadata = {"name": "default", "namespace": namespace}
    return {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata}


def _copy(value):
    """Copy what holds objects; they themselves are never changed once they are stored."""
    if isinstance(value, dict):
        return {k: dict(v) if isinstance(v, dict) else _copy(v) for k, v in value.items()}
    return copy.copy(value)


def _place(document):
    return document["metadata"].get("namespace", ""), document["metadata"]["name"]


def _without(document):
    return {key: value for key, value in document.items() if key not in ("metadata", "status")}


def _comparable(document):
    hidden = ("resourceVersion", "generation")
    metadata = {key: v for key, v in document["metadata"].items() if key not in hidden}
    return document | {"metadata": metadata}


def _now():
    return datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _check_container(pod, name):
    spec, pod = pod.get("spec", {}), pod["metadata"]["name"]
    kinds = ("initContainers", "containers")
    names = [container["name"] for kind in kinds for container in spec.get(kind, [])]
    if name is None and len(spec.get("containers", [])) > 1:
        why = f"a container name must be specified for pod {pod}, choose one of: {names}"
        raise Refusal(400, "BadRequest", why)
    if name is not None and name not in names:
        raise Refusal(400, "BadRequest", f"container {name} is not valid for pod {pod}")


def _parted(line):
    """Part a line of a log from its time, in seconds; None if it has none."""
    stamp, _, text = line.partition(" ")
    try:
        return datetime.datetime.fromisoformat(stamp).timestamp(), text
    except ValueError:
        return None, line


def _not_there():
    return Refusal(404, "NotFound", "the server could not find the requested resource")


def _forbidden(user, verb, kind, namespace, name):
    what, _, group = kind.partition(".")
    named = f' "{name}"' if name else ""
    where = f' in the namespace "{namespace}"' if namespace else " at the cluster scope"
    return Refusal(
        403,
        "Forbidden",
        f'{kind}{named} is forbidden: User "{user.name}" cannot {verb} resource "{what}" in API '
        f'group "{group}"{where}',
    )


# Discovery.


def _groups(server):
    versions = {_AUTHORIZATION: ["v1"]}
    for group, version, _ in server.resources:
        if group and version not in versions.setdefault(group, []):
            versions[group].append(version)
    groups = []
    for group, found in versions.items():
        listed = [{"groupVersion": f"{group}/{v}", "version": v} for v in sorted(found, key=_age)]
        groups.append({"name": group, "versions": listed, "preferredVersion": listed[0]})
    return {"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}


def _age(version):
    """Sort v1 before v1beta1 before v1alpha2 before v1alpha1."""
    major, kind, minor = re.fullmatch(r"v(\d+)(?:(alpha|beta)(\d+))?", version).groups()
    return (("", "beta", "alpha").index(kind or ""), -int(major), -int(minor or 0))


_ALL_VERBS = ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"]


def _resource_list(server, group, version):
    listed = []
    for resource in server.resources.values():
        if (resource.group, resource.version) == (group, version):
            listed += _described(resource)
    if group == _AUTHORIZATION:
        listed = [
            {
                "name": plural,
                "singularName": kind.lower(),
                "kind": kind,
                "namespaced": kind.startswith("Local"),
                "verbs": ["create"],
            }
            for plural, kind in REVIEWS.items()
        ]
    if not listed:
        raise _not_there()
    return {
        "kind": "APIResourceList",
        "apiVersion": "v1",
        "groupVersion": f"{group}/{version}".strip("/"),
        "resources": listed,
    }


def _described(resource):
    about = {
        "name": resource.plural,
        "singularName": resource.kind.lower(),
        "kind": resource.kind,
        "namespaced": resource.namespaced,
    }
    yield about | {"verbs": _ALL_VERBS, "shortNames": list(resource.short)}
    if resource.has_status:
        name = f"{resource.plural}/status"
        yield about | {"name": name, "verbs": ["get", "patch", "update"]}
    if resource.plural == "pods" and not resource.group:
        yield about | {"name": "pods/log", "verbs": ["get"]}


def _openapi(server, group):
    """As much OpenAPI as tells clients that this server validates fields."""
    if not group:
        prefixes = {_prefix(resource) for resource in server.resources.values()}
        paths = {p: {"serverRelativeURL": f"/openapi/v3/{p}?hash=1"} for p in sorted(prefixes)}
        return {"paths": paths}
    prefix, paths = "/".join(group), {}
    for resource in server.resources.values():
        if _prefix(resource) == prefix:
            kind = {"group": resource.group, "version": resource.version, "kind": resource.kind}
            parameters = [
                {"name": name, "in": "query", "schema": {"type": "string"}}
                for name in ("fieldManager", "fieldValidation", "dryRun")
            ]
            where = "namespaces/{namespace}/" if resource.namespaced else ""
            paths[f"/{prefix}/{where}{resource.plural}/{{name}}"] = {
                "patch": {
                    "parameters": parameters,
                    "x-kubernetes-group-version-kind": kind,
                    "responses": {"200": {"description": "OK"}},
                }
            }
    if not paths:
        raise _not_there()
    info = {"title": "Kubernetes", "version": f"v{VERSION}"}
    components = {"schemas": _schemas(server, prefix)}
    return {"openapi": "3.0.0", "info": info, "paths": paths, "components": components}


def _schemas(server, prefix):
    """Give the schemas of CRDs' kinds; those of built-in kinds clients bring along."""
    found = {}
    for resource in server.resources.values():
        if resource.crd is not None and _prefix(resource) == prefix:
            kind = {"group": resource.group, "version": resource.version, "kind": resource.kind}
            found[f"{resource.group}.{resource.version}.{resource.kind}"] = {
                **resource.own_schema(),
                "x-kubernetes-group-version-kind": [kind],
            }
    return found


def _prefix(resource):
    return f"apis/{resource.api_version}" if resource.group else f"api/{resource.version}"


@contextmanager
def running_kubernetes(**options):
    """Run a server; see `KubernetesApi` for the options."""
    server = KubernetesApi(**options)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
