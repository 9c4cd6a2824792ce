"""The checker of the profile `restricted` refuses what the profile refuses."""

import copy

import pytest
from objects import set_field
from pod_security import violations

CONTAINER = {
    "name": "main",
    "image": "serving:1",
    "ports": [{"containerPort": 8080}],
    "readinessProbe": {"httpGet": {"path": "/", "port": 8080}},
    "securityContext": {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"], "add": ["NET_BIND_SERVICE"]},
    },
}
GOOD = {
    "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
    "containers": [CONTAINER],
    "initContainers": [{**CONTAINER, "name": "first"}],
    "volumes": [{"name": "tmp", "emptyDir": {}}],
}
CONTEXT = "containers.0.securityContext"
BAD = {
    "hostNetwork": True,
    "hostPID": True,
    "hostIPC": True,
    "volumes.0": {"name": "tmp", "hostPath": {"path": "/"}},
    "securityContext.sysctls": [{"name": "kernel.msgmax", "value": "1"}],
    "securityContext.runAsUser": 0,
    "securityContext.runAsNonRoot": False,
    "securityContext.seccompProfile.type": "Unconfined",
    "securityContext.appArmorProfile": {"type": "Unconfined"},
    "securityContext.seLinuxOptions": {"type": "spc_t"},
    "securityContext.windowsOptions": {"hostProcess": True},
    f"{CONTEXT}.privileged": True,
    f"{CONTEXT}.allowPrivilegeEscalation": True,
    f"{CONTEXT}.runAsNonRoot": False,
    f"{CONTEXT}.runAsUser": 0,
    f"{CONTEXT}.seccompProfile": {"type": "Unconfined"},
    f"{CONTEXT}.procMount": "Unmasked",
    f"{CONTEXT}.capabilities.drop": ["NET_RAW"],
    f"{CONTEXT}.capabilities.add": ["SYS_ADMIN"],
    "containers.0.securityContext": {},
    "initContainers.0.securityContext": None,
    "containers.0.ports.0.hostPort": 8080,
    "containers.0.readinessProbe.httpGet.host": "10.0.0.1",
    "containers.0.lifecycle": {"preStop": {"httpGet": {"host": "10.0.0.1", "port": 1}}},
}


def test_a_restricted_pod_passes():
    assert list(violations(GOOD)) == []


@pytest.mark.parametrize("path", BAD)
def test_each_field_of_the_profile_is_looked_at(path):
    spec = copy.deepcopy(GOOD)
    set_field(spec, path, BAD[path])
    said = list(violations(spec))
    named = [name for name in path.split(".") if not name.isdigit()]
    assert any(named[-1] in problem or named[0] in problem for problem in said), said
