"""What preflight asks an API server, and through it the services of the cluster."""

import re
import socket
import threading
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import requests
from kubernetes import client

from marquee.errors import InfrastructureError, UsageError
from marquee.kubernetes import NotThere, api_client, explained

Document = dict[str, Any]

_TIMEOUTS = (5, 15)
"""Seconds to connect, and to wait for an answer: people wait for the whole table."""
_AWAY = "check the address, the service's pods and NetworkPolicies"
_AT_ONCE = 4
"""Requests at a time: fewer than the client keeps connections for on any machine."""
_CLUSTER_NAME = re.compile(
    r"(?P<service>[a-z0-9-]+)\.(?P<namespace>[a-z0-9-]+)(\.svc(\.cluster\.local)?)?"
)
_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True)
class Kind:
    """Where the API has a kind of objects.

    Args:
        version: Such as `v1` or `apps/v1`.
        plural: Such as `deployments`.
    """

    version: str
    plural: str

    @property
    def group(self) -> str:
        """Its group; empty for Kubernetes' oldest."""
        return self.version.rpartition("/")[0]

    @property
    def full(self) -> str:
        """As a Role's message names it, such as `deployments.apps`."""
        return f"{self.plural}.{self.group}".rstrip(".")


CONFIG_MAPS, SECRETS = Kind("v1", "configmaps"), Kind("v1", "secrets")
SERVICE_ACCOUNTS, NAMESPACES = Kind("v1", "serviceaccounts"), Kind("v1", "namespaces")
NODES, CLAIMS = Kind("v1", "nodes"), Kind("v1", "persistentvolumeclaims")
QUOTAS, LIMIT_RANGES = Kind("v1", "resourcequotas"), Kind("v1", "limitranges")
DEPLOYMENTS = Kind("apps/v1", "deployments")
STORAGE_CLASSES = Kind("storage.k8s.io/v1", "storageclasses")
ROLE_BINDINGS = Kind("rbac.authorization.k8s.io/v1", "rolebindings")
POLICIES = Kind("networking.k8s.io/v1", "networkpolicies")
GATEWAYS = Kind("gateway.networking.k8s.io/v1", "gateways")
INFERENCE_SERVICES = Kind("serving.kserve.io/v1beta1", "inferenceservices")
SERVING_RUNTIMES = Kind("serving.kserve.io/v1alpha1", "servingruntimes")
STORAGE_CONTAINERS = Kind("serving.kserve.io/v1alpha1", "clusterstoragecontainers")
TRAINING_RUNTIMES = Kind("trainer.kubeflow.org/v1alpha1", "clustertrainingruntimes")
_REVIEWS = "/apis/authorization.k8s.io/v1"
_WHO = "/apis/authentication.k8s.io/v1/selfsubjectreviews"


class Api:
    """An API server, as the account of this pod or of the kubeconfig sees it."""

    def __init__(self) -> None:
        self._client: client.ApiClient = api_client()
        self._few = threading.Semaphore(_AT_ONCE)

    @property
    def address(self) -> str:
        """The server's address."""
        return str(self._client.configuration.host)

    def raw(self, path: str, **query: str) -> Document:
        """Read a path that is no object's, such as `/version`.

        Raises:
            UsageError: There is nothing there, or this account may not read it.
            InfrastructureError: The server is away or at fault.
        """
        return self._call("GET", path, "get", path, path, query)

    def get(self, kind: Kind, name: str, namespace: str = "") -> Document:
        """Read an object.

        Raises:
            NotThere: There is no such object, or no such kind.
            Forbidden: This account may not read it.
            InfrastructureError: The server is away or at fault.
        """
        where = f" in {namespace}" if namespace else ""
        path = f"{_path(kind, namespace)}/{name}"
        return self._call("GET", path, "get", kind.full, f"{kind.plural} {name}{where}", {})

    def find(self, kind: Kind, name: str, namespace: str = "") -> Document | None:
        """Read an object, or None if there is none.

        Raises:
            Forbidden: This account may not read it.
            InfrastructureError: The server is away or at fault.
        """
        try:
            return self.get(kind, name, namespace)
        except NotThere:
            return None

    def list(self, kind: Kind, namespace: str = "", fields: str = "") -> list[Document]:
        """List objects; without a namespace, those of all of them.

        Args:
            kind: Of what.
            namespace: Where.
            fields: A field selector.

        Raises:
            NotThere: There is no such kind.
            Forbidden: This account may not list them.
            InfrastructureError: The server is away or at fault.
        """
        where = f" in {namespace}" if namespace else " in all namespaces"
        query = {"fieldSelector": fields} if fields else {}
        path, what = _path(kind, namespace), f"{kind.plural}{where}"
        items: list[Document] = self._call("GET", path, "list", kind.full, what, query)["items"]
        return items

    def who(self) -> str:
        """Give the name of the account that asks."""
        body = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
        found = self._call("POST", _WHO, "create", "selfsubjectreviews", "a review", {}, body)
        return str(found["status"]["userInfo"].get("username", ""))

    def may(self, attributes: dict[str, str], account: str = "") -> bool:
        """Ask whether an account may do something.

        Args:
            attributes: What: verb, group, resource, subresource, namespace, name.
            account: Its user name; who asks without it.

        Raises:
            Forbidden: Who asks may not ask for others.
        """
        kind = "SubjectAccessReview" if account else "SelfSubjectAccessReview"
        spec: Document = {"resourceAttributes": {k: v for k, v in attributes.items() if v}}
        if account:
            namespace = account.split(":")[2]
            own = ("system:serviceaccounts", f"system:serviceaccounts:{namespace}")
            spec |= {"user": account, "groups": [*own, "system:authenticated"]}
        body = {"apiVersion": "authorization.k8s.io/v1", "kind": kind, "spec": spec}
        plural = f"{kind.lower()}s"
        full = f"{plural}.authorization.k8s.io"
        found = self._call("POST", f"{_REVIEWS}/{plural}", "create", full, "a review", {}, body)
        return bool(found["status"].get("allowed"))

    def ask_service(self, address: str, path: str, **query: str) -> Document:
        """Ask a web service for JSON.

        A service of the cluster that this machine does not know, because it is none of the
        cluster's, is asked through the API server's proxy.

        Args:
            address: Such as http://prometheus.monitoring:9090.
            path: What follows it.
            query: The query.

        Raises:
            UsageError: The API server's proxy may not be used, or the answer is no JSON.
            InfrastructureError: The service does not answer.
        """
        proxy = _proxy(address)
        if proxy:
            answer = self._ask_by_proxy(proxy, address, path, query)
        else:
            answer = _ask(address, path, query)
        if not isinstance(answer, dict):
            raise UsageError(
                f"{address} answers {path} with a page, not with JSON",
                remedy="check the address; if there is a login before it, give the address within "
                "the cluster",
            )
        return answer

    def _ask_by_proxy(self, proxy: str, address: str, path: str, query: dict[str, str]) -> Any:
        try:
            return self._call("GET", proxy + path, "get", "services/proxy", address, query)
        except (InfrastructureError, NotThere) as error:
            raise InfrastructureError(
                f"{address} does not answer {path} through the API server ({error.message})",
                remedy=_AWAY,
            ) from error

    def _call(
        self,
        method: str,
        path: str,
        verb: str,
        kind: str,
        what: str,
        query: dict[str, str],
        body: Document | None = None,
    ) -> Document:
        with self._few, explained(verb, kind, what):
            answer: Document = self._client.call_api(
                path,
                method,
                query_params=list(query.items()),
                header_params={"Accept": "application/json", "Content-Type": "application/json"},
                body=body,
                response_type="object",
                auth_settings=["BearerToken"],
                _return_http_data_only=True,
                _request_timeout=_TIMEOUTS,
            )
        return answer


def _ask(address: str, path: str, query: dict[str, str]) -> Any:
    try:
        response = requests.get(address.rstrip("/") + path, query, timeout=_TIMEOUTS)
        response.raise_for_status()
    except requests.RequestException as error:
        raise InfrastructureError(
            f"{address} does not answer {path} ({error})",
            remedy=_AWAY,
        ) from error
    try:
        return response.json()
    except ValueError:
        return response.text


def _path(kind: Kind, namespace: str) -> str:
    root = f"/apis/{kind.version}" if kind.group else f"/api/{kind.version}"
    return f"{root}/namespaces/{namespace}/{kind.plural}" if namespace else f"{root}/{kind.plural}"


def _proxy(address: str) -> str | None:
    """Give the API server's path to a service; None if this machine can ask it itself."""
    parts = urlsplit(address)
    found = _CLUSTER_NAME.fullmatch(parts.hostname or "")
    if not found or _resolves(parts.hostname or ""):
        return None
    port = parts.port or _PORTS.get(parts.scheme, 80)
    service = f"{parts.scheme}:{found['service']}:{port}"
    return f"/api/v1/namespaces/{found['namespace']}/services/{service}/proxy{parts.path}".rstrip(
        "/"
    )


def _resolves(host: str) -> bool:
    try:
        socket.getaddrinfo(host, None)
    except OSError:
        return False
    return True
