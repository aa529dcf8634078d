"""How many pods of which group a recipe needs: arithmetic on its settings."""

import math
from dataclasses import dataclass

from delia_ray.config import RunConfig
from delia_ray.config.resources import engine_size, engines, gpus_of_worker, most_workers
from delia_ray.errors import UserError


@dataclass(frozen=True)
class Replicas:
    """Fewest and most pods of a group."""

    least: int
    most: int


def training_pods(config: RunConfig) -> Replicas:
    """Pods that hold all of ``finetune.workers`` at once.

    Raises:
        UserError: not even one worker fits into a pod.
    """
    own, pods = config.finetune, config.cluster.kubernetes.training
    workers = most_workers(config)
    fit = pods.cpus // own.cpus_per_worker
    gpus = gpus_of_pod_worker(config)
    if gpus:
        fit = min(fit, math.floor(pods.gpus / gpus))
    if fit < 1:
        raise UserError(
            f"cluster.kubernetes.training has pods of {pods.cpus} CPUs and {pods.gpus} GPUs, and a "
            f"training worker takes finetune.cpus_per_worker={own.cpus_per_worker} and {gpus:g} "
            "GPUs; make the pods larger"
        )
    least = own.min_workers or workers
    return Replicas(math.ceil(least / fit), math.ceil(workers / fit))


def gpus_of_pod_worker(config: RunConfig) -> float:
    """GPUs of one training worker, as the stage will ask for them in these pods."""
    pods = config.cluster.kubernetes
    return gpus_of_worker(config, pods.training.gpus + pods.synthesis.gpus)


def synthesis_pods(config: RunConfig) -> Replicas:
    """Pods that hold the fewest and the most engines.

    Raises:
        UserError: not even one engine fits into a pod.
    """
    pods = config.cluster.kubernetes.synthesis
    least, most = engines(config)
    if config.cluster.kubernetes.training.gpus and not pods.gpus:
        raise UserError(
            "cluster.kubernetes.training has GPUs and cluster.kubernetes.synthesis none; engines "
            "ask for GPUs wherever the cluster has any, so give synthesis.gpus too"
        )
    each = engine_size(config)
    # A CPU stays free: tasks that feed the engines would wait for one for ever.
    fit = (pods.cpus - 1) // each
    if pods.gpus:
        fit = min(fit, pods.gpus // each)
    if fit < 1:
        raise UserError(
            f"cluster.kubernetes.synthesis has pods of {pods.cpus} CPUs and {pods.gpus} GPUs, and "
            f"an engine takes {each} of each kind (tensor_parallel_size x pipeline_parallel_size "
            "in synthesize.engine.kwargs), one more CPU being kept for the tasks that feed it; "
            "make the pods larger"
        )
    return Replicas(math.ceil(least / fit), math.ceil(most / fit))
