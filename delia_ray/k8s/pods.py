"""Pod templates: image, resources, user, storage and secrets, the same for all groups."""

from typing import Any

from delia_ray.config import Kubernetes, Pods, RunConfig

RECIPE = "recipe.yaml"
RECIPE_FOLDER = "/etc/delia"
"""Where every pod finds the recipe."""
ROLE = "delia-role"
"""Ray's and Kubernetes' label of a group: head, synthesis or training."""
SPOT: dict[str, tuple[dict[str, str], list[dict[str, Any]]]] = {
    "none": ({}, []),
    "gke": (
        {"cloud.google.com/gke-spot": "true"},
        [{"key": "cloud.google.com/gke-spot", "operator": "Equal", "value": "true",
          "effect": "NoSchedule"}],
    ),
    "eks": ({"eks.amazonaws.com/capacityType": "SPOT"}, []),
    "karpenter": ({"karpenter.sh/capacity-type": "spot"}, []),
}  # fmt: skip
"""Provider -> (labels of its interruptible nodes, taints that it gives them)."""
STAY = {
    "cluster-autoscaler.kubernetes.io/safe-to-evict": "false",
    "karpenter.sh/do-not-disrupt": "true",
}
"""Annotations of pods that no autoscaler of nodes may move."""


def labels(config: RunConfig, role: str = "") -> dict[str, str]:
    """Of every object of a run; of a pod with its group's role too."""
    found = {
        "app.kubernetes.io/name": "delia",
        "app.kubernetes.io/instance": object_name(config),
        "app.kubernetes.io/managed-by": "delia-k8s-render",
    }
    return {**found, ROLE: role} if role else found


def object_name(config: RunConfig) -> str:
    """The run's name as Kubernetes allows it: lower case, no dots."""
    return config.name.lower().replace(".", "-").replace("_", "-")


def template(config: RunConfig, role: str, pods: Pods, spot: str = "none") -> dict[str, Any]:
    """The pod template of a group."""
    own = config.cluster.kubernetes
    spot_labels, spot_taints = SPOT[spot]
    gpu_taints = (
        [{"key": pods.gpu_resource, "operator": "Exists", "effect": "NoSchedule"}]
        if pods.gpus
        else []
    )
    spec: dict[str, Any] = {
        **_account(own),
        "securityContext": user_only(own.user),
        "containers": [_container(config, role, pods)],
        "volumes": _volumes(config),
    }
    if selector := {**spot_labels, **pods.node_selector}:
        spec["nodeSelector"] = selector
    if taints := [*pods.tolerations, *gpu_taints, *spot_taints]:
        spec["tolerations"] = taints
    metadata: dict[str, Any] = {"labels": labels(config, role)}
    if role != "synthesis":
        metadata["annotations"] = STAY
    return {"metadata": metadata, "spec": spec}


def submitter(config: RunConfig) -> dict[str, Any]:
    """The template of the small pod that hands in the job and follows its log."""
    own = config.cluster.kubernetes
    size = Pods(cpus=1, memory="1Gi", disk="2Gi")
    container = {
        "name": "ray-job-submitter",
        "image": own.image,
        "resources": resources(size),
        "securityContext": UNPRIVILEGED,
    }
    return {
        "metadata": {"labels": labels(config, "submitter")},
        "spec": {
            **_account(own),
            "restartPolicy": "Never",
            "securityContext": user_only(own.user),
            "containers": [container],
        },
    }


UNPRIVILEGED = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
}
"""Security context of every container."""


def user_only(user: int) -> dict[str, Any]:
    """Security context of a pod: one user that is not root, who owns mounted volumes."""
    return {
        "runAsNonRoot": True,
        "runAsUser": user,
        "runAsGroup": user,
        "fsGroup": user,
        "fsGroupChangePolicy": "OnRootMismatch",
        "seccompProfile": {"type": "RuntimeDefault"},
    }


def resources(pods: Pods) -> dict[str, Any]:
    """Requests and limits, which are equal."""
    amounts = {
        "cpu": str(pods.cpus),
        "memory": pods.memory,
        "ephemeral-storage": pods.disk,
        **({pods.gpu_resource: str(pods.gpus)} if pods.gpus else {}),
    }
    return {"requests": dict(amounts), "limits": dict(amounts)}


def _account(own: Kubernetes) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if own.service_account:
        found["serviceAccountName"] = own.service_account
    if own.pull_secret:
        found["imagePullSecrets"] = [{"name": own.pull_secret}]
    return found


def _container(config: RunConfig, role: str, pods: Pods) -> dict[str, Any]:
    own = config.cluster.kubernetes
    container: dict[str, Any] = {
        "name": "ray-head" if role == "head" else "ray-worker",
        "image": own.image,
        "env": [{"name": name, "value": value} for name, value in sorted(own.env.items())],
        "envFrom": [{"secretRef": {"name": name}} for name in own.secrets],
        "resources": resources(pods),
        "securityContext": UNPRIVILEGED,
        "volumeMounts": _mounts(config),
    }
    if role == "head":
        container["ports"] = [
            {"name": name, "containerPort": port}
            for name, port in (
                ("gcs-server", 6379), ("dashboard", 8265), ("client", 10001), ("metrics", 8080)
            )
        ]  # fmt: skip
    else:
        container["ports"] = [{"name": "metrics", "containerPort": 8080}]
    return {key: value for key, value in container.items() if value}


def _volumes(config: RunConfig) -> list[dict[str, Any]]:
    own = config.cluster.kubernetes
    volumes: list[dict[str, Any]] = [
        {"name": "recipe", "configMap": {"name": f"{object_name(config)}-recipe"}}
    ]
    if own.volume_claim:
        claim = {"claimName": own.volume_claim}
        volumes.append({"name": "storage", "persistentVolumeClaim": claim})
    return volumes


def _mounts(config: RunConfig) -> list[dict[str, Any]]:
    own = config.cluster.kubernetes
    mounts: list[dict[str, Any]] = [
        {"name": "recipe", "mountPath": RECIPE_FOLDER, "readOnly": True}
    ]
    if own.volume_claim:
        mounts.append({"name": "storage", "mountPath": own.mount})
    return mounts
