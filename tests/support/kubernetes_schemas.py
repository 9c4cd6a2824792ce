"""What an API server knows of kinds: those built in and those of CRDs, with their schemas."""

import json
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path

import kubernetes_validate
import yaml
from crds import FOLDER, Loader, Validator, closed, places, schema

VERSION = "1.36.0"
_BUILT_IN = (
    ("", "v1", "Namespace namespaces ns* Node nodes no* PersistentVolume persistentvolumes pv*"),
    ("", "v1", "Pod pods po ConfigMap configmaps cm Secret secrets - Service services svc"),
    ("", "v1", "ServiceAccount serviceaccounts sa Event events ev Endpoints endpoints ep"),
    ("", "v1", "PersistentVolumeClaim persistentvolumeclaims pvc LimitRange limitranges limits"),
    ("", "v1", "ResourceQuota resourcequotas quota"),
    ("apps", "v1", "Deployment deployments deploy StatefulSet statefulsets sts"),
    ("apps", "v1", "DaemonSet daemonsets ds ReplicaSet replicasets rs"),
    ("apps", "v1", "ControllerRevision controllerrevisions -"),
    ("batch", "v1", "Job jobs - CronJob cronjobs cj"),
    ("autoscaling", "v2", "HorizontalPodAutoscaler horizontalpodautoscalers hpa"),
    ("policy", "v1", "PodDisruptionBudget poddisruptionbudgets pdb"),
    ("networking.k8s.io", "v1", "NetworkPolicy networkpolicies netpol Ingress ingresses ing"),
    ("networking.k8s.io", "v1", "IngressClass ingressclasses -*"),
    ("rbac.authorization.k8s.io", "v1", "Role roles - RoleBinding rolebindings -"),
    ("rbac.authorization.k8s.io", "v1", "ClusterRole clusterroles -*"),
    ("rbac.authorization.k8s.io", "v1", "ClusterRoleBinding clusterrolebindings -*"),
    ("storage.k8s.io", "v1", "StorageClass storageclasses sc*"),
    ("scheduling.k8s.io", "v1", "PriorityClass priorityclasses pc*"),
    ("coordination.k8s.io", "v1", "Lease leases -"),
    ("discovery.k8s.io", "v1", "EndpointSlice endpointslices -"),
    ("apiextensions.k8s.io", "v1", "CustomResourceDefinition customresourcedefinitions crd*"),
    (
        "admissionregistration.k8s.io",
        "v1",
        "ValidatingWebhookConfiguration validatingwebhookconfigurations -* "
        "MutatingWebhookConfiguration mutatingwebhookconfigurations -*",
    ),
)
"""Kind, plural and short name of each; a star: of the cluster, not of a namespace."""
_WITHOUT_STATUS = frozenset(
    (
        *("ConfigMap", "Secret", "ServiceAccount", "Event", "Endpoints", "LimitRange", "Lease"),
        *("ControllerRevision", "NetworkPolicy", "IngressClass", "StorageClass", "PriorityClass"),
        *("Role", "RoleBinding", "ClusterRole", "ClusterRoleBinding", "EndpointSlice"),
        *("ValidatingWebhookConfiguration", "MutatingWebhookConfiguration"),
    )
)


@dataclass(frozen=True)
class Resource:
    """A kind in one version of its group."""

    group: str
    version: str
    kind: str
    plural: str
    namespaced: bool
    has_status: bool
    short: tuple[str, ...] = ()
    crd: dict | None = field(default=None, compare=False, hash=False, repr=False)

    @property
    def key(self):
        """The same in all versions."""
        return (self.group, self.plural)

    @property
    def api_version(self):
        return f"{self.group}/{self.version}".lstrip("/")

    @property
    def full(self):
        """As messages name it, such as deployments.apps."""
        return f"{self.plural}.{self.group}".rstrip(".")

    @cached_property
    def schema(self):
        """Its schema, closed to unknown fields: a `Node`."""
        if self.crd is None:
            name = _kinds()[(self.group, self.version, self.kind)]
            return Node({"$ref": f"#/$defs/{name}", "$defs": definitions()})
        root = self._closed_schema()
        metadata = {"$ref": "#/$defs/io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"}
        root = root | {"properties": root["properties"] | {"metadata": metadata}}
        return Node(root | {"$defs": definitions()})

    def _closed_schema(self):
        if not _is_whole(self.crd):
            return schema(self.group, self.version, self.kind)
        root = closed(self.own_schema())
        own = {"apiVersion": {"type": "string"}, "kind": {"type": "string"}}
        return root | {"properties": own | root.get("properties", {})}

    def own_schema(self):
        """The schema as its CRD has it."""
        versions = whole(self.crd)["spec"]["versions"]
        (found,) = (version for version in versions if version["name"] == self.version)
        return found["schema"]["openAPIV3Schema"]

    @cached_property
    def _validator(self):
        return Validator(self.schema.root)

    def errors(self, document):
        """Give jsonschema's errors of an object; `status` may be left out."""
        return list(self._validator.iter_errors(document))


class Node:
    """A place in a schema, as far as patches have to know it.

    Args:
        schema: What the place may hold.
        root: The document that `$ref` points into.
    """

    def __init__(self, schema, root=None):
        self.root = schema if root is None else root
        while "$ref" in schema:
            schema = self.root["$defs"][schema["$ref"].rpartition("/")[2]] | {
                key: value for key, value in schema.items() if key != "$ref"
            }
        self.schema = schema

    def child(self, name):
        """The place of a field; None where nothing is known of it."""
        properties = self.schema.get("properties") or {}
        found = properties.get(name, self.schema.get("additionalProperties"))
        return Node(found, self.root) if isinstance(found, dict) else None

    @property
    def items(self):
        found = self.schema.get("items")
        return Node(found, self.root) if isinstance(found, dict) else None

    @property
    def list_type(self):
        return self.schema.get("x-kubernetes-list-type", "atomic")

    @property
    def list_keys(self):
        return self.schema.get("x-kubernetes-list-map-keys", [])

    @property
    def is_atomic(self):
        return self.schema.get("x-kubernetes-map-type") == "atomic"

    @property
    def merge_key(self):
        """By what a strategic merge tells a list's items apart; "" if they are plain values.

        None where it replaces the list.
        """
        if "merge" not in self.schema.get("x-kubernetes-patch-strategy", ""):
            return None
        return self.schema.get("x-kubernetes-patch-merge-key", "")

    def key_of(self, item):
        """Tell an item of a list from the others, as managed fields do."""
        place = self.items
        keys = {
            key: item.get(key, place.child(key).schema.get("default")) for key in self.list_keys
        }
        return {key: value for key, value in keys.items() if value is not None}


def built_in():
    """Give the kinds that need no CRD."""
    for group, version, words in _BUILT_IN:
        named = iter(words.split())
        for kind, plural, short in zip(named, named, named, strict=True):
            name = short.strip("*-")
            yield Resource(
                group,
                version,
                kind,
                plural,
                namespaced="*" not in short,
                has_status=kind not in _WITHOUT_STATUS,
                short=(name,) if name else (),
            )


def of_crd(crd):
    """Give the kinds that a CRD makes, one a version that is served."""
    spec = crd["spec"]
    names = spec["names"]
    for version in spec["versions"]:
        if version["served"]:
            yield Resource(
                spec["group"],
                version["name"],
                names["kind"],
                names["plural"],
                namespaced=spec["scope"] == "Namespaced",
                has_status="status" in (version.get("subresources") or {}),
                short=tuple(names.get("shortNames", ())),
                crd=crd,
            )


@cache
def crds_in(folder):
    """Read the CRDs in a folder below ../shared/crds, such as `kserve`; none without ../shared.

    They come without their schemas, which take seconds to parse: see `whole`.
    """
    found = []
    for path in sorted((FOLDER / folder).glob("**/*.yaml")):
        text = path.read_text()
        if "CustomResourceDefinition" in text:
            found += [
                document
                for document in yaml.load_all(_without_schemas(text), Loader)
                if document and document.get("kind") == "CustomResourceDefinition"
            ]
    return tuple(found)


def whole(crd):
    """Give a CRD with its schemas."""
    if _is_whole(crd):
        return crd
    spec = crd["spec"]
    return {**crd, "spec": _spec(spec["group"], spec["names"]["kind"])}


def _is_whole(crd):
    # A bookmark of a watch has no spec.
    return all("schema" in version for version in crd.get("spec", {}).get("versions", ()))


@cache
def _spec(group, kind):
    return yaml.load(places()[group, kind], Loader)["spec"]


def _without_schemas(text):
    kept, inside = [], None
    for line in text.splitlines():
        indent = len(line) - len(line.lstrip())
        if inside is not None and (not line.strip() or indent > inside):
            continue
        inside = None
        if line.strip() in ("schema:", "- schema:"):
            inside = indent if line.strip() == "schema:" else indent + 2
            if line.strip() == "schema:":
                continue
            line = line.replace("schema:", "x: 0")
        kept.append(line)
    return "\n".join(kept)


@cache
def definitions():
    """Give Kubernetes' own schemas, closed to unknown fields, with their merge keys."""
    folder = Path(kubernetes_validate.__file__).parent / "kubernetes-json-schema"
    file = folder / f"v{VERSION}-local-strict/_definitions.json"
    return json.loads(file.read_text())["$defs"]


@cache
def _kinds():
    return {
        (kind["group"], kind["version"], kind["kind"]): name
        for name, schema in definitions().items()
        for kind in schema.get("x-kubernetes-group-version-kind", ())
    }
