"""How training workers of one machine find each other without listening for strangers.

PyTorch's store for a rendezvous listens on every interface and believes whoever connects. On a
cluster of this machine alone the workers meet in a file, in the cluster's private folder.
"""

from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import uuid4

from ray.train.backend import Backend
from ray.train.torch import TorchConfig


@dataclass
class FileRendezvous(TorchConfig):  # type: ignore[misc]
    """Ray Train's configuration of PyTorch, with a file for a meeting point."""

    folder: str = ""
    """Where the files lie; on this machine, and for this user alone."""

    @property
    def backend_cls(self) -> type[Backend]:
        return _MeetInAFile


class _MeetInAFile(Backend):  # type: ignore[misc]
    share_cuda_visible_devices = True

    def on_start(self, worker_group: Any, backend_config: FileRendezvous) -> None:
        import ray

        gpus = worker_group.get_resources_per_worker().get("GPU", 0)
        place = f"file://{backend_config.folder}/rendezvous-{uuid4().hex}"
        backend = backend_config.backend or ("nccl" if gpus else "gloo")
        ray.get([
            worker_group.execute_single_async(
                rank, _join, backend=backend, place=place, own=rank, world=len(worker_group),
                seconds=backend_config.timeout_s,
            )
            for rank in range(len(worker_group))
        ])  # fmt: skip

    def on_shutdown(self, worker_group: Any, backend_config: FileRendezvous) -> None:
        if len(worker_group) > 1:
            worker_group.execute(_leave)


def _join(backend: str, place: str, own: int, world: int, seconds: int) -> None:
    import os

    import torch.distributed as dist
    from ray.train import get_context

    here = get_context()
    os.environ |= {
        "RANK": str(own), "WORLD_SIZE": str(world), "LOCAL_RANK": str(here.get_local_rank()),
        "LOCAL_WORLD_SIZE": str(here.get_local_world_size()),
        "NODE_RANK": str(here.get_node_rank()),
    }  # fmt: skip
    dist.init_process_group(
        backend, init_method=place, rank=own, world_size=world, timeout=timedelta(seconds=seconds)
    )


def _leave() -> None:
    import torch.distributed as dist

    if dist.is_initialized():
        dist.destroy_process_group()
