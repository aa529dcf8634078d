"""What KubeRay's operator and admission refuse though the schema of the resource allows it.

After ``ray-operator/controllers/ray/utils/validation.go`` of KubeRay 1.7 and, for jobs queued
by Kueue, its webhook for RayCluster. Only rules about what this project writes, or what somebody
who edits a rendered manifest is likely to get wrong.
"""

import re
from collections.abc import Iterator
from typing import Any

_LABEL = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")
"""DNS-1035."""
LONGEST = {"RayJob": 47, "RayCluster": 53}
"""Names longer than this leave no room for what the operator appends."""
_TAKEN = ("REDIS_PASSWORD", "RAY_REDIS_ADDRESS")
"""Variables that ``gcsFaultToleranceOptions`` sets."""


def broken_rules(manifest: dict[str, Any]) -> list[str]:
    """One sentence for each rule that a RayJob or RayCluster breaks; none for other kinds."""
    kind = manifest.get("kind")
    if kind not in LONGEST:
        return []
    found = list(_name_rules(kind, manifest["metadata"]["name"]))
    spec = manifest["spec"]
    cluster = spec.get("rayClusterSpec") if kind == "RayJob" else spec
    if kind == "RayJob":
        found += _job_rules(spec)
    if cluster is not None:
        found += _cluster_rules(cluster)
        found += _queue_rules(manifest["metadata"], cluster)
    return found


def _name_rules(kind: str, name: str) -> Iterator[str]:
    if len(name) > LONGEST[kind]:
        yield f"the name {name} has {len(name)} characters, a {kind} at most {LONGEST[kind]}"
    if not _LABEL.fullmatch(name):
        yield f"the name {name} must begin with a letter, and hold letters, digits and dashes"


def _job_rules(spec: dict[str, Any]) -> Iterator[str]:
    shutdown = spec.get("shutdownAfterJobFinishes", False)
    if spec.get("ttlSecondsAfterFinished", 0) > 0 and not shutdown:
        yield "ttlSecondsAfterFinished needs shutdownAfterJobFinishes"
    if spec.get("suspend") and not shutdown:
        yield "a suspended job needs shutdownAfterJobFinishes"
    if "rayClusterSpec" not in spec and not spec.get("clusterSelector"):
        yield "one of rayClusterSpec and clusterSelector is needed"
    retries = spec.get("backoffLimit", 0)
    if spec.get("clusterSelector") and retries > 0:
        yield "backoffLimit needs a cluster of the job's own, not clusterSelector"
    mode = spec.get("submissionMode", "K8sJobMode")
    if mode == "InteractiveMode" and retries > 0:
        yield "backoffLimit does not go with InteractiveMode"
    if mode == "SidecarMode" and ("submitterPodTemplate" in spec or "submitterConfig" in spec):
        yield "SidecarMode has no submitter of its own to configure"
    if spec.get("activeDeadlineSeconds", 1) <= 0:
        yield "activeDeadlineSeconds must be positive"


def _cluster_rules(spec: dict[str, Any]) -> Iterator[str]:
    groups = {"head": spec["headGroupSpec"]}
    groups |= {g["groupName"]: g for g in spec.get("workerGroupSpecs", [])}
    if len(groups) < 1 + len(spec.get("workerGroupSpecs", [])):
        yield "names of worker groups must differ, and none may be head"
    scales = spec.get("enableInTreeAutoscaling", False)
    for name, group in groups.items():
        yield from _group_rules(name, group, scales)
    if spec.get("authOptions", {}).get("mode", "token") == "token" and "authOptions" in spec:
        version = tuple(int(n) for n in re.findall(r"\d+", spec.get("rayVersion", ""))[:2])
        if version < (2, 52):
            yield f"token authentication needs rayVersion 2.52 or later, not {version or 'none'}"
    yield from _redis_rules(spec, groups["head"])


def _group_rules(name: str, group: dict[str, Any], scales: bool) -> Iterator[str]:
    pod = group["template"]["spec"]
    if not pod.get("containers"):
        yield f"group {name} has no container"
    if scales and pod.get("restartPolicy", "Never") != "Never":
        yield f"group {name}: the autoscaler needs restartPolicy Never, or none"
    if name != "head" and group.get("minReplicas", 0) > group.get("maxReplicas", 2**31 - 1):
        yield (
            f"group {name}: minReplicas={group['minReplicas']} is more than "
            f"maxReplicas={group['maxReplicas']}"
        )
    sizes = {"num-cpus", "num-gpus", "memory", "resources"} & set(group.get("rayStartParams", {}))
    if sizes and group.get("resources"):
        yield f"group {name}: give resources or rayStartParams {sorted(sizes)}, not both"
    if "labels" in group.get("rayStartParams", {}):
        yield f"group {name}: labels go to the group's own field, not to rayStartParams"


def _redis_rules(spec: dict[str, Any], head: dict[str, Any]) -> Iterator[str]:
    containers = head["template"]["spec"].get("containers") or [{}]
    names = {variable["name"] for variable in containers[0].get("env", [])}
    options = spec.get("gcsFaultToleranceOptions")
    if options is None:
        if "RAY_REDIS_ADDRESS" in names:
            yield "RAY_REDIS_ADDRESS needs gcsFaultToleranceOptions; give redisAddress there"
        return
    for name in _TAKEN:
        if name in names:
            yield f"{name} goes to gcsFaultToleranceOptions, not to the head's environment"
    if "redis-password" in head.get("rayStartParams", {}):
        yield "redis-password goes to gcsFaultToleranceOptions, not to rayStartParams"
    if options.get("backend", "redis") == "redis" and "storage" in options:
        yield "gcsFaultToleranceOptions.storage belongs to the backend rocksdb"


def _queue_rules(metadata: dict[str, Any], spec: dict[str, Any]) -> Iterator[str]:
    elastic = metadata.get("annotations", {}).get("kueue.x-k8s.io/elastic-job") == "true"
    queued = "kueue.x-k8s.io/queue-name" in metadata.get("labels", {})
    if queued and spec.get("enableInTreeAutoscaling") and not elastic:
        yield "Kueue admits an autoscaling cluster with kueue.x-k8s.io/elastic-job: 'true' only"
