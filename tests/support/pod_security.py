"""Pod Security Standards, profile `restricted` (as in Kubernetes 1.35): what it refuses."""

_VOLUMES = {
    "configMap",
    "csi",
    "downwardAPI",
    "emptyDir",
    "ephemeral",
    "persistentVolumeClaim",
    "projected",
    "secret",
}
_SYSCTLS = {
    "kernel.shm_rmid_forced",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.ping_group_range",
    "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes",
    "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_rmem",
    "net.ipv4.tcp_syncookies",
    "net.ipv4.tcp_wmem",
}
_SELINUX = {"", "container_t", "container_init_t", "container_kvm_t", "container_engine_t"}


def violations(spec):
    """Say what of a pod's spec the profile refuses.

    Args:
        spec: A PodSpec as a plain document.

    Yields:
        The field, and what it has to be.
    """
    pod = spec.get("securityContext") or {}
    for field in ("hostNetwork", "hostPID", "hostIPC"):
        if spec.get(field):
            yield f"{field}: must not be true"
    for volume in spec.get("volumes") or ():
        kinds = set(volume) - {"name"}
        if not kinds <= _VOLUMES:
            yield f"volumes.{volume['name']}: {', '.join(sorted(kinds - _VOLUMES))} is not allowed"
    for sysctl in pod.get("sysctls") or ():
        if sysctl["name"] not in _SYSCTLS:
            yield f"securityContext.sysctls: {sysctl['name']} is not a safe one"
    yield from _shared(pod, "securityContext")
    for kind in ("initContainers", "containers", "ephemeralContainers"):
        for container in spec.get(kind) or ():
            for problem in _of_container(container, pod):
                yield f"{kind}.{container['name']}.{problem}"


def _shared(context, at):
    """Fields that a pod and a container both have."""
    if context.get("runAsUser") == 0:
        yield f"{at}.runAsUser: must not be 0"
    if (context.get("windowsOptions") or {}).get("hostProcess"):
        yield f"{at}.windowsOptions.hostProcess: must not be true"
    if (context.get("appArmorProfile") or {}).get("type") == "Unconfined":
        yield f"{at}.appArmorProfile.type: must not be Unconfined"
    selinux = context.get("seLinuxOptions") or {}
    if selinux.get("type", "") not in _SELINUX or selinux.get("user") or selinux.get("role"):
        yield f"{at}.seLinuxOptions: must not be set to {selinux}"


def _of_container(container, pod):
    context = container.get("securityContext") or {}
    at = "securityContext"
    yield from _shared(context, at)
    if context.get("privileged"):
        yield f"{at}.privileged: must not be true"
    if context.get("allowPrivilegeEscalation") is not False:
        yield f"{at}.allowPrivilegeEscalation: must be false"
    if not context.get("runAsNonRoot", pod.get("runAsNonRoot")):
        yield f"{at}.runAsNonRoot: must be true"
    profile = context.get("seccompProfile") or pod.get("seccompProfile") or {}
    if profile.get("type") not in ("RuntimeDefault", "Localhost"):
        yield f"{at}.seccompProfile.type: must be RuntimeDefault or Localhost"
    if context.get("procMount", "Default") != "Default":
        yield f"{at}.procMount: must be Default"
    capabilities = context.get("capabilities") or {}
    if "ALL" not in (capabilities.get("drop") or ()):
        yield f"{at}.capabilities.drop: must have ALL"
    added = set(capabilities.get("add") or ()) - {"NET_BIND_SERVICE"}
    if added:
        yield f"{at}.capabilities.add: {', '.join(sorted(added))} is not allowed"
    for port in container.get("ports") or ():
        if port.get("hostPort"):
            yield f"ports: {port['hostPort']} is a hostPort"
    lifecycle = container.get("lifecycle") or {}
    probes = {name: handler for name, handler in container.items() if name.endswith("Probe")}
    for name, handler in {**probes, **lifecycle}.items():
        for way in ("httpGet", "tcpSocket"):
            if isinstance(handler, dict) and (handler.get(way) or {}).get("host"):
                yield f"{name}.{way}.host: must not be set"
