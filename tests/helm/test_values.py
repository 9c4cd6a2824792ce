"""A value that is wrong is refused by its name, before anything is installed."""

import pytest
from chart import CHART, NAMESPACE, run_tool

WRONG = {
    # What values.schema.json says: helm names the place, and what may stand there.
    "a-name-that-does-not-exist": ("serving.replicas=3", "'/serving'", "'replicas' not allowed"),
    "a-name-in-the-wrong-place": ("storageUri=gs://x/y", "''", "'storageUri' not allowed"),
    "an-image-with-its-tag": ("images.prefix=registry/m:1.0/x", "'/images/prefix'", "match"),
    "a-tag-with-a-space": ("images.tag=0 1", "'/images/tag'", "match"),
    "half-a-digest": ("images.serving.digest=sha256:abc", "'/images/serving/digest'", "match"),
    "a-pull-policy": ("images.pullPolicy=Sometimes", "'/images/pullPolicy'", "'Always'"),
    "a-path-for-a-bucket": ("storage.records=my-bucket/records", "'/storage/records'", "match"),
    "another-mode": ("kserve.mode=RawDeployment", "'/kserve/mode'", "'Standard'"),
    "access-to-nobody": ("serving.access=nobody", "'/serving/access'", "'tokens'"),
    "a-share-above-one": ("serving.samples.share=20", "'/serving/samples/share'", "maximum"),
    "a-word-for-a-number": (
        "inferenceService.maxReplicas=many",
        "'/inferenceService/maxReplicas'",
        "want integer",
    ),
    "a-word-for-a-switch": ("istio.enabled=on", "'/istio/enabled'", "want boolean"),
    "a-scheme-that-nothing-fetches": (
        "inferenceService.storageUri=ftp://films/x",
        "'/inferenceService/storageUri'",
        "match",
    ),
    "a-name-with-a-dot": ("inferenceService.name=poster.genre", "'/inferenceService/name'", ""),
    "memory-without-a-unit-that-exists": (
        "serving.resources.limits.memory=2GB",
        "'/serving/resources/limits/memory'",
        "match",
    ),
    "one-node-in-several": ("training.nodes=1", "'/training/nodes'", "minimum"),
    "a-port-too-high": ("exporter.port=99999", "'/exporter/port'", "maximum"),
    "a-cron-with-five-fields": (
        "schedules[0].name=daily,schedules[0].pipeline=marquee-monitoring,"
        "schedules[0].cron=15 0 * * *",
        "'/schedules/0/cron'",
        "match",
    ),
    "a-schedule-without-a-time": (
        "schedules[0].name=daily,schedules[0].pipeline=marquee-monitoring",
        "'/schedules/0'",
        "'cron'",
    ),
    "a-network-that-is-none": (
        "networkPolicies.apiServer.cidrs={10.0.0.1}",
        "'/networkPolicies/apiServer/cidrs/0'",
        "match",
    ),
    "an-unknown-way-to-the-reports": ("reports.route.kind=ingress", "'/reports/route/kind'", ""),
    "nobody-runs-pipelines": ("pipelines.serviceAccounts={}", "'/pipelines/serviceAccounts/0'", ""),
    # What it cannot say, and templates/validate.yaml does.
    "whatever-is-latest": ("images.tag=latest", "images.tag", "Marquee's version"),
    "at-least-more-than-at-most": (
        "inferenceService.minReplicas=9",
        "inferenceService.minReplicas (9)",
        "inferenceService.maxReplicas (4)",
    ),
    "to-zero-in-standard-mode": (
        "inferenceService.minReplicas=0",
        "inferenceService.minReplicas is 0",
        "kserve.mode: Knative",
    ),
    "a-metric-of-the-other-mode": (
        "inferenceService.autoscaling.metric=rps",
        "inferenceService.autoscaling.metric is rps",
        "cpu and memory",
    ),
    "keda-without-prometheus": (
        "inferenceService.autoscaling.class=keda",
        "inferenceService.autoscaling.class is keda",
        "prometheus.address",
    ),
    "reports-of-nothing": ("reports.enabled=true", "reports.enabled", "storage.monitoring"),
    "signatures-of-nobody": (
        "serving.requireSignature=true",
        "serving.requireSignature",
        "serving.trustedKeys",
    ),
    "a-route-without-a-host": (
        "reports.route.kind=httpRoute",
        "reports.route.kind is httpRoute",
        "reports.route.host",
    ),
    "a-network-beyond-the-internet": (
        "networkPolicies.egress[0].name=x,networkPolicies.egress[0].ports={443},"
        "networkPolicies.egress[0].cidrs={999.0.0.0/99}",
        "'/networkPolicies/egress/0/cidrs/0'",
        "match",
    ),
    "a-prefix-beyond-ipv6": (
        "networkPolicies.apiServer.cidrs={fd00::/129}",
        "'/networkPolicies/apiServer/cidrs/0'",
        "match",
    ),
    "a-hole-that-is-elsewhere": (
        "networkPolicies.egress[0].name=x,networkPolicies.egress[0].ports={443},"
        "networkPolicies.egress[0].cidrs={10.0.0.0/8},"
        "networkPolicies.egress[0].except={11.1.0.0/16}",
        "except 11.1.0.0/16 of x",
        "not within 10.0.0.0/8",
    ),
    "a-hole-as-large-as-the-rest": (
        "networkPolicies.egress[0].name=x,networkPolicies.egress[0].ports={443},"
        "networkPolicies.egress[0].cidrs={10.0.0.0/8},"
        "networkPolicies.egress[0].except={10.0.0.0/8}",
        "except 10.0.0.0/8 of x",
        "not within 10.0.0.0/8",
    ),
    "a-hole-of-another-family": (
        "networkPolicies.egress[0].name=x,networkPolicies.egress[0].ports={443},"
        "networkPolicies.egress[0].cidrs={10.0.0.0/8},"
        "networkPolicies.egress[0].except={fd00::/16}",
        "except fd00::/16 of x",
        "not within 10.0.0.0/8",
    ),
    "more-cpu-than-may-be": (
        "serving.resources.requests.cpu=4",
        "serving.resources.requests.cpu (4)",
        "serving.resources.limits.cpu (2)",
    ),
    "more-memory-than-may-be": (
        "jobs.resources.requests.memory=1025Mi",
        "jobs.resources.requests.memory (1025Mi)",
        "jobs.resources.limits.memory (1Gi)",
    ),
    "a-taint-that-exists-with-a-value": (
        "serving.tolerations[0].key=spot,serving.tolerations[0].operator=Exists,"
        "serving.tolerations[0].value=x",
        "'/serving/tolerations/0/value'",
        "''",
    ),
    "a-taint-without-a-key": (
        "serving.tolerations[0].operator=Equal,serving.tolerations[0].value=x",
        "'/serving/tolerations/0'",
        "'key'",
    ),
    "the-mode-twice": (
        r"inferenceService.annotations.serving\.kserve\.io/deploymentMode=Knative",
        "inferenceService.annotations has serving.kserve.io/deploymentMode",
        "kserve.mode",
    ),
    "a-model-without-its-runtime": (
        "serving.enabled=false,inferenceService.storageUri=gs://films/x",
        "inferenceService.storageUri",
        "serving.enabled is false",
    ),
    "a-schedule-called-as-the-upload": (
        "schedules[0].name=upload,schedules[0].pipeline=p,schedules[0].every=1h",
        "schedules",
        "the name upload",
    ),
    "runs-in-another-namespace": (
        "pipelines.namespace=kubeflow",
        "pipelines.namespace is kubeflow",
        "the release is in films",
    ),
    "pipelines-to-nowhere": ("pipelines.endpoint=", "pipelines.upload", "pipelines.endpoint"),
    "a-secret-that-pipelines-would-not-know": (
        "storage.secret.name=mine",
        "'/storage/secret'",
        "'name' not allowed",
    ),
    "two-schedules-of-one-name": (
        "schedules[0].name=a,schedules[0].pipeline=p,schedules[0].every=1h,"
        "schedules[1].name=a,schedules[1].pipeline=q,schedules[1].every=1h",
        "schedules",
        "same name",
    ),
}


@pytest.mark.parametrize(("wrong", "place", "said"), WRONG.values(), ids=WRONG)
def test_a_wrong_value_is_named(wrong, place, said):
    code, _, error = run_tool("helm", "template", "m", CHART, "-n", NAMESPACE, "--set", wrong)
    assert code != 0
    assert place in error and said in error, error


RIGHT = {
    "requests-of-other-units": "serving.resources.requests.cpu=2000m,"
    "jobs.resources.requests.memory=1Gi",
    "a-hole-in-a-network": "networkPolicies.egress[0].name=x,networkPolicies.egress[0].ports={443},"
    "networkPolicies.egress[0].cidrs={10.0.0.0/8},networkPolicies.egress[0].except={10.255.0.0/16}",
    "ipv6": "networkPolicies.apiServer.cidrs={::/0,fd00:1::2/128}",
    "a-taint-with-any-value": "serving.tolerations[0].operator=Exists",
}


@pytest.mark.parametrize("right", RIGHT.values(), ids=RIGHT)
def test_a_value_that_is_nearly_wrong_is_taken(right):
    code, _, error = run_tool("helm", "template", "m", CHART, "-n", NAMESPACE, "--set", right)
    assert code == 0, error


def test_several_wrong_values_are_said_at_once():
    wrong = "images.tag=latest,inferenceService.minReplicas=0,reports.enabled=true"
    code, _, error = run_tool("helm", "template", "m", CHART, "-n", NAMESPACE, "--set", wrong)
    assert code != 0
    assert all(value.split("=")[0] in error for value in wrong.split(",")), error
