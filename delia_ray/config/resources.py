"""What a recipe asks of a cluster: arithmetic on its settings."""

from dataclasses import dataclass

from delia_ray.config.tree import RunConfig


@dataclass(frozen=True)
class Needs:
    """Processes, and what each of them takes of one node."""

    workers: int
    """Training processes that must run at once; the fewest where training is elastic."""
    worker_cpus: int
    worker_gpus: float
    trains: bool
    """Whether anything is trained at all."""
    engines: int
    """The fewest engines."""
    engine_size: int
    """GPUs of an engine, or CPUs where the cluster has no GPU."""
    vllm: bool
    """Whether engines are vLLM for certain; ``auto`` takes transformers where it is absent."""


def needs_of(config: RunConfig, cluster_gpus: float) -> Needs:
    """The needs of ``config`` on a cluster of so many GPUs."""
    train, engine = config.finetune, config.synthesize.engine
    return Needs(
        workers=train.min_workers or most_workers(config),
        worker_cpus=train.cpus_per_worker,
        worker_gpus=gpus_of_worker(config, cluster_gpus),
        trains=bool(config.arms),
        engines=engines(config)[0],
        engine_size=engine_size(config),
        vllm=engine.type == "vllm",
    )


def most_workers(config: RunConfig) -> int:
    """Training processes that run at once when all do: of one arm, or one of each of those that
    are trained side by side."""
    train = config.finetune
    return train.side_by_side if train.side_by_side > 1 else train.workers


def gpus_of_worker(config: RunConfig, cluster_gpus: float) -> float:
    """GPUs of one training worker, as the stage will ask for them."""
    wanted = config.finetune.gpus_per_worker
    if wanted is not None:
        return wanted
    return 1.0 if cluster_gpus else 0.0


def engines(config: RunConfig) -> tuple[int, int]:
    """The fewest and the most engines of the synthesis."""
    engine = config.synthesize.engine
    least, most = getattr(engine, "replica_range", (getattr(engine, "replicas", 1),) * 2)
    return least, most


def engine_size(config: RunConfig) -> int:
    """GPUs, or CPUs where there are none, of one engine."""
    kwargs = getattr(config.synthesize.engine, "kwargs", {})
    tensor, pipeline = (kwargs.get(f"{k}_parallel_size", 1) for k in ("tensor", "pipeline"))
    return int(tensor) * int(pipeline)


def workers_setting(config: RunConfig) -> str:
    """The setting that says how many workers there are at least, with its value."""
    train = config.finetune
    if train.min_workers:
        return f"finetune.min_workers={train.min_workers}"
    if train.side_by_side > 1:
        return f"finetune.side_by_side={train.side_by_side}"
    return f"finetune.workers={train.workers}"
