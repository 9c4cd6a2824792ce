"""What has to hold among the objects that are installed together, and no schema says.

A rule takes all objects and yields a sentence about each fault.
"""

import re

from kubernetes.utils.quantity import parse_quantity
from objects import (
    WITHOUT_SCHEMA,
    containers_of,
    is_label_value,
    is_object_name,
    name_of,
    pods_of,
    problem_of,
)
from pod_security import violations

LABELS = (
    "app.kubernetes.io/name",
    "app.kubernetes.io/instance",
    "app.kubernetes.io/component",
    "app.kubernetes.io/part-of",
    "app.kubernetes.io/version",
    "app.kubernetes.io/managed-by",
)
STABLE = LABELS[:3]
"""Labels that pods are selected by; pods need no more than these."""
SECRETS = {
    "marquee-signing": {"key.pem"},
    "marquee-token": {"token"},
    "marquee-tokens": {"tokens"},
    "marquee-tmdb": {"read-access-token"},
    "marquee-webhook": {"url"},
    "marquee-kfp": {"token"},
    "marquee-storage": {
        "AWS_ACCESS_KEY_ID",
        "AWS_SECRET_ACCESS_KEY",
        "AWS_ENDPOINT_URL",
        "key.json",
    },
}
"""Secrets that people make: those of docs/install.md."""
NAMED_SECRETS = {"marquee-reports": {"secret"}}
"""Secrets whose names the values of `chart_cases` choose."""
FOREIGN_ACCOUNTS = {"pipeline-runner", "default-editor"}
"""Service accounts of Kubeflow that our Roles are bound to."""
SCHEMES = ("gs://", "s3://", "pvc://", "https://", "http://", "hf://", "oci://")
"""What KServe's storage initializer takes of what Marquee documents."""


def _of_kind(objects, *kinds):
    return [each for each in objects if each["kind"] in kinds]


def _names(objects, *kinds):
    return {each["metadata"]["name"] for each in _of_kind(objects, *kinds)}


def schemas(objects):
    """Strict schemas take every object."""
    for each in objects:
        if each["kind"] not in WITHOUT_SCHEMA and (problem := problem_of(each)):
            yield f"{name_of(each)}: {problem}"


def metadata(objects):
    """Names and labels have Kubernetes' syntax, and no object is there twice."""
    seen = set()
    for each in objects:
        about = each["metadata"]
        key = (each["apiVersion"], each["kind"], about.get("namespace"), about["name"])
        if key in seen:
            yield f"{name_of(each)}: is there twice"
        seen.add(key)
        dotless = each["kind"] in ("Service", "InferenceService", "TrainJob")
        if not is_object_name(about["name"]) or (dotless and "." in about["name"]):
            yield f"{name_of(each)}: not a name"
        for pod in [about, *(pod.declared for pod in pods_of([each]))]:
            for label, value in pod.get("labels", {}).items():
                if not is_label_value(value):
                    yield f"{name_of(each)}: label {label} cannot be {value!r}"
            for annotation, value in pod.get("annotations", {}).items():
                if not isinstance(value, str):
                    yield f"{name_of(each)}: annotation {annotation} is no string: {value!r}"


def labelled(objects):
    """Every object and every pod says whose it is."""
    for each in objects:
        missing = set(LABELS) - set(each["metadata"].get("labels", {}))
        if missing:
            yield f"{name_of(each)}: without the label {min(missing)}"
        for pod in pods_of([each]):
            if missing := set(STABLE) - set(pod.declared.get("labels", {})):
                yield f"{name_of(each)}: its pods are without the label {min(missing)}"


def images(objects):
    """Images have a fixed tag or a digest."""
    for pod in pods_of(objects):
        for container in containers_of(pod.spec):
            image = container.get("image", "")
            if not re.search(r"(@sha256:[0-9a-f]{64}|[^/]:[\w.-]+)$", image):
                yield f"{pod.owner}: {container['name']}: image {image!r} without tag or digest"
            if image.endswith(":latest"):
                yield f"{pod.owner}: {container['name']}: image {image!r} is whatever is latest"


def resources(objects):
    """Containers ask for CPU, memory and disk, within their bound; the latter two have one."""
    for pod in pods_of(objects):
        for container in containers_of(pod.spec):
            at = f"{pod.owner}: {container['name']}"
            asked = container.get("resources", {}).get("requests", {})
            bound = container.get("resources", {}).get("limits", {})
            for name in ("cpu", "memory", "ephemeral-storage"):
                if name not in asked:
                    yield f"{at}: no request of {name}"
                if name != "cpu" and name not in bound:
                    yield f"{at}: no limit of {name}"
            for name in asked.keys() & bound.keys():
                if parse_quantity(asked[name]) > parse_quantity(bound[name]):
                    yield f"{at}: asks for more {name} than its limit"


def pod_security(objects):
    """Every pod passes the profile `restricted`."""
    for pod in pods_of(objects):
        for problem in violations(pod.spec):
            yield f"{pod.owner}: {problem}"


def read_only(objects):
    """No container writes to its root; pods that need no token of the API server have none."""
    for pod in pods_of(objects):
        for container in containers_of(pod.spec):
            if not container.get("securityContext", {}).get("readOnlyRootFilesystem"):
                yield f"{pod.owner}: {container['name']}: readOnlyRootFilesystem is not set"
        token = pod.spec.get("automountServiceAccountToken")
        if token is not False and not _may_ask(objects, pod.spec.get("serviceAccountName")):
            yield f"{pod.owner}: a token of the API server without any use for it"


def _may_ask(objects, account):
    bindings = _of_kind(objects, "RoleBinding", "ClusterRoleBinding")
    subjects = [subject for each in bindings for subject in each.get("subjects", ())]
    return any(each["name"] == account for each in subjects)


def volumes(objects):
    """What is mounted is a volume, each volume is mounted, and nothing is there twice."""
    for pod in pods_of(objects):
        there = [each["name"] for each in pod.spec.get("volumes", ())]
        mounted = set()
        for container in containers_of(pod.spec):
            mounts = container.get("volumeMounts", ())
            places = [each["mountPath"] for each in mounts]
            env = [each["name"] for each in container.get("env", ())]
            for what, names in (("mount at", places), ("variable", env)):
                for name in sorted({name for name in names if names.count(name) > 1}):
                    yield f"{pod.owner}: {container['name']}: the {what} {name} is there twice"
            mounted |= {each["name"] for each in mounts}
        for name in sorted(mounted - set(there)):
            yield f"{pod.owner}: mounts {name}, which is no volume of it"
        for name in sorted(set(there) - mounted):
            yield f"{pod.owner}: volume {name} is mounted nowhere"


def references(objects):
    """What pods name exists: ConfigMaps and Secrets with their keys, volumes, service accounts."""
    maps = {each["metadata"]["name"]: each for each in _of_kind(objects, "ConfigMap")}
    keys = {name: set(each.get("data", {})) for name, each in maps.items()}
    for pod in pods_of(objects):
        for kind, name, key, optional in _references(pod.spec):
            known = SECRETS | NAMED_SECRETS if kind == "Secret" else keys
            if name not in known and not (optional and kind == "ConfigMap"):
                yield f"{pod.owner}: names the {kind} {name}, which nobody makes"
            elif key and key not in known.get(name, {key}):
                yield f"{pod.owner}: names {key} of the {kind} {name}, not of {sorted(known[name])}"
        for volume in pod.spec.get("volumes", ()):
            claim = volume.get("persistentVolumeClaim", {}).get("claimName")
            if claim and claim not in _names(objects, "PersistentVolumeClaim"):
                yield f"{pod.owner}: names the PersistentVolumeClaim {claim}, which nobody makes"
        account = pod.spec.get("serviceAccountName")
        if account and account not in _names(objects, "ServiceAccount") | FOREIGN_ACCOUNTS:
            yield f"{pod.owner}: names the ServiceAccount {account}, which nobody makes"
    for service in _of_kind(objects, "InferenceService"):
        runtime = service["spec"]["predictor"].get("model", {}).get("runtime")
        if runtime and runtime not in _names(objects, "ServingRuntime"):
            yield f"{name_of(service)}: names the ServingRuntime {runtime}, which nobody makes"


def _references(spec):
    """Give kind, name, key and whether it may be missing, of everything that a pod takes in."""
    for container in containers_of(spec):
        for variable in container.get("env", ()):
            source = variable.get("valueFrom", {})
            for kind, field in (("Secret", "secretKeyRef"), ("ConfigMap", "configMapKeyRef")):
                if one := source.get(field):
                    yield kind, one["name"], one["key"], one.get("optional", False)
        for source in container.get("envFrom", ()):
            for kind, field in (("Secret", "secretRef"), ("ConfigMap", "configMapRef")):
                if one := source.get(field):
                    yield kind, one["name"], "", one.get("optional", False)
    for volume in spec.get("volumes", ()):
        sources = [volume, *volume.get("projected", {}).get("sources", ())]
        for source in sources:
            for kind, field in (("Secret", "secret"), ("ConfigMap", "configMap")):
                if one := source.get(field):
                    name, optional = (
                        one.get("secretName") or one["name"],
                        one.get("optional", False),
                    )
                    for item in one.get("items", ({"key": ""},)):
                        yield kind, name, item["key"], optional


def selectors(objects):
    """Whatever selects pods finds some, and the ports that it names."""
    pods = list(pods_of(objects))
    for each in objects:
        spec = each.get("spec", {})
        if each["kind"] in ("Deployment", "StatefulSet", "DaemonSet"):
            if not _matches(spec["selector"], spec["template"]["metadata"].get("labels", {})):
                yield f"{name_of(each)}: does not select its own pods"
            if unstable := set(spec["selector"]["matchLabels"]) - set(STABLE):
                yield f"{name_of(each)}: selects by {min(unstable)}, which may never change"
            continue
        if each["kind"] == "Service":
            wanted = {"matchLabels": spec["selector"]}
            ports = [port.get("targetPort", port["port"]) for port in spec["ports"]]
        elif each["kind"] == "PodMonitor":
            wanted = spec["selector"]
            ports = [end.get("port", end.get("portNumber")) for end in spec["podMetricsEndpoints"]]
        elif each["kind"] == "PodDisruptionBudget":
            wanted, ports = spec["selector"], []
        elif each["kind"] == "NetworkPolicy":
            wanted, ports = spec["podSelector"], _ingress_ports(spec)
        elif each["kind"] == "AuthorizationPolicy" and "selector" in spec:
            wanted, ports = spec["selector"], []
        else:
            continue
        found = [pod for pod in pods if _matches(wanted, pod.labels)]
        if not found and wanted:
            yield f"{name_of(each)}: selects no pod by {wanted}"
        known = {port for pod in found for port in (*_ports(pod.spec), *pod.joined)}
        for port in ports if found else ():
            if port not in known:
                yield f"{name_of(each)}: no pod that it selects has port {port}, only {known}"


def _matches(selector, labels):
    if not all(labels.get(key) == value for key, value in selector.get("matchLabels", {}).items()):
        return False
    for each in selector.get("matchExpressions", ()):
        value, values = labels.get(each["key"]), each.get("values", ())
        holds = {
            "In": value in values,
            "NotIn": value not in values,
            "Exists": value is not None,
            "DoesNotExist": value is None,
        }
        if not holds[each["operator"]]:
            return False
    return True


def _ports(spec):
    for container in containers_of(spec):
        for port in container.get("ports", ()):
            yield port["containerPort"]
            yield port.get("name")


def _ingress_ports(spec):
    return [port["port"] for rule in spec.get("ingress") or () for port in rule.get("ports", ())]


def permissions(objects):
    """Roles are bound to accounts that exist, and give nothing wholesale."""
    roles = {name_of(each) for each in _of_kind(objects, "Role", "ClusterRole")}
    bound = set()
    accounts = _names(objects, "ServiceAccount") | FOREIGN_ACCOUNTS
    for each in _of_kind(objects, "RoleBinding", "ClusterRoleBinding"):
        role = f"{each['roleRef']['kind']}/{each['roleRef']['name']}"
        bound.add(role)
        if role not in roles:
            yield f"{name_of(each)}: binds {role}, which nobody makes"
        for subject in each.get("subjects", ()):
            if subject["kind"] != "ServiceAccount" or subject["name"] not in accounts:
                yield f"{name_of(each)}: {subject['kind']} {subject['name']} does not exist"
    for role in sorted(roles - bound):
        yield f"{role}: is bound to nobody"
    for each in _of_kind(objects, "Role", "ClusterRole"):
        for rule in each["rules"]:
            words = {*rule.get("apiGroups", ()), *rule.get("resources", ()), *rule["verbs"]}
            for word in sorted(words & _WHOLESALE):
                yield f"{name_of(each)}: gives {word}"
            if "secrets" in rule.get("resources", ()) and "resourceNames" not in rule:
                yield f"{name_of(each)}: gives secrets without naming them"


_WHOLESALE = {"*", "escalate", "bind", "impersonate", "deletecollection"}


def inference_services(objects):
    """An InferenceService has nothing that only KServe's webhook or controller objects to."""
    for each in _of_kind(objects, "InferenceService"):
        spec, at = each["spec"], name_of(each)
        shares = [canary.get("trafficPercent", 0) for canary in spec.get("canary", ())]
        if sum(shares) > 100:
            yield f"{at}: canaries with {sum(shares)} per cent of the traffic"
        canaries = [canary["predictor"] for canary in spec.get("canary", ())]
        for predictor in [spec["predictor"], *canaries]:
            if not 0 <= predictor.get("canaryTrafficPercent", 0) <= 100:
                yield f"{at}: canaryTrafficPercent {predictor['canaryTrafficPercent']}"
            if predictor.get("minReplicas", 1) > predictor.get("maxReplicas", 0) > 0:
                yield f"{at}: minReplicas is more than maxReplicas"
            frameworks = sorted(set(predictor) & _FRAMEWORKS)
            if len(frameworks) > 1:
                yield f"{at}: more than one of {frameworks}"
            uri = predictor.get("model", {}).get("storageUri", "")
            if uri and not uri.startswith(SCHEMES):
                yield f"{at}: storageUri {uri} has a scheme that nothing fetches"


_FRAMEWORKS = {
    "huggingface",
    "lightgbm",
    "model",
    "onnx",
    "paddle",
    "pmml",
    "pytorch",
    "sklearn",
    "tensorflow",
    "triton",
    "xgboost",
}

RULES = (
    schemas,
    metadata,
    labelled,
    images,
    resources,
    pod_security,
    read_only,
    volumes,
    references,
    selectors,
    permissions,
    inference_services,
)


def faults(objects):
    """Give what all rules find."""
    return [f"{rule.__name__}: {fault}" for rule in RULES for fault in rule(objects)]
