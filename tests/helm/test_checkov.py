"""checkov over everything that the chart and the overlays can make; each exception has a reason."""

import json
import re

import pytest
import yaml
from chart import OVERLAYS, build, render, run_tool
from chart_cases import CASES
from objects import pods_of

EXCEPTIONS = {
    "CKV_K8S_8": (
        r"Pod\..*\.(marquee-test-.*|ClusterTrainingRuntime-.*)",
        "a test or a training ends by itself: probing it could only end it early",
    ),
    "CKV_K8S_9": (
        r"Pod\..*\.(marquee-test-.*|ClusterTrainingRuntime-.*)",
        "nobody asks a test or a training anything, so nobody waits for it to be ready",
    ),
    "CKV_K8S_15": (
        r".*",
        "a tag is a version's and never moves; Always would make a start depend on the registry. "
        "images.pullPolicy changes it",
    ),
    "CKV_K8S_29": (
        r"Pod\.films\.ServingRuntime-marquee",
        "Knative refuses a pod's security context; the container's own says the same",
    ),
    "CKV_K8S_35": (
        r".*",
        "S3's clients take keys from variables, and the keys are optional: workload identity needs "
        "none. Tokens of ours are files where they can be",
    ),
    "CKV_K8S_38": (
        r"Pod\..*\.marquee-test-.*",
        "what a test tries is what the pipelines' account may do at the API server",
    ),
    "CKV_K8S_40": (
        r"Pod\.films\.ServingRuntime-marquee",
        "in Knative mode the user is the image's, 10001",
    ),
    "CKV_K8S_43": (
        r"(?!.*\.pinned\.).*",
        "a release's images are built after its chart; images.*.digest pins them",
    ),
}


def everything():
    """Give each different object, and the pods of KServe and Trainer as plain pods.

    checkov knows no kinds but Kubernetes' own.
    """
    rendered = [render(values) for values in CASES.values()]
    found = {}
    for objects in [*rendered, *(build(overlay) for overlay in OVERLAYS)]:
        served = [pod for pod in pods_of(objects) if "Runtime" in pod.owner]
        pods = [
            {
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": {
                    "name": pod.owner.replace("/", "-"),
                    "namespace": "films",
                    "labels": pod.labels,
                },
                "spec": pod.spec,
            }
            for pod in served
        ]
        for each in [*objects, *pods]:
            found[json.dumps(each, sort_keys=True)] = each
    return list(found.values())


def failed(objects, folder):
    """Give what checkov refuses: the check, its name, and the object."""
    file = folder / "objects.yaml"
    file.write_text(yaml.safe_dump_all(objects))
    _, out, said = run_tool(
        "checkov", "-f", file, "--framework", "kubernetes", "-o", "json", "--compact", "--quiet",
        "--skip-download", folder="checkov",
    )  # fmt: skip
    report = json.loads(out)
    assert report["summary"]["parsing_errors"] == 0, said
    found = report["results"]["failed_checks"]
    return {(each["check_id"], each["check_name"], each["resource"]) for each in found}


CARELESS = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "careless", "namespace": "careless"},
    "spec": {
        "hostNetwork": True,
        "containers": [{"name": "a", "image": "a:latest", "securityContext": {"privileged": True}}],
    },
}


@pytest.fixture(scope="module")
def refused(tmp_path_factory):
    """What checkov refuses: of everything, of what has digests, and of a pod that it has to."""
    objects = [*everything(), *render(CASES["digests"], "pinned"), CARELESS]
    return failed(objects, tmp_path_factory.mktemp("checkov"))


def test_nothing_is_refused_without_a_reason(refused):
    unexplained = [
        (check, name, resource)
        for check, name, resource in refused
        if "careless" not in resource
        and (check not in EXCEPTIONS or not re.fullmatch(EXCEPTIONS[check][0], resource))
    ]
    assert sorted(unexplained) == []


def test_every_exception_is_still_needed(refused):
    used = {check for check, _, resource in refused if "careless" not in resource}
    assert used == set(EXCEPTIONS)


def test_checkov_refuses_what_is_careless(refused):
    checks = {check for check, _, resource in refused if "careless" in resource}
    assert {"CKV_K8S_13", "CKV_K8S_14", "CKV_K8S_16", "CKV_K8S_19"} <= checks
