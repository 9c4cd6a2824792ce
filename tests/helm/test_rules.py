"""Each rule about rendered objects finds the fault that it is for."""

import copy

import pytest
import rules
import yaml
from crds import FOLDER
from objects import name_of, set_field

HEALTHY = """
apiVersion: v1
kind: ServiceAccount
metadata: {name: marquee-monitoring}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: reader}
rules: [{apiGroups: [""], resources: [configmaps], verbs: [get]}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: reader}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: reader}
subjects: [{kind: ServiceAccount, name: marquee-monitoring, namespace: films}]
---
apiVersion: v1
kind: ConfigMap
metadata: {name: places}
data: {records: "gs://records"}
---
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: claim}
spec: {accessModes: [ReadWriteMany], resources: {requests: {storage: 1Gi}}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: exporter}
spec:
  selector: {matchLabels: {app.kubernetes.io/name: marquee}}
  template:
    metadata: {labels: {app.kubernetes.io/name: marquee}}
    spec:
      serviceAccountName: marquee-monitoring
      automountServiceAccountToken: false
      securityContext: {runAsNonRoot: true, seccompProfile: {type: RuntimeDefault}}
      containers:
      - name: exporter
        image: marquee-monitoring:0.1.0
        env:
        - {name: PLACE, valueFrom: {configMapKeyRef: {name: places, key: records}}}
        - {name: TOKEN, valueFrom: {secretKeyRef: {name: marquee-token, key: token}}}
        ports: [{name: http, containerPort: 9108}]
        resources:
          requests: {cpu: 100m, memory: 128Mi, ephemeral-storage: 1Gi}
          limits: {memory: 128Mi, ephemeral-storage: 1Gi}
        securityContext:
          allowPrivilegeEscalation: false
          readOnlyRootFilesystem: true
          capabilities: {drop: [ALL]}
        volumeMounts: [{name: tmp, mountPath: /tmp}, {name: data, mountPath: /data}]
      volumes:
      - {name: tmp, emptyDir: {sizeLimit: 1Gi}}
      - {name: data, persistentVolumeClaim: {claimName: claim}}
---
apiVersion: v1
kind: Service
metadata: {name: exporter}
spec:
  selector: {app.kubernetes.io/name: marquee}
  ports: [{port: 80, targetPort: http}]
---
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata: {name: exporter}
spec: {maxUnavailable: 1, selector: {matchLabels: {app.kubernetes.io/name: marquee}}}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: exporter}
spec:
  podSelector: {matchLabels: {app.kubernetes.io/name: marquee}}
  policyTypes: [Ingress]
  ingress: [{ports: [{port: http}]}]
---
apiVersion: monitoring.coreos.com/v1
kind: PodMonitor
metadata: {name: exporter}
spec:
  selector: {matchLabels: {app.kubernetes.io/name: marquee}}
  podMetricsEndpoints: [{port: http}]
---
apiVersion: serving.kserve.io/v1alpha1
kind: ServingRuntime
metadata: {name: marquee}
spec:
  supportedModelFormats: [{name: marquee}]
  labels: {app.kubernetes.io/component: serving}
  containers:
  - name: kserve-container
    image: registry.example:5000/marquee-serving:0.1.0
    resources:
      requests: {cpu: "1", memory: 1Gi, ephemeral-storage: 1Gi}
      limits: {memory: 1Gi, ephemeral-storage: 1Gi}
    securityContext:
      allowPrivilegeEscalation: false
      readOnlyRootFilesystem: true
      capabilities: {drop: [ALL]}
---
apiVersion: serving.kserve.io/v1beta1
kind: InferenceService
metadata: {name: poster-genre}
spec:
  predictor:
    minReplicas: 1
    maxReplicas: 2
    automountServiceAccountToken: false
    securityContext: {runAsNonRoot: true, seccompProfile: {type: RuntimeDefault}}
    model: {modelFormat: {name: marquee}, runtime: marquee, storageUri: "gs://models/x"}
---
apiVersion: trainer.kubeflow.org/v1alpha1
kind: ClusterTrainingRuntime
metadata: {name: marquee-cpu}
spec:
  template:
    spec:
      replicatedJobs:
      - name: node
        template:
          spec:
            template:
              spec:
                automountServiceAccountToken: false
                securityContext: {runAsNonRoot: true, seccompProfile: {type: RuntimeDefault}}
                containers:
                - name: node
                  image: marquee-train:0.1.0
                  resources:
                    requests: {cpu: "1", memory: 1Gi, ephemeral-storage: 1Gi}
                    limits: {memory: 1Gi, ephemeral-storage: 1Gi}
                  securityContext:
                    allowPrivilegeEscalation: false
                    readOnlyRootFilesystem: true
                    capabilities: {drop: [ALL]}
"""


def healthy():
    objects = list(yaml.safe_load_all(HEALTHY))
    for each in objects:
        each["metadata"]["labels"] = dict.fromkeys(rules.LABELS, "marquee")
        if each["kind"] == "ClusterTrainingRuntime":
            (job,) = each["spec"]["template"]["spec"]["replicatedJobs"]
            labels = dict.fromkeys(rules.LABELS, "marquee")
            job["template"]["spec"]["template"]["metadata"] = {"labels": labels}
    deployment = objects[5]["spec"]["template"]["metadata"]["labels"]
    deployment |= dict.fromkeys(rules.STABLE, "marquee")
    runtime = next(each for each in objects if each["kind"] == "ServingRuntime")
    runtime["spec"]["labels"] = dict.fromkeys(rules.STABLE, "marquee")
    return objects


def changed(name, path, value):
    """Give the healthy objects with one field changed."""
    objects = healthy()
    (found,) = (each for each in objects if name_of(each) == name)
    set_field(found, path, value)
    return objects


def test_healthy_objects_have_no_faults():
    without_schemas = [rule for rule in rules.RULES if rule is not rules.schemas]
    assert [fault for rule in without_schemas for fault in rule(healthy())] == []


@pytest.mark.skipif(not FOLDER.exists(), reason="needs ../shared/crds")
def test_healthy_objects_pass_the_schemas():
    assert list(rules.schemas(healthy())) == []


POD = "spec.template.spec"
MAIN = f"{POD}.containers.0"
NODE = "spec.template.spec.replicatedJobs.0.template.spec.template.spec"
DEPLOYMENT, SERVICE = "Deployment/exporter", "InferenceService/poster-genre"
MONITOR = "PodMonitor/exporter"
AT = "app.kubernetes.io/name"
FAULTS = [
    (rules.schemas, DEPLOYMENT, f"{MAIN}.imagePull", "Always", "imagePull"),
    (rules.schemas, DEPLOYMENT, f"{MAIN}.env.0.value", 1, "Kubernetes 1.32"),
    (rules.schemas, "ServingRuntime/marquee", "spec.containers.0.imagePull", "x", "imagePull"),
    (rules.metadata, "ConfigMap/places", "metadata.name", "Places", "not a name"),
    (rules.metadata, SERVICE, "metadata.name", "poster.genre", "not a name"),
    (rules.metadata, "ConfigMap/places", "metadata.labels.version", 1.5, "label version"),
    (rules.metadata, "ConfigMap/places", "metadata.labels.version", "a/b", "label version"),
    (rules.metadata, "ConfigMap/places", "metadata.annotations", {"a": True}, "annotation a"),
    (rules.metadata, DEPLOYMENT, f"{POD.removesuffix('.spec')}.metadata.labels.a", "é", "label a"),
    (rules.labelled, "ConfigMap/places", "metadata.labels", {}, "app.kubernetes.io/component"),
    (rules.labelled, "ServingRuntime/marquee", "spec.labels", {}, "its pods are without"),
    (rules.images, DEPLOYMENT, f"{MAIN}.image", "marquee-monitoring", "without tag"),
    (rules.images, DEPLOYMENT, f"{MAIN}.image", "registry:5000/monitoring", "without tag"),
    (rules.images, DEPLOYMENT, f"{MAIN}.image", "monitoring:latest", "latest"),
    (rules.images, "ClusterTrainingRuntime/marquee-cpu", f"{NODE}.containers.0.image", "x", "x"),
    (rules.resources, DEPLOYMENT, f"{MAIN}.resources.requests", {}, "no request of cpu"),
    (rules.resources, DEPLOYMENT, f"{MAIN}.resources.limits", {}, "no limit of memory"),
    (rules.resources, DEPLOYMENT, f"{MAIN}.resources.requests.memory", "1Gi", "more memory"),
    (rules.pod_security, DEPLOYMENT, f"{POD}.hostNetwork", True, "hostNetwork"),
    (rules.pod_security, SERVICE, "spec.predictor.securityContext", {}, "runAsNonRoot"),
    (rules.pod_security, "ClusterTrainingRuntime/marquee-cpu", f"{NODE}.hostIPC", True, "hostIPC"),
    (rules.read_only, DEPLOYMENT, f"{MAIN}.securityContext.readOnlyRootFilesystem", False, "Root"),
    (rules.read_only, SERVICE, "spec.predictor.automountServiceAccountToken", True, "a token"),
    (rules.volumes, DEPLOYMENT, f"{MAIN}.volumeMounts.0.name", "temp", "mounts temp"),
    (rules.volumes, DEPLOYMENT, f"{POD}.volumes.2", {"name": "x", "emptyDir": {}}, "volume x"),
    (rules.volumes, DEPLOYMENT, f"{MAIN}.volumeMounts.1.mountPath", "/tmp", "/tmp is there twice"),
    (rules.volumes, DEPLOYMENT, f"{MAIN}.env.1.name", "PLACE", "PLACE is there twice"),
    (rules.references, "ConfigMap/places", "metadata.name", "other", "ConfigMap places"),
    (rules.references, "ConfigMap/places", "data", {"other": "x"}, "names records of"),
    (rules.references, DEPLOYMENT, f"{MAIN}.env.1.valueFrom.secretKeyRef.name", "x", "Secret x"),
    (rules.references, DEPLOYMENT, f"{MAIN}.env.1.valueFrom.secretKeyRef.key", "x", "names x of"),
    (rules.references, DEPLOYMENT, f"{MAIN}.envFrom", [{"secretRef": {"name": "y"}}], "Secret y"),
    (
        rules.references,
        DEPLOYMENT,
        f"{POD}.volumes.0",
        {"name": "tmp", "secret": {"secretName": "z"}},
        "Secret z",
    ),
    (rules.references, "PersistentVolumeClaim/claim", "metadata.name", "x", "Claim claim"),
    (rules.references, DEPLOYMENT, f"{POD}.serviceAccountName", "x", "ServiceAccount x"),
    (rules.references, SERVICE, "spec.predictor.model.runtime", "x", "ServingRuntime x"),
    (rules.selectors, DEPLOYMENT, "spec.selector.matchLabels", {AT: "x"}, "its own pods"),
    (
        rules.selectors,
        DEPLOYMENT,
        "spec.selector.matchLabels",
        {AT: "marquee", "app.kubernetes.io/version": "1"},
        "its own pods",
    ),
    (rules.selectors, "Service/exporter", "spec.selector", {AT: "x"}, "selects no pod"),
    (rules.selectors, "Service/exporter", "spec.ports.0.targetPort", "web", "port web"),
    (rules.selectors, MONITOR, "spec.selector.matchLabels", {AT: "x"}, "selects no pod"),
    (rules.selectors, MONITOR, "spec.podMetricsEndpoints.0.port", "web", "port web"),
    (
        rules.selectors,
        "PodDisruptionBudget/exporter",
        "spec.selector.matchExpressions",
        [{"key": AT, "operator": "DoesNotExist"}],
        "selects no pod",
    ),
    (rules.selectors, "NetworkPolicy/exporter", "spec.podSelector.matchLabels.x", "y", "no pod"),
    (rules.selectors, "NetworkPolicy/exporter", "spec.ingress.0.ports.0.port", 80, "port 80"),
    (rules.permissions, "RoleBinding/reader", "roleRef.name", "x", "binds Role/x"),
    (rules.permissions, "RoleBinding/reader", "roleRef.name", "x", "Role/reader: is bound to"),
    (rules.permissions, "RoleBinding/reader", "subjects.0.name", "x", "ServiceAccount x"),
    (rules.permissions, "RoleBinding/reader", "subjects.0.kind", "Group", "Group"),
    (rules.permissions, "Role/reader", "rules.0.verbs", ["*"], "gives *"),
    (rules.permissions, "Role/reader", "rules.0.verbs", ["impersonate"], "gives impersonate"),
    (rules.permissions, "Role/reader", "rules.0.resources", ["secrets"], "without naming"),
    (rules.inference_services, SERVICE, "spec.predictor.canaryTrafficPercent", 150, "150"),
    (rules.inference_services, SERVICE, "spec.predictor.minReplicas", 3, "maxReplicas"),
    (rules.inference_services, SERVICE, "spec.predictor.sklearn", {}, "more than one"),
    (rules.inference_services, SERVICE, "spec.predictor.model.storageUri", "ftp://x", "ftp"),
    (
        rules.inference_services,
        SERVICE,
        "spec.canary",
        [{"trafficPercent": 60, "predictor": {}}, {"trafficPercent": 60, "predictor": {}}],
        "120 per cent",
    ),
]


@pytest.mark.parametrize(
    ("rule", "name", "path", "value", "said"),
    FAULTS,
    ids=[f"{rule.__name__}-{path.rpartition('.')[2]}-{said}" for rule, _, path, _, said in FAULTS],
)
def test_a_rule_finds_its_fault(rule, name, path, value, said):
    if rule is rules.schemas and not FOLDER.exists():
        pytest.skip("needs ../shared/crds")
    found = list(rule(changed(name, path, value)))
    assert any(said in fault for fault in found), found


def test_an_object_that_is_there_twice_is_found():
    objects = healthy()
    assert "twice" in next(rules.metadata([*objects, copy.deepcopy(objects[0])]))
