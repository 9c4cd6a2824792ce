"""A cluster of our API server with all of Kubeflow that Marquee wants, and the chart installed."""

import json
import re
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import yaml
from chart import NAMESPACE, render
from crds import FOLDER
from helpers import ROOT
from kfp_server import running_kfp
from kubernetes_api import running_kubernetes
from kubernetes_controllers import ready

NAMESPACES = (NAMESPACE, "kserve", "kubeflow", "kubeflow-system", "monitoring")
CONTROLLERS = {
    "ml-pipeline": ("kubeflow", "ghcr.io/kubeflow/kfp-api-server:2.17.0"),
    "kserve-controller-manager": ("kserve", "kserve/kserve-controller:v0.20.0"),
    "kubeflow-trainer-controller-manager": (
        "kubeflow-system",
        "ghcr.io/kubeflow/trainer/trainer-controller-manager:v2.3.0",
    ),
    "jobset-controller-manager": ("kubeflow-system", "registry.k8s.io/jobset/jobset:v0.12.0"),
}
SECRETS = {
    "marquee-tokens": "tokens",
    "marquee-signing": "key.pem",
    "marquee-token": "token",
    "marquee-tmdb": "read-access-token",
    "marquee-webhook": "url",
    "marquee-kfp": "token",
}
VALUES = {
    "prometheus": {"address": "http://prometheus.monitoring.svc.cluster.local:9090"},
    "schedules": [{"name": "daily", "pipeline": "marquee-monitoring", "every": "24h"}],
    "inferenceService": {"storageUri": "gs://films/models/1"},
}
ISTIO = ("istio_requests_total", "istio_request_duration_milliseconds_bucket")


@contextmanager
def running_kubeflow():
    """Run a cluster in which nothing is missing; the server has `kfp` and `prometheus` besides."""
    with (
        running_kubernetes(namespaces=NAMESPACES, controllers=[ready]) as api,
        running_kfp() as kfp,
        running_prometheus() as prometheus,
    ):
        api.kfp, api.prometheus = kfp, prometheus
        api.services = {
            ("kubeflow", "ml-pipeline"): kfp.url,
            ("monitoring", "prometheus"): prometheus.url,
        }
        for name, (namespace, image) in CONTROLLERS.items():
            api.put(_deployment(name, namespace, image))
        for document in (_kserve_config(), _initializer(), _gateway(), _node(), _storage_class()):
            api.put(document)
        for name, key in SECRETS.items():
            api.put(secret(name, {key: "eA=="}))
        for document in render(VALUES):
            api.put(document)
        label = {"pod-security.kubernetes.io/enforce": "restricted"}
        namespace = api.get("Namespace", NAMESPACE)
        namespace["metadata"]["labels"] = label
        api.put(namespace)
        yield api


def secret(name, data):
    metadata = {"name": name, "namespace": NAMESPACE}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "data": data}


def _deployment(name, namespace, image):
    labels = {"app": name}
    containers = [{"name": "manager", "image": image}]
    if name == "kserve-controller-manager":
        # A sidecar whose number would do for KServe.
        proxy = "quay.io/brancz/kube-rbac-proxy:v0.18.0"
        containers.append({"name": "kube-rbac-proxy", "image": proxy})
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": {"containers": containers}},
        },
    }


def _kserve_config():
    """KServe's own settings, with what docs/install.md has people change in them."""
    document = yaml.safe_load((FOLDER / "kserve-webhook/inferenceservice.yaml").read_text())
    kept = ("rollout", "rollout-request", "rollout-canary-revision")
    changes = {
        "deploy": {"defaultDeploymentMode": "Standard"},
        "ingress": {"enableGatewayApi": True},
        "inferenceService": {"serviceAnnotationDisallowedList": [f"marquee.dev/{n}" for n in kept]},
    }
    for section, change in changes.items():
        document["data"][section] = json.dumps(json.loads(document["data"][section]) | change)
    return document


def _initializer():
    """KServe's, with what docs/install.md has people patch into it."""
    page = (ROOT / "docs/install.md").read_text()
    patch = re.search(r"kubectl patch clusterstoragecontainer default .* -p '(.*)'", page)
    container = {"name": "storage-initializer", "image": "kserve/storage-initializer:v0.20.0"}
    return {
        "apiVersion": "serving.kserve.io/v1alpha1",
        "kind": "ClusterStorageContainer",
        "metadata": {"name": "default"},
        "spec": {
            "container": container | json.loads(patch[1])["spec"]["container"],
            "supportedUriFormats": [{"prefix": "gs://"}],
        },
    }


def _gateway():
    return {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "Gateway",
        "metadata": {"name": "kserve-ingress-gateway", "namespace": "kserve"},
        "spec": {
            "gatewayClassName": "istio",
            "listeners": [{"name": "http", "port": 80, "protocol": "HTTP"}],
        },
        "status": {"conditions": [{"type": "Programmed", "status": "True"}]},
    }


def _node():
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": "gpu-1"},
        "spec": {"taints": [{"key": "nvidia.com/gpu", "value": "present", "effect": "NoSchedule"}]},
        "status": {"allocatable": {"nvidia.com/gpu": "4"}},
    }


def _storage_class():
    annotations = {"storageclass.kubernetes.io/is-default-class": "true"}
    return {
        "apiVersion": "storage.k8s.io/v1",
        "kind": "StorageClass",
        "metadata": {"name": "standard", "annotations": annotations},
        "provisioner": "example.com/disk",
    }


class Prometheus(ThreadingHTTPServer):
    """Says which of its metrics there are."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.metrics = list(ISTIO)

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    def log_message(self, *arguments):
        pass

    def do_GET(self):
        found = [{"metric": {"__name__": name}, "value": [0, "1"]} for name in self.server.metrics]
        data = json.dumps({"status": "success", "data": {"result": found}}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


@contextmanager
def running_prometheus():
    server = Prometheus()
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
