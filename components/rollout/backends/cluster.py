"""InferenceServices on an API server: strictly validated, retried, explained when refused."""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

from kubernetes import client, watch

from components.rollout.backends.inference_service import Document, check
from marquee.kubernetes import TIMEOUTS, Forgotten, api_client, explained
from marquee.storage import Conflict

_KIND = ("serving.kserve.io", "v1beta1")
_PLURAL = "inferenceservices"
_CONFIG = "inferenceservice-config"
_TRIES = 8


class Cluster:
    """One namespace's InferenceServices.

    Args:
        namespace: The namespace.
        kubeconfig: Its path; without it the pod's own account, or what kubectl would use.
    """

    def __init__(self, namespace: str, kubeconfig: str = "") -> None:
        self.namespace = namespace
        self._api = client.CustomObjectsApi(api_client(kubeconfig))

    def get(self, name: str) -> Document:
        """Read an InferenceService.

        Raises:
            UsageError: There is none of that name, or this account may not read it.
            InfrastructureError: The API server cannot be reached.
        """
        with self._explained("get", name):
            found: Document = self._api.get_namespaced_custom_object(
                *_KIND, self.namespace, _PLURAL, name, _request_timeout=TIMEOUTS
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
        with explained("get", "configmaps", f"the ConfigMap {_CONFIG} in {namespace}"):
            found = core.read_namespaced_config_map(_CONFIG, namespace, _request_timeout=TIMEOUTS)
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
                _request_timeout=TIMEOUTS,
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
                _request_timeout=TIMEOUTS,
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
            except Forgotten:
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
                _request_timeout=(TIMEOUTS[0], seconds + TIMEOUTS[1]),
            )
            for event in events:
                if event["type"] != "DELETED":
                    yield event["object"]

    def _explained(self, verb: str, name: str) -> AbstractContextManager[None]:
        return explained(
            verb,
            f"{_PLURAL}.{_KIND[0]}",
            f"the InferenceService {name} in {self.namespace}",
            missing="check --name and --namespace",
        )
