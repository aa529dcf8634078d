"""What a recipe asks of a cluster: arithmetic on its settings."""

from dataclasses import dataclass

from delia_ray.config import RunConfig


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
    together = train.side_by_side if train.side_by_side > 1 else train.workers
    gpus = train.gpus_per_worker
    if gpus is None:
        gpus = 1.0 if cluster_gpus else 0.0
    kwargs = getattr(engine, "kwargs", {})
    size = int(kwargs.get("tensor_parallel_size", 1) * kwargs.get("pipeline_parallel_size", 1))
    replicas = getattr(engine, "replica_range", (getattr(engine, "replicas", 1),))
    return Needs(
        workers=train.min_workers or together,
        worker_cpus=train.cpus_per_worker,
        worker_gpus=gpus,
        trains=bool(config.arms),
        engines=replicas[0],
        engine_size=size,
        vllm=engine.type == "vllm",
    )
