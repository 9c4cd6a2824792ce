"""InferenceServices on an API server: strictly validated, retried, explained when refused."""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from kubernetes import client, config, watch
from kubernetes.client.exceptions import ApiException
from urllib3.exceptions import HTTPError

from components.rollout.backends.inference_service import Document, check
from marquee.errors import InfrastructureError, UsageError
from marquee.storage import Conflict

_KIND = ("serving.kserve.io", "v1beta1")
_PLURAL = "inferenceservices"
_CONFIG = "inferenceservice-config"
_TRIES = 8
_TIMEOUTS = (5, 30)
"""Seconds to connect, and to wait for an answer."""


class Cluster:
    """One namespace's InferenceServices.

    Args:
        namespace: The namespace.
        kubeconfig: Its path; without it the pod's own account, or what kubectl would use.
    """

    def __init__(self, namespace: str, kubeconfig: str = "") -> None:
        self.namespace = namespace
        self._api = client.CustomObjectsApi(_api_client(kubeconfig))

    def get(self, name: str) -> Document:
        """Read an InferenceService.

        Raises:
            UsageError: There is none of that name, or this account may not read it.
            InfrastructureError: The API server cannot be reached.
        """
        with self._explained("get", name):
            found: Document = self._api.get_namespaced_custom_object(
                *_KIND, self.namespace, _PLURAL, name, _request_timeout=_TIMEOUTS
            )
        return found

    def kserve_settings(self, namespace: str) -> dict[str, Any]:
        """Read what KServe is told of InferenceServices in general.

        Args:
            namespace: Where KServe itself is.

        Raises:
            UsageError: It is not there, or this account may not read it.
        """
        core = client.CoreV1Api(self._api.api_client)
        with self._explained("get", _CONFIG, f"the ConfigMap {_CONFIG} in {namespace}"):
            found = core.read_namespaced_config_map(_CONFIG, namespace, _request_timeout=_TIMEOUTS)
        settings: dict[str, Any] = json.loads((found.data or {}).get("inferenceService", "{}"))
        return settings

    def change(self, name: str, change: Callable[[Document], Document]) -> Document:
        """Change an InferenceService; again, from what is there by then, if another was faster.

        Args:
            name: Its name.
            change: Gives the new object for the present one; the same if nothing is to change.

        Returns:
            The object as it now is.

        Raises:
            UsageError: It is missing or refused, or the new object is wrong.
            Conflict: Others kept being faster.
            InfrastructureError: The API server cannot be reached.
        """
        for attempt in range(_TRIES):
            old = self.get(name)
            new = change(old)
            if new == old:
                return old
            check(new)
            try:
                return self._replace(name, new)
            except Conflict:
                time.sleep(0.05 * 2**attempt)
        raise Conflict(f"the InferenceService {name} has too many writers", remedy="try again")

    def rehearse(self, name: str, change: Callable[[Document], Document]) -> None:
        """Have the API server check a change without making it.

        Raises:
            UsageError: It would refuse it, or the new object is wrong.
        """
        new = change(self.get(name))
        check(new)
        self._replace(name, new, dry_run="All")

    def _replace(self, name: str, new: Document, **options: str) -> Document:
        with self._explained("update", name):
            changed: Document = self._api.replace_namespaced_custom_object(
                *_KIND,
                self.namespace,
                _PLURAL,
                name,
                new,
                field_validation="Strict",
                _request_timeout=_TIMEOUTS,
                **options,
            )
        return changed

    def create(self, new: Document) -> Document:
        """Create an InferenceService."""
        check(new)
        with self._explained("create", new["metadata"]["name"]):
            made: Document = self._api.create_namespaced_custom_object(
                *_KIND,
                self.namespace,
                _PLURAL,
                new,
                field_validation="Strict",
                _request_timeout=_TIMEOUTS,
            )
        return made

    def changes(self, name: str, seconds: float) -> Iterator[Document]:
        """Watch an InferenceService.

        What the API server has forgotten (410) is read anew, and a watch that breaks is begun again
        from where it was.

        Args:
            name: Its name.
            seconds: How long to watch.

        Yields:
            The object, first as it is and then whenever it changes.
        """
        deadline = time.monotonic() + seconds
        document = self.get(name)
        yield document
        seen = document["metadata"]["resourceVersion"]
        while (left := deadline - time.monotonic()) > 0:
            try:
                for document in self._watched(name, seen, left):
                    seen = document["metadata"]["resourceVersion"]
                    yield document
            except _Forgotten:
                document = self.get(name)
                seen = document["metadata"]["resourceVersion"]
                yield document

    def _watched(self, name: str, since: str, seconds: float) -> Iterator[Document]:
        with self._explained("watch", name):
            events = watch.Watch().stream(
                self._api.list_namespaced_custom_object,
                *_KIND,
                self.namespace,
                _PLURAL,
                field_selector=f"metadata.name={name}",
                resource_version=since,
                timeout_seconds=max(1, round(seconds)),
                # A connection that is dead but not closed would never end.
                _request_timeout=(_TIMEOUTS[0], seconds + _TIMEOUTS[1]),
            )
            for event in events:
                if event["type"] != "DELETED":
                    yield event["object"]

    @contextmanager
    def _explained(self, verb: str, name: str, what: str = "") -> Iterator[None]:
        what = what or f"the InferenceService {name} in {self.namespace}"
        try:
            yield
        except ApiException as error:
            raise _explain(error, verb, what) from error
        except (HTTPError, OSError) as error:
            raise InfrastructureError(
                f"the API server cannot be reached ({error})", remedy="check the kubeconfig"
            ) from error


def _explain(error: ApiException, verb: str, what: str) -> Exception:
    match error.status:
        case 409:
            return Conflict(f"{what} was changed by another", remedy="try again")
        case 410:
            return _Forgotten()
        case 404:
            return UsageError(f"there is no {what}", remedy="check --name and --namespace")
        case 401:
            return UsageError("the API server does not know who asks", remedy="log in again")
        case 403:
            kind = "configmaps" if "ConfigMap" in what else f"{_PLURAL}.{_KIND[0]}"
            return UsageError(
                f"this account may not {verb} {what}",
                remedy=f"give it the verb {verb!r} on {kind} there",
            )
        case 400 | 422:
            return UsageError(f"{what} was refused: {error.body}", remedy="mend the object")
    return InfrastructureError(
        f"the API server answered {error.status} ({error.reason})", remedy="try again"
    )


class _Forgotten(Exception):
    """The API server no longer has what was watched (410)."""


def _api_client(kubeconfig: str) -> Any:
    try:
        if kubeconfig:
            return config.new_client_from_config(kubeconfig)
        try:
            config.load_incluster_config()
            return client.ApiClient()
        except config.ConfigException:
            return config.new_client_from_config()
    except (config.ConfigException, OSError) as error:
        raise UsageError(
            f"no cluster to talk to ({error})", remedy="set KUBECONFIG, or run in a pod"
        ) from error


def is_configured() -> bool:
    """Tell whether a pod's account or a kubeconfig says which cluster to talk to."""
    try:
        _api_client("")
    except UsageError:
        return False
    return True


def default_namespace() -> str:
    """Give the namespace of this pod, or of what kubectl would use."""
    account = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
    if account.exists():
        return account.read_text(encoding="utf-8").strip()
    try:
        context = config.list_kube_config_contexts()[1]
    except (config.ConfigException, OSError):
        return "default"
    return str(context["context"].get("namespace", "default"))
