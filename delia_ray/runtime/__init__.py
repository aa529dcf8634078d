"""The only place that connects to Ray, and that knows what a cluster must offer.

``address`` says which cluster is meant, ``local`` starts one of this machine, ``private`` makes
its folder, ``surroundings`` mends what of a process's environment would break a run.
"""

import atexit
import logging
import math
import os
from typing import Any

from delia_ray import shared_memory, stopping
from delia_ray.config import RunConfig
from delia_ray.config.resources import needs_of, workers_setting
from delia_ray.errors import UserError
from delia_ray.machine_memory import memory
from delia_ray.runtime import address, local

WORKER_ENV = {
    "TOKENIZERS_PARALLELISM": "false",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "RAY_TRAIN_ENABLE_PRINT_PATCH": "0",  # it prints every worker line twice
    "PYTHONSAFEPATH": "1",  # no module is taken from the folder that a process is started in
}
"""Environment of every worker process that this package starts."""
UV = "RAY_ENABLE_UV_RUN_RUNTIME_ENV"
_own: list[local.Own] = []
"""The cluster that this process started, while it is up."""
_told: set[str] = set()
_log = logging.getLogger("delia_ray")


def connect(config: RunConfig) -> None:
    """Join the configured cluster or start one here; does nothing when connected.

    Raises:
        UserError: the cluster cannot be reached or is too small for the config.
        DeliaError: no cluster can be started here.
    """
    import ray

    if not ray.is_initialized() and address.of(config) is None:
        # Before it is started; how many GPUs it has is known only then.
        check_fits(config, {"CPU": _cpus_here(config), "GPU": math.inf})
    join(config)
    check_fits(config, ray.cluster_resources())


def join(config: RunConfig) -> None:
    """``connect`` without asking whether the config fits.

    Raises:
        UserError: the cluster cannot be reached.
        DeliaError: no cluster can be started here.
    """
    import ray

    if ray.is_initialized():
        return
    meant = address.of(config)
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # Ray Data shares a cluster's CPUs out among its executions. What a killed driver asked for
    # counts until it expires, after 180 s: the same run begun again would wait for that.
    os.environ.setdefault("RAY_DATA_AUTOSCALING_REQUEST_EXPIRE_TIME_S", "30")
    for name in ("ray", "ray.data", "ray.train", "ray.tune"):
        logging.getLogger(name).setLevel(logging.WARNING)
    if meant is None:
        # Workers inherit their environment. Where it is a runtime environment, as on a cluster
        # that is joined, Ray starts Python twice for each.
        _own.append(local.start(_cpus_here(config), WORKER_ENV))
        atexit.register(disconnect)
        stopping.at_end(_end_own)
    else:
        _join(meant)
    _quiet_data()


def check_reachable(config: RunConfig) -> None:
    """Ask the cluster that will be joined for a sign of life, before anything is begun.

    Raises:
        UserError: what names it is no address, or it does not answer.
    """
    if (meant := address.of(config)) is not None:
        address.check_answers(meant)


def _join(meant: address.Address) -> None:
    import ray
    from ray.exceptions import AuthenticationError

    address.check_answers(meant)
    local.read_token()
    # Who wants uv's environment on the nodes says so; a cluster on loopback is joined there.
    false = [] if UV in os.environ else [UV]
    false += ["ENABLE_RAY_CLUSTER"] if meant.is_loopback else []
    try:
        with local.as_told(*false):
            ray.init(
                address=meant.value, runtime_env={"env_vars": WORKER_ENV},
                logging_level="warning", job_config=local.job(),
            )  # fmt: skip
    except AuthenticationError as error:
        raise meant.wrong(f"its token is missing or refused ({_first(error)})") from None
    except (ConnectionError, RuntimeError) as error:
        raise meant.wrong(
            f"it cannot be joined from here ({_first(error)}); start the run on one of the "
            "cluster's nodes, hand it in with `delia submit`"
        ) from None
    if (said := address.protection(meant)) not in _told:
        _told.add(said)
        _log.warning(said)


def _first(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def is_inside() -> bool:
    """Whether this process is a task or an actor, and no driver: it has no connection of its own
    to give up."""
    import ray

    return bool(ray.get_runtime_context().worker.mode == ray.WORKER_MODE)


def disconnect() -> None:
    """Leave the cluster, and end it if this process started it."""
    import ray

    note_shared_memory()
    if ray.is_initialized():
        ray.shutdown()
    _end_own()
    atexit.unregister(disconnect)


def _end_own() -> None:
    while _own:
        local.end(_own.pop())


def note_shared_memory() -> None:
    """Before processes of the cluster that this process started are ended: what they leave in
    ``/dev/shm`` is removed with the cluster, where they do not do it themselves."""
    for own in _own:
        shared_memory.note(one.pid for one in local.processes(own.folder))


def private_folder() -> str | None:
    """The folder of a cluster of this machine alone, in its driver and its workers; None on a
    cluster that was joined."""
    return os.environ.get(local.FOLDER)


def own_group() -> str:
    """Id of the placement group that this actor runs in; empty where it is in none."""
    from ray.util import get_current_placement_group

    group = get_current_placement_group()
    return group.id.hex() if group else ""


def free_group(group: str) -> None:
    """Remove a placement group, and with it what still runs there."""
    import ray
    from ray.util.placement_group import PlacementGroup, remove_placement_group

    remove_placement_group(PlacementGroup(ray.PlacementGroupID(bytes.fromhex(group))))


def free_orphans(but: dict[str, float] | None = None) -> None:
    """Give back what dead processes of this driver still hold; to be called while nothing of it
    runs.

    Args:
        but: keep placement groups of one bundle of this size.

    A controller of Ray Train that dies leaves its workers' placement group, which keeps their CPUs
    until the driver ends: only the dashboard's agent would clean it up.
    """
    import ray
    from ray.util.placement_group import placement_group_table

    job = ray.get_runtime_context().get_job_id()
    for name, facts in placement_group_table().items():
        # The last digits of a placement group's id are those of the job that made it.
        if name.endswith(job) and facts["state"] != "REMOVED" and facts["bundles"] != {0: but}:
            free_group(name)


def check_fits(config: RunConfig, resources: dict[str, Any]) -> None:
    """Fail now rather than wait forever for workers that no node can hold.

    Raises:
        UserError: training or synthesis asks for more than the whole cluster has.
    """
    cpus = resources.get("CPU", 0)
    gpus = resources.get("GPU", 0)
    needs = needs_of(config, gpus if math.isfinite(gpus) else 0)
    setting = workers_setting(config)
    if needs.trains and (need := needs.workers * needs.worker_cpus) > cpus:
        raise UserError(
            f"{setting} x finetune.cpus_per_worker={needs.worker_cpus} need {need} CPUs, the "
            f"cluster has {cpus:g}; lower them, raise cluster.num_cpus, or join a larger cluster"
        )
    if needs.trains and (gpus_wanted := needs.worker_gpus * needs.workers) > gpus:
        raise UserError(
            f"{setting} x finetune.gpus_per_worker={needs.worker_gpus:g} need {gpus_wanted:g} "
            f"GPUs, the cluster has {gpus:g}; lower them, or join a larger cluster"
        )
    kind, there = ("GPUs", gpus) if gpus else ("CPUs", cpus)
    if needs.engines * needs.engine_size > there:
        raise UserError(
            f"synthesize.engine.replicas={needs.engines} of {needs.engine_size} {kind} each "
            "(tensor_parallel_size x pipeline_parallel_size in its kwargs) need "
            f"{needs.engines * needs.engine_size}, the cluster has {there:g}; lower them or join "
            "a larger cluster"
        )


def has_gpu() -> bool:
    """Whether the connected cluster has any GPU."""
    import ray

    return bool(ray.cluster_resources().get("GPU", 0) > 0)


def cpus_here() -> int:
    """CPUs that this process may use."""
    return len(os.sched_getaffinity(0))


def cpus_of_cluster() -> tuple[float, float]:
    """CPUs of the connected cluster, and of the smallest of its nodes that has any."""
    found = [cpus for node in _nodes() if (cpus := node.get("CPU", 0.0)) >= 1]
    return sum(found), min(found, default=1.0)


def smallest_memory() -> float:
    """Bytes that Ray may give away on the smallest node of the connected cluster, and no more
    than what is free here now where it has only this one; 0 without nodes."""
    found = [node.get("memory", 0.0) for node in _nodes() if node.get("CPU", 0.0) >= 1]
    here = [float(memory().free)] if len(found) == 1 else []
    return min([*found, *here], default=0.0)


def _nodes() -> list[dict[str, float]]:
    """Resources of the nodes that are alive."""
    import ray

    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


def _cpus_here(config: RunConfig) -> int:
    # At least two: an actor that holds the only CPU would starve the tasks feeding it.
    return config.cluster.num_cpus or max(2, os.cpu_count() or 2)


def _quiet_data() -> None:
    from ray.data import DataContext

    context = DataContext.get_current()
    context.enable_progress_bars = False  # the console shows its own, counted in rows
    context.print_on_execution_start = False
    context.use_ray_tqdm = False
