"""Manifests of a run, from the recipe alone."""

from typing import Any, Literal

import yaml

from delia_ray.config import RunConfig
from delia_ray.errors import UserError
from delia_ray.k8s.pods import (
    RECIPE,
    RECIPE_FOLDER,
    ROLE,
    UNPRIVILEGED,
    labels,
    object_name,
    submitter,
    template,
)
from delia_ray.k8s.reachable import check_reachable
from delia_ray.k8s.rules import broken_rules
from delia_ray.k8s.sizes import Replicas, synthesis_pods, training_pods

Kind = Literal["rayjob", "raycluster"]
Object = dict[str, Any]


def render(config: RunConfig, kind: Kind = "rayjob") -> list[Object]:
    """The objects that run ``config``: a RayJob, or a RayCluster to submit jobs to, with the
    recipe in a ConfigMap, a network policy and, where asked for, the claim of the volume.

    Raises:
        UserError: a path is out of reach, a pod too small, or a name too long.
    """
    check_reachable(config)
    own = config.cluster.kubernetes
    made = [_recipe(config)]
    if own.volume_size:
        made.append(_claim(config))
    if own.network_policy:
        made.append(_network_policy(config))
    made.append(_job(config) if kind == "rayjob" else _cluster(config))
    if broken := [rule for one in made for rule in broken_rules(one)]:
        raise UserError("KubeRay would refuse the manifest: " + "; ".join(broken))
    return made


def to_yaml(objects: list[Object]) -> str:
    """One YAML document for each object, in the order to apply them."""
    return "---\n".join(
        yaml.dump(o, Dumper=_Plain, sort_keys=False, width=100, allow_unicode=True) for o in objects
    )


class _Plain(yaml.SafeDumper):
    """Writes a shared part out each time it is used, and texts of several lines as blocks."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = "|" if "\n" in text else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Plain.add_representer(str, _text)


def recipe_in_pods(config: RunConfig) -> RunConfig:
    """The recipe as the job runs it: on the surrounding cluster, training where it belongs."""
    cluster = config.cluster.model_copy(
        update={"address": None, "num_cpus": None, "training_labels": {ROLE: "training"}}
    )
    return config.model_copy(update={"cluster": cluster})


# --- objects --------------------------------------------------------------------------


def _metadata(config: RunConfig, name: str, **more: Any) -> Object:
    own = config.cluster.kubernetes
    return {"name": name, "namespace": own.namespace, "labels": labels(config), **more}


def _recipe(config: RunConfig) -> Object:
    # As it was written: a default is the image's own.
    tree = recipe_in_pods(config).model_dump(
        mode="json", exclude_unset=True, exclude={"cluster": {"kubernetes"}}
    )
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": _metadata(config, f"{object_name(config)}-recipe"),
        "data": {RECIPE: yaml.dump(tree, Dumper=_Plain, sort_keys=False, allow_unicode=True)},
    }


def _claim(config: RunConfig) -> Object:
    own = config.cluster.kubernetes
    spec: Object = {
        "accessModes": ["ReadWriteMany"],
        "resources": {"requests": {"storage": own.volume_size}},
    }
    if own.volume_class:
        spec["storageClassName"] = own.volume_class
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": _metadata(config, str(own.volume_claim)),
        "spec": spec,
    }


def _network_policy(config: RunConfig) -> Object:
    own = config.cluster.kubernetes
    ours = {"matchLabels": labels(config)}
    rules: list[Object] = [
        {"from": [{"podSelector": ours}]},
        {
            "from": [_namespace(own.operator_namespace)],
            "ports": [{"protocol": "TCP", "port": 8265}],
        },
    ]
    if own.metrics_namespace:
        metrics = {"protocol": "TCP", "port": 8080}
        rules.append({"from": [_namespace(own.metrics_namespace)], "ports": [metrics]})
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": _metadata(config, object_name(config)),
        "spec": {"podSelector": ours, "policyTypes": ["Ingress"], "ingress": rules},
    }


def _namespace(name: str) -> Object:
    return {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": name}}}


def _queued(config: RunConfig, autoscaling: bool) -> Object:
    """Metadata of what is queued as one: labels, and annotations where there are any."""
    own = config.cluster.kubernetes
    metadata = _metadata(config, object_name(config))
    if own.gang == "kueue":
        metadata["labels"] |= {"kueue.x-k8s.io/queue-name": str(own.queue)}
        if autoscaling:  # Kueue refuses the autoscaler of a job that is not elastic
            metadata["annotations"] = {"kueue.x-k8s.io/elastic-job": "true"}
    elif own.gang == "volcano":
        metadata["labels"] |= {"volcano.sh/queue-name": str(own.queue)}
    return metadata


def _job(config: RunConfig) -> Object:
    own = config.cluster.kubernetes
    cluster = _cluster_spec(config)
    spec: Object = {
        "entrypoint": f"delia run {RECIPE_FOLDER}/{RECIPE}",
        "metadata": {"delia_run": config.name},
        "backoffLimit": own.retries,
        "shutdownAfterJobFinishes": True,
        "ttlSecondsAfterFinished": own.keep_seconds,
        "submissionMode": "K8sJobMode",
        "submitterPodTemplate": submitter(config),
        "rayClusterSpec": cluster,
    }
    if own.deadline_seconds:
        spec["activeDeadlineSeconds"] = own.deadline_seconds
    return {
        "apiVersion": "ray.io/v1",
        "kind": "RayJob",
        "metadata": _queued(config, cluster["enableInTreeAutoscaling"]),
        "spec": spec,
    }


def _cluster(config: RunConfig) -> Object:
    spec = _cluster_spec(config)
    return {
        "apiVersion": "ray.io/v1",
        "kind": "RayCluster",
        "metadata": _queued(config, spec["enableInTreeAutoscaling"]),
        "spec": spec,
    }


def _cluster_spec(config: RunConfig) -> Object:
    own = config.cluster.kubernetes
    synthesis, training = synthesis_pods(config), training_pods(config)
    scales = synthesis.least < synthesis.most or training.least < training.most
    spec: Object = {
        "rayVersion": own.ray_version,
        "authOptions": {
            "mode": "token",
            **({"secretName": own.token_secret} if own.token_secret else {}),
        },
        "enableInTreeAutoscaling": scales,
    }
    if scales:
        spec["autoscalerOptions"] = {
            "version": "v2",
            "upscalingMode": "Default",
            "idleTimeoutSeconds": own.synthesis.idle_seconds,
            "securityContext": UNPRIVILEGED,
            "resources": {
                "requests": {"cpu": "500m", "memory": "512Mi"},
                "limits": {"cpu": "500m", "memory": "1Gi"},
            },
        }
    if own.redis:
        secret = {"name": own.redis.password_secret, "key": own.redis.password_key}
        spec["gcsFaultToleranceOptions"] = {
            "redisAddress": own.redis.address,
            "redisPassword": {"valueFrom": {"secretKeyRef": secret}},
        }
    spec["headGroupSpec"] = {
        "serviceType": "ClusterIP",
        "rayStartParams": {"num-cpus": "0", "dashboard-host": "0.0.0.0"},
        "labels": {ROLE: "head"},
        "template": template(config, "head", own.head),
    }
    spot = own.synthesis.spot
    spec["workerGroupSpecs"] = [
        _group("synthesis", synthesis, template(config, "synthesis", own.synthesis, spot)),
        _group("training", training, template(config, "training", own.training)),
    ]
    return spec


def _group(name: str, replicas: Replicas, pod: Object) -> Object:
    # The most of the training group: elastic training starts with all that there are.
    first = replicas.most if name == "training" else replicas.least
    return {
        "groupName": name,
        "replicas": first,
        "minReplicas": replicas.least,
        "maxReplicas": replicas.most,
        "rayStartParams": {},
        "labels": {ROLE: name},
        "template": pod,
    }
