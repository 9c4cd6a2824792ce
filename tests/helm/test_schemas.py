"""The schemas that hold the chart's objects against other projects' kinds can refuse."""

import copy

import pytest
import yaml
from crds import FOLDER, problem_of
from objects import set_field

pytestmark = pytest.mark.skipif(not FOLDER.exists(), reason="needs ../shared/crds")

VALID = """
apiVersion: trainer.kubeflow.org/v1alpha1
kind: ClusterTrainingRuntime
metadata: {name: runtime}
spec:
  mlPolicy: {numNodes: 1, torch: {}}
  template:
    spec:
      replicatedJobs:
      - name: node
        template: {spec: {template: {spec: {containers: [{name: node, image: train}]}}}}
---
apiVersion: keda.sh/v1alpha1
kind: ScaledObject
metadata: {name: scaled}
spec:
  scaleTargetRef: {name: reports}
  triggers: [{type: cpu, metadata: {value: "60"}}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: route}
spec:
  parentRefs: [{name: gateway}]
  rules:
  - matches: [{path: {type: PathPrefix, value: /reports}}]
    backendRefs: [{name: reports, port: 80}]
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: reports}
spec:
  selector: {matchLabels: {app: reports}}
  action: ALLOW
  rules: [{from: [{source: {namespaces: [films]}}]}]
---
apiVersion: monitoring.coreos.com/v1
kind: PodMonitor
metadata: {name: serving}
spec:
  selector: {matchLabels: {app: serving}}
  podMetricsEndpoints: [{port: http}]
---
apiVersion: kubeflow.org/v1beta1
kind: Experiment
metadata: {name: search}
spec:
  maxTrialCount: 3
  objective: {type: maximize, objectiveMetricName: map}
---
apiVersion: serving.kserve.io/v1beta1
kind: InferenceService
metadata: {name: poster-genre}
spec:
  predictor:
    model: {modelFormat: {name: marquee}, storageUri: "gs://models/x"}
---
apiVersion: serving.kserve.io/v1alpha1
kind: ServingRuntime
metadata: {name: marquee}
spec:
  supportedModelFormats: [{name: marquee}]
  containers: [{name: kserve-container, image: serving}]
"""
OBJECTS = {each["kind"]: each for each in yaml.safe_load_all(VALID)}


@pytest.mark.parametrize("kind", OBJECTS)
def test_an_object_that_is_right_passes(kind):
    assert problem_of(OBJECTS[kind]) == ""


NODE = "spec.template.spec.replicatedJobs.0.template.spec.template.spec"
WRONG = {
    "unknown-at-the-top": ("ServingRuntime", "extra", 1, "extra"),
    "unknown-in-the-spec": ("ScaledObject", "spec.minReplicas", 1, "minReplicas"),
    "unknown-in-an-embedded-pod": ("ClusterTrainingRuntime", f"{NODE}.restart", "Never", "restart"),
    "unknown-in-a-container": ("ServingRuntime", "spec.containers.0.cpu", 1, "cpu"),
    "out-of-an-enum": ("InferenceService", "spec.predictor.scaleMetric", "gpu", "scaleMetric"),
    "a-string-for-a-number": (
        "InferenceService",
        "spec.predictor.canaryTrafficPercent",
        "10",
        "canaryTrafficPercent",
    ),
    "two-policies": ("ClusterTrainingRuntime", "spec.mlPolicy.jax", {}, "Only one"),
    "a-rule-of-cel": ("ScaledObject", "spec.minReplicaCount", 200, "minReplicaCount"),
    "a-rule-after-defaults": (
        "HTTPRoute",
        "spec.rules.0.matches.0.path",
        {"value": "reports"},
        "value must be an absolute path",
    ),
    "the-same-key-twice": (
        "ClusterTrainingRuntime",
        f"{NODE}.containers.1",
        {"name": "node", "image": "other"},
        "there twice",
    ),
    "a-name-that-is-missing": ("PodMonitor", "metadata", {}, "name"),
    "one-of-two-ways": (
        "AuthorizationPolicy",
        "spec.targetRef",
        {"kind": "Gateway", "name": "x"},
        "only one of targetRefs or selector",
    ),
}


@pytest.mark.parametrize(("kind", "path", "value", "said"), WRONG.values(), ids=WRONG)
def test_an_object_that_is_wrong_does_not(kind, path, value, said):
    document = copy.deepcopy(OBJECTS[kind])
    set_field(document, path, value)
    assert said in problem_of(document)


def test_a_version_that_is_not_served_is_refused():
    with pytest.raises(KeyError, match="v1beta1"):
        problem_of({**OBJECTS["ScaledObject"], "apiVersion": "keda.sh/v1beta1"})
