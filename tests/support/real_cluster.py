"""A namespace of a real API server (`MARQUEE_TEST_KUBECONFIG`), and a KServe of ours in it."""

import copy
import json
import os
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import yaml
from crds import FOLDER
from kserve_controller import DISALLOWED, follow
from kubernetes import client, config
from kubernetes.client.exceptions import ApiException

_CRD = "inferenceservices.serving.kserve.io"
_KIND = ("serving.kserve.io", "v1beta1")
_PLURAL = "inferenceservices"


@contextmanager
def real_namespace() -> Iterator[str]:
    """Make a namespace in which InferenceServices get their status as KServe would give it."""
    api = config.new_client_from_config(os.environ["MARQUEE_TEST_KUBECONFIG"])
    _ensure_crd(api)
    name = f"marquee-test-{uuid.uuid4().hex[:8]}"
    core = client.CoreV1Api(api)
    core.create_namespace({"metadata": {"name": name}})
    told = json.dumps({"serviceAnnotationDisallowedList": DISALLOWED})
    core.create_namespaced_config_map(
        name,
        {"metadata": {"name": "inferenceservice-config"}, "data": {"inferenceService": told}},
    )
    ended = threading.Event()
    follower = threading.Thread(target=_follow_all, args=(api, name, ended))
    follower.start()
    try:
        yield name
    finally:
        ended.set()
        follower.join()
        core.delete_namespace(name)


def _ensure_crd(api: Any) -> None:
    crds = client.ApiextensionsV1Api(api)
    try:
        crds.read_custom_resource_definition(_CRD)
    except ApiException as error:
        if error.status != 404:
            raise
        file = FOLDER / "kserve/serving.kserve.io_inferenceservices.yaml"
        crds.create_custom_resource_definition(yaml.safe_load(file.read_text()))


def _follow_all(api: Any, namespace: str, ended: threading.Event) -> None:
    objects = client.CustomObjectsApi(api)
    known: dict[str, Any] = {}
    while not ended.wait(0.05):
        try:
            listed = objects.list_namespaced_custom_object(*_KIND, namespace, _PLURAL)["items"]
            for service in listed:
                _follow_one(objects, service, known)
        except ApiException:
            continue  # not served yet, or somebody else was faster


def _follow_one(objects: Any, service: Any, known: dict[str, Any]) -> None:
    metadata = service["metadata"]
    name, seen = metadata["name"], service.get("status", {})
    service["status"] = copy.deepcopy(known.get(name, {}))
    follow(service)
    if service["status"] == known.get(name) and seen:
        return
    known[name] = copy.deepcopy(service["status"])
    objects.replace_namespaced_custom_object_status(
        *_KIND, metadata["namespace"], _PLURAL, name, service
    )
