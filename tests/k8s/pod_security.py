"""The *restricted* profile of the Pod Security Standards (Kubernetes 1.34), as a list of faults."""

from collections.abc import Iterator
from typing import Any

VOLUMES = {
    "configMap",
    "csi",
    "downwardAPI",
    "emptyDir",
    "ephemeral",
    "persistentVolumeClaim",
    "projected",
    "secret",
}
SYSCTLS = {
    "kernel.shm_rmid_forced",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.tcp_syncookies",
    "net.ipv4.ping_group_range",
    "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes",
}


def pods(manifest: Any) -> Iterator[dict[str, Any]]:
    """Every pod's ``spec`` anywhere in a manifest."""
    if isinstance(manifest, dict):
        if isinstance(manifest.get("containers"), list):
            yield manifest
        for value in manifest.values():
            yield from pods(value)
    elif isinstance(manifest, list):
        for value in manifest:
            yield from pods(value)


def faults(pod: dict[str, Any]) -> list[str]:
    """What keeps a namespace with ``pod-security.kubernetes.io/enforce: restricted`` from
    admitting the pod."""
    own = pod.get("securityContext") or {}
    found = [key for key in ("hostNetwork", "hostPID", "hostIPC") if pod.get(key)]
    for volume in pod.get("volumes", []):
        kinds = set(volume) - {"name"}
        found += [f"volume {volume['name']}: {kind}" for kind in sorted(kinds - VOLUMES)]
    found += [f"sysctl {s['name']}" for s in own.get("sysctls", []) if s["name"] not in SYSCTLS]
    parts = [pod.get(key, []) for key in ("initContainers", "containers", "ephemeralContainers")]
    for container in [c for part in parts for c in part]:
        found += [f"{container['name']}: {fault}" for fault in _container(container, own)]
    return found


def _container(container: dict[str, Any], pod: dict[str, Any]) -> list[str]:
    own = container.get("securityContext") or {}

    def either(key: str) -> Any:
        return own.get(key, pod.get(key))

    found = ["privileged"] if own.get("privileged") else []
    if own.get("allowPrivilegeEscalation") is not False:
        found.append("allowPrivilegeEscalation is not false")
    capabilities = own.get("capabilities") or {}
    if "ALL" not in capabilities.get("drop", []):
        found.append("capabilities.drop lacks ALL")
    if set(capabilities.get("add", [])) - {"NET_BIND_SERVICE"}:
        found.append("capabilities.add")
    if either("runAsNonRoot") is not True:
        found.append("runAsNonRoot is not true")
    if 0 in (own.get("runAsUser"), pod.get("runAsUser")):
        found.append("runAsUser is 0")
    if (either("seccompProfile") or {}).get("type") not in ("RuntimeDefault", "Localhost"):
        found.append("seccompProfile is neither RuntimeDefault nor Localhost")
    if own.get("procMount", "Default") != "Default":
        found.append("procMount")
    if any(port.get("hostPort") for port in container.get("ports", [])):
        found.append("hostPort")
    options = {**(pod.get("seLinuxOptions") or {}), **(own.get("seLinuxOptions") or {})}
    return found + [f"seLinuxOptions.{key}" for key in ("user", "role") if options.get(key)]
