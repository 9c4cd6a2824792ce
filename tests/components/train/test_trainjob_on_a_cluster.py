"""A training of two nodes on CPUs, through our launcher and the Trainer of a real cluster.

What it runs in is the chart's: runtime, accounts, rights and network policies. The launcher runs
in a pod, as on Kubeflow; what it trains on is drawn there before. Launcher
and nodes share a volume, so that no bucket is needed; all of them run on the launcher's node, as a
volume that only one node can mount is what every cluster has.
"""

import os
import time
import uuid

import pytest
from chart import render
from crds import FOLDER
from kubernetes import client, config
from kubernetes.client.exceptions import ApiException
from kubernetes_api import running_kubernetes

RUN = "/mnt/marquee/run"
LAUNCH = f"""
import os
from components.train.launch import train
from components.train.order import Order, Place
from marquee import log
from marquee.errors import MarqueeError
from marquee.run_layout import RunLayout
from marquee.settings import Settings
log.configure()
task = {{
    "env": [{{"name": "MARQUEE_TRAIN_IMAGE", "value": os.environ["IMAGE"]}}],
    "node_selector": {{"kubernetes.io/hostname": os.environ["NODE"]}},
    "volumes": [{{"name": "disk", "persistentVolumeClaim": {{"claimName": "disk"}}}}],
    "volume_mounts": [{{"name": "disk", "mountPath": "/mnt/marquee"}}],
}}
order = Order.of_run(RunLayout("{RUN}"), "custom_cnn", "random")
place = Place(nodes=2, storage_class="none", task=task)
settings = {{"height": 48, "width": 32, "epochs": 3, "batch_size": 16, "precisions": ""}}
try:
    train(order, Settings(train=settings | {{"epochs": 0}}), place)
except MarqueeError as error:
    print("refused with", error.exit_code, error)
report = train(order, Settings(train=settings), place)
print("sealed", report.version, "after", len(report.history), "epochs")
"""
RUNTIMES = ("trainer.kubeflow.org", "v1alpha1", "clustertrainingruntimes")
SECURITY = {
    "runAsNonRoot": True,
    "runAsUser": 10001,
    "runAsGroup": 10001,
    "fsGroup": 10001,
    "seccompProfile": {"type": "RuntimeDefault"},
}


def installed(namespace, prefix):
    """Give what the chart makes for trainings, small enough for any cluster."""
    amounts = {"cpu": "250m", "memory": "2Gi", "ephemeral-storage": "1Gi"}
    values = {
        "pipelines": {"serviceAccounts": ["launcher"]},
        "training": {
            "runtimePrefix": prefix,
            "sharedMemory": "256Mi",
            "cacheSize": "512Mi",
            "resources": {"requests": amounts, "limits": amounts | {"cpu": "1"}},
        },
    }
    names = ("marquee-training", "marquee-steps", f"{prefix}-multi-node")
    return [
        each
        for each in render(values, namespace)
        if each["metadata"]["name"] in names or each["kind"] == "NetworkPolicy"
    ]


def _contained():
    return {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}


def launcher(image, prefix):
    """The pod that draws posters, deals them, and trains."""
    data = image.replace("-train", "-data")
    shared = {
        "volumeMounts": [
            {"name": "disk", "mountPath": "/mnt/marquee"},
            {"name": "tmp", "mountPath": "/tmp"},
        ],
        "securityContext": _contained(),
    }
    marquee = ["python", "-m", "marquee"]
    draw = ["ingest", "--source", "drawn", "--limit", "120", "--out", f"{RUN}/catalog"]
    deal = ["balance", f"{RUN}/catalog", "--out", f"{RUN}/balance", "--genres", "study4"]
    environment = [
        {"name": "IMAGE", "value": image},
        {"name": "MARQUEE_TRAINING_RUNTIMES", "value": prefix},
        {"name": "NODE", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}},
    ]
    return {
        "metadata": {"name": "launcher"},
        "spec": {
            "restartPolicy": "Never",
            "serviceAccountName": "launcher",
            "securityContext": SECURITY,
            "initContainers": [
                {"name": "draw", "image": data, "command": [*marquee, *draw], **shared},
                {"name": "deal", "image": data, "command": [*marquee, *deal], **shared},
            ],
            "containers": [
                {
                    "name": "launcher",
                    "image": image,
                    "command": ["python", "-c", LAUNCH],
                    "env": environment,
                    **shared,
                }
            ],
            "volumes": [
                {"name": "disk", "persistentVolumeClaim": {"claimName": "disk"}},
                {"name": "tmp", "emptyDir": {}},
            ],
        },
    }


def begin(api, namespace, image, prefix):
    """Create all that the training needs, strictly validated."""
    core, rbac = client.CoreV1Api(api), client.RbacAuthorizationV1Api(api)
    strict = {"field_validation": "Strict"}
    create = {
        "ServiceAccount": core.create_namespaced_service_account,
        "Role": rbac.create_namespaced_role,
        "RoleBinding": rbac.create_namespaced_role_binding,
        "NetworkPolicy": client.NetworkingV1Api(api).create_namespaced_network_policy,
        "ClusterTrainingRuntime": lambda _, body, **options: client.CustomObjectsApi(
            api
        ).create_cluster_custom_object(*RUNTIMES, body, **options),
    }
    for each in installed(namespace, prefix):
        create[each["kind"]](namespace, each, **strict)
    claim = {
        "accessModes": ["ReadWriteOnce"],
        "resources": {"requests": {"storage": "2Gi"}},
    }
    core.create_namespaced_persistent_volume_claim(
        namespace, {"metadata": {"name": "disk"}, "spec": claim}, **strict
    )
    core.create_namespaced_service_account(namespace, {"metadata": {"name": "launcher"}}, **strict)
    core.create_namespaced_pod(namespace, launcher(image, prefix), **strict)


def end(api, prefix):
    """Delete what no namespace takes with it, if it came to be."""
    try:
        client.CustomObjectsApi(api).delete_cluster_custom_object(*RUNTIMES, f"{prefix}-multi-node")
    except ApiException as error:
        if error.status != 404:
            raise


def test_what_the_training_needs_is_valid(tmp_path):
    if not FOLDER.exists():
        pytest.skip("needs Trainer's CRDs in ../shared/crds")
    compile(LAUNCH, "launcher", "exec")
    with running_kubernetes(crds=("trainer",)) as server:
        api = config.new_client_from_config(server.kubeconfig(tmp_path))
        begin(api, "films", "registry/marquee-train:1", "marquee-test")
        assert server.get("Pod", "launcher", "films")
        assert {each["kind"] for each in installed("films", "marquee-test")} == {
            *("ClusterTrainingRuntime", "ServiceAccount", "Role", "RoleBinding", "NetworkPolicy")
        }
        end(api, "marquee-test")
        assert server.all("ClusterTrainingRuntime") == []
        end(api, "marquee-test")


@pytest.mark.cluster
@pytest.mark.timeout(1800)
def test_two_nodes_train_through_kubeflow_trainer():
    image = os.environ.get("MARQUEE_TEST_TRAIN_IMAGE")
    if not image:
        pytest.skip("needs an image: set MARQUEE_TEST_TRAIN_IMAGE (and push -data beside it)")
    api = config.new_client_from_config(os.environ["MARQUEE_TEST_KUBECONFIG"])
    core = client.CoreV1Api(api)
    name = f"marquee-test-{uuid.uuid4().hex[:8]}"
    core.create_namespace({"metadata": {"name": name}})
    try:
        begin(api, name, image, name)
        deadline = time.monotonic() + 1500
        while (phase := _phase(core, name)) not in ("Succeeded", "Failed"):
            assert time.monotonic() < deadline, phase
            time.sleep(5)
        said = core.read_namespaced_pod_log("launcher", name, container="launcher")
        assert phase == "Succeeded", said
        assert "refused with 2 train.epochs is 0" in said
        assert "sealed" in said
        jobs = client.CustomObjectsApi(api).list_namespaced_custom_object(
            "trainer.kubeflow.org", "v1alpha1", name, "trainjobs"
        )["items"]
        assert [job["spec"]["trainer"]["numNodes"] for job in jobs] == [2]
    finally:
        try:
            core.delete_namespace(name)
        finally:
            end(api, name)


def _phase(core, namespace):
    return core.read_namespaced_pod("launcher", namespace).status.phase
