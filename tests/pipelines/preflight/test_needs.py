"""The table of what accounts need, held against the Roles that the chart gives them."""

import pytest
from chart import NAMESPACE, render

from pipelines.preflight.needs import Scope, needs

VALUES = {
    "schedules": [{"name": "daily", "pipeline": "marquee-monitoring", "every": "24h"}],
    "training": {"runtimePrefix": "films"},
    "kserve": {"namespace": "serving"},
}
PLACES = {NAMESPACE: Scope.RELEASE, "serving": Scope.KSERVE, None: Scope.CLUSTER}


def given(objects, account):
    """What the chart lets an account do: scope, group, resource, verb, name."""
    roles = {
        (each["kind"], each["metadata"]["name"]): each
        for each in objects
        if each["kind"] in ("Role", "ClusterRole")
    }
    for binding in objects:
        named = [subject["name"] for subject in binding.get("subjects", ())]
        if account not in named:
            continue
        role = roles[(binding["roleRef"]["kind"], binding["roleRef"]["name"])]
        scope = PLACES[binding["metadata"].get("namespace")]
        for rule in role["rules"]:
            for group in rule["apiGroups"]:
                for resource in rule["resources"]:
                    for verb in rule["verbs"]:
                        for name in rule.get("resourceNames", [""]):
                            yield scope, group, resource, verb, name


@pytest.mark.parametrize(
    ("binding", "account"),
    [("marquee-steps", "pipeline-runner"), ("marquee-schedules", "marquee-monitoring")],
)
def test_the_chart_gives_just_what_is_needed(binding, account):
    asked = {
        (need.scope, need.group, need.resource, verb, name)
        for need in needs("films")[binding]
        for verb in need.verbs
        for name in need.names or ("",)
    }
    assert asked == set(given(render(VALUES), account))
