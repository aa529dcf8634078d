"""Where a training's checkpoints go and come from.

Ray Train can keep checkpoints too, but knows of one only when its controller next asks the
workers, some seconds later, so a crash right after one would cost the steps since the one
before. Here a checkpoint counts from the moment that its last file is written.
"""

import hashlib
import threading
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch.distributed as dist
from safetensors.torch import load, save

from delia_ray.artifacts import Folder
from delia_ray.finetune.state import State
from delia_ray.records import METRIC_POINT, conform
from delia_ray.stored import Damaged, reading

_WHOLE = "whole.json"
"""Written last; without it the others are leftovers of a crash."""


class Checkpoint(NamedTuple):
    """What an arm goes on from."""

    step: int
    """Optimizer steps done."""
    curve: list[dict[str, Any]]
    """METRIC_POINT rows of them."""
    state: State


class Checkpoints:
    """Checkpoints in ``folder``, one folder ``<arm>/<step>`` each: arms that are trained side by
    side have nothing in common. Every rank calls every method, together.

    On a disk a checkpoint is whole before the next step. In remote storage it is written while
    the next steps run, and is whole at the next checkpoint.

    Args:
        folder: reached by all ranks.
        keep: how many of the newest are kept; the one of the lowest score is, besides.
    """

    def __init__(self, folder: Folder, keep: int = 1) -> None:
        self.folder, self.keep = folder, keep
        self._pending: tuple[threading.Thread, list[BaseException], str, dict[str, Any]] | None
        self._pending = None

    def last(self, arm: str) -> Checkpoint | None:
        """The newest whole one of ``arm``."""
        found = self._whole(arm)
        if not found:
            return None
        step = max(found)
        own, facts = self.folder / folder_name(arm, step), found[step]
        state: State = {}
        for rank in range(facts["world"]):
            name = _share(rank, facts["world"])
            with reading(f"{own}/{name}", _ADVICE):
                data = own.read_bytes(name)
                if own.read_json(f"{name}.json", sealed=True).get("sha256") != _digest(data):
                    raise ValueError("its digest is not the one beside it")
                state |= load(data)
        return Checkpoint(step, _curve(own, step), state)

    def save(
        self, arm: str, step: int, score: float, share: State, curve: list[dict[str, Any]]
    ) -> None:
        """Write a checkpoint, of whose state this rank brings ``share``."""
        self.settle()
        rank, world = dist.get_rank(), dist.get_world_size()
        own = self.folder / folder_name(arm, step)
        failed: list[BaseException] = []
        data, kept = save(dict(share)), list(curve)

        def write() -> None:
            try:
                own.write_bytes(_share(rank, world), data)
                own.write_json(f"{_share(rank, world)}.json", {"sha256": _digest(data)})
                if rank == 0:
                    own.write_json("curve.json", {"curve": kept})
            except BaseException as error:  # raised again where the training can see it
                failed.append(error)

        thread = threading.Thread(target=write)
        thread.start()
        facts = {"arm": arm, "step": step, "score": score, "world": world}
        self._pending = thread, failed, arm, facts
        if self.folder.is_local:
            self.settle()

    def settle(self) -> None:
        """Wait until what is being written is whole, and remove what is not kept any more."""
        if self._pending is None:
            return
        thread, failed, arm, facts = self._pending
        self._pending = None
        thread.join()
        if failed:
            raise failed[0]
        dist.barrier()  # all shares are there
        if dist.get_rank() == 0:
            (self.folder / folder_name(arm, facts["step"])).write_json(_WHOLE, facts)
            self._prune(arm)

    def _prune(self, arm: str) -> None:
        found = self._whole(arm)
        kept = set(sorted(found)[-self.keep :]) | {min(found, key=lambda s: found[s]["score"])}
        own = self.folder / arm
        for name in own.names():
            if name not in {_step_name(step) for step in kept}:
                own.remove(name)

    def forget(self, arm: str) -> None:
        """Remove those of an arm that is done, whose result is kept. For one rank."""
        self.folder.remove(arm)

    def _whole(self, arm: str) -> dict[int, Mapping[str, Any]]:
        """Facts of each whole checkpoint by step."""
        found, own = {}, self.folder / arm
        for name in own.names():
            if not (own / name).exists(_WHOLE):
                continue
            facts = (own / name).read_json(_WHOLE, sealed=True)
            if fault := _fault(facts, f"{arm}/{name}"):
                raise Damaged(f"{own}/{name}/{_WHOLE}", fault, _ADVICE)
            found[facts["step"]] = facts
        return found


_ADVICE = "remove the checkpoint's folder; training goes on from the one before, or anew"


def _fault(facts: Any, name: str) -> str:
    """What is wrong with the facts of the checkpoint in folder ``name``; empty for nothing."""
    if not isinstance(facts, dict) or not {"arm", "step", "score", "world"} <= facts.keys():
        return "it is not of a checkpoint"
    step, world, score = facts["step"], facts["world"], facts["score"]
    if type(step) is not int or folder_name(str(facts["arm"]), step) != name:
        return f"it is of {str(facts['arm'])[:50]!r}, step {str(step)[:50]}"
    if type(world) is not int or not 1 <= world <= 100_000:
        return f"world={str(world)[:50]}"
    return "" if isinstance(score, int | float) else f"score={str(score)[:50]}"


def _curve(own: Folder, step: int) -> list[dict[str, Any]]:
    with reading(f"{own}/curve.json", _ADVICE):
        curve = own.read_json("curve.json", sealed=True).get("curve")
        table = conform(curve, METRIC_POINT)
        if table["step"].to_pylist() != list(range(1, step + 1)):
            raise ValueError("its steps are not those before the checkpoint")
        return list(curve)


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def folder_name(arm: str, step: int) -> str:
    """Of a checkpoint."""
    return f"{arm}/{_step_name(step)}"


def _step_name(step: int) -> str:
    return f"{step:08d}"


def _share(rank: int, world: int) -> str:
    return f"state-{rank:05d}-of-{world:05d}.safetensors"
