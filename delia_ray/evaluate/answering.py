"""Who answers what, and the task that does it: one engine, its answers kept as they come."""

import os
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

import pyarrow as pa

from delia_ray.artifacts import Folder
from delia_ray.engines import Completion, Request, make_engine
from delia_ray.records import COMPLETION

assert COMPLETION.names == [f.name for f in fields(Completion)]


@dataclass(frozen=True)
class Share:
    """What one task answers, with one engine."""

    name: str
    """Of its files."""
    model: str
    """The base model, or a folder inside ``finetuned``."""
    finetuned: Folder | None
    requests: list[Request]
    """Where ``adapter`` is set, it names a folder inside ``adapters_in``."""
    chunk: int
    """Requests whose answers are kept together; a kill costs one such chunk."""
    adapters_in: Folder | None = None

    def chunks(self) -> dict[str, list[Request]]:
        """File name -> requests."""
        starts = range(0, len(self.requests), self.chunk)
        return {
            f"{self.name}-{n:05d}.parquet": self.requests[at : at + self.chunk]
            for n, at in enumerate(starts)
        }


@dataclass(frozen=True)
class Took:
    """Where a task's time went, in seconds; what was answered before it began is not in it."""

    loading: float = 0.0
    answering: float = 0.0
    prompts: int = 0
    tokens: int = 0
    """Generated."""


def answer(engine: Any, share: Share, out: Folder) -> Took:
    """Answer what of ``share`` has no file in ``out`` yet; the body of a Ray task.

    Batches are the same however often it is interrupted, so answers are too.

    Args:
        engine: a member of ``config.Engine``.
        share: what to answer.
        out: gets a parquet file of completions for each chunk, whole or not at all.
    """
    left = {n: requests for n, requests in share.chunks().items() if not out.exists(n)}
    if not left:
        return Took()
    began = time.perf_counter()
    prompts = tokens = 0
    with _local(share) as (model, adapters):
        settings = engine.model_copy(update={"adapters": list(adapters.values())}) if (
            adapters
        ) else engine  # fmt: skip
        made = make_engine(settings, model)
        generate = made.load(made.longest(lambda: share.requests))
        loaded = time.perf_counter()
        for name, requests in left.items():
            rows = generate([replace(r, adapter=adapters.get(r.adapter, "")) for r in requests])
            out.write_table(name, pa.Table.from_pylist([asdict(r) for r in rows], COMPLETION))
            prompts += len(rows)
            tokens += sum(r.completion_tokens for r in rows)
    return Took(loaded - began, time.perf_counter() - loaded, prompts, tokens)


@contextmanager
def _local(share: Share) -> Iterator[tuple[str, dict[str, str]]]:
    """The model and the adapters (by their names) as folders of this machine."""
    copies: list[str] = []

    def here(folder: Folder, name: str) -> str:
        path = folder.download(name)
        if not folder.is_local:
            copies.append(os.path.dirname(path))
        return path

    try:
        model = here(share.finetuned, share.model) if share.finetuned else share.model
        names = dict.fromkeys(r.adapter for r in share.requests if r.adapter)
        adapters = {n: here(share.adapters_in, n) for n in names} if share.adapters_in else {}
        yield model, adapters
    finally:
        for copy in copies:
            shutil.rmtree(copy, ignore_errors=True)


def cut(requests: Sequence[Request], tasks: int, batch_size: int) -> list[list[Request]]:
    """``requests`` in at most ``tasks`` shares.

    Prompts of similar length stay together and shares end where batches end, so that the
    batches, and with them the last digits of the logits, do not depend on the cluster.
    """
    if not requests:
        return []
    ordered = sorted(requests, key=lambda r: sum(len(m["content"]) for m in r.messages))
    batches = -(-len(ordered) // batch_size)
    size = -(-batches // tasks) * batch_size
    return [ordered[at : at + size] for at in range(0, len(ordered), size)]


def lanes(tasks: int, cpus: int) -> int:
    """How many of ``tasks`` equally long tasks should run at once on ``cpus`` CPUs.

    Up to twice as many as CPUs: three at once on two CPUs end together, where two and then one
    would leave a CPU idle for half of the time.
    """
    if tasks <= cpus:
        return max(1, tasks)

    def time(at_once: int) -> float:
        full, rest = divmod(tasks, at_once)
        return full * at_once / cpus + (max(1.0, rest / cpus) if rest else 0.0)

    return min(range(cpus, min(2 * cpus, tasks) + 1), key=lambda n: (round(time(n), 9), n))
