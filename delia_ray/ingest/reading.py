"""Every file of every source read on the cluster, one Ray task each."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from delia_ray import models
from delia_ray.artifacts import Folder
from delia_ray.config import Curate, Leaks, RunConfig
from delia_ray.errors import DeliaError
from delia_ray.ingest.curate.leaks import index_of
from delia_ray.ingest.curate.steps import Curation, texts_of
from delia_ray.ingest.gathering import Gathered, gather
from delia_ray.ingest.parse import Job, Part, parse_file
from delia_ray.ingest.sources import Feed
from delia_ray.stage import Progress, StageRun


@dataclass
class Reading:
    """Reads sources on the cluster."""

    stage: StageRun
    scratch: Folder
    control: Sequence[str]
    progress: Progress
    buckets: int = 1
    reasoning: tuple[str, str] | None = None

    def all(self, sources: Sequence[Feed]) -> list[Gathered]:
        """Every source in order. The corpus is read last where its rows are held against the
        others', else at the same time."""
        config = self.stage.config
        corpus = [feed for feed in sources if feed.group == "corpus"]
        self.buckets = buckets_for(corpus)
        if config.curate.leaks is None:
            curation = Curation(config.curate, tokenizer=tokenizer_folder(config))
            parts = self._read(sources, curation if config.curate != Curate() else None)
            return [gather(feed, own) for feed, own in zip(sources, parts, strict=True)]
        others = [feed for feed in sources if feed.group != "corpus"]
        read = zip(others, self._read(others, None), strict=True)
        found = {feed.setting: gather(feed, own) for feed, own in read}
        names, texts = protected(list(found.values()), config.curate.leaks)
        index = index_of(texts, config.curate.leaks)
        curation = Curation(config.curate, index, tuple(names), tokenizer_folder(config))
        for feed, own in zip(corpus, self._read(corpus, curation), strict=True):
            found[feed.setting] = gather(feed, own)
        return [found[feed.setting] for feed in sources]

    def _read(self, sources: Sequence[Feed], curation: Curation | None) -> list[list[Part]]:
        jobs = []
        for number, feed in enumerate(sources):
            own = feed.jobs(self.stage.config.seed, self.control, self.reasoning)
            if feed.group == "corpus":
                own = [
                    replace(job, store=(self.scratch, f"{number}-{i}.arrow"), buckets=self.buckets)
                    for i, job in enumerate(own)
                ]
            jobs.append(own)
        return read_parts(sources, jobs, curation, self.progress)


def buckets_for(corpus: Sequence[Feed]) -> int:
    """Ranges of the pool key such that one of them fits easily into memory."""
    size = 0
    for file in (file for feed in corpus for file in feed.files):
        try:
            own = os.path.getsize(file.url) if file.local else _REMOTE
        except OSError:  # whoever reads it will say so
            own = 0
        size += own * (6 if file.url.endswith((".gz", ".zst", ".parquet")) else 1)
    return max(1, min(256, size // _BUCKET))


_BUCKET = 16 * 2**20
_REMOTE = 64 * 2**20  # asking each server for sizes would take longer than it saves


def protected(gathered: Sequence[Gathered], leaks: Leaks) -> tuple[list[str], list[str]]:
    """Names and texts of what must not be in the corpus: last user turns and answers."""
    names, texts = [], []
    for one in gathered:
        if one.feed.group not in leaks.against:
            continue
        for row in (row for table in one.records for row in table.to_pylist()):
            name = f"{one.feed.setting}, row {row['row']} of {row['file']}"
            for text in texts_of(row):
                names.append(name)
                texts.append(text)
    return names, texts


def tokenizer_folder(config: RunConfig) -> str:
    """Folder of the base model where lengths are measured, else nothing."""
    limits = config.curate.min_tokens, config.curate.max_tokens
    return "" if limits == (None, None) else models.locate(config.model)


def read_parts(
    sources: Sequence[Feed],
    jobs: Sequence[Sequence[Job]],
    curation: Curation | None,
    progress: Progress,
) -> list[list[Part]]:
    """Every file of every source, one Ray task each; needs a connected Ray.

    Plain tasks rather than Ray Data: a file is parsed and curated in one pass in one process, and
    what comes back are slim tables, so no block of rows travels between processes.

    Raises:
        DeliaError: a file could not be read.
    """
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    node = ray.get_runtime_context().get_node_id()
    nodes: Any = ray.nodes()
    cpus = {n["NodeID"]: n["Resources"].get("CPU", 0) for n in nodes}.get(node, 0)
    # A local file is on this node's disk and perhaps on no other, and this node may be a
    # cluster's head, which often offers no CPUs.
    here = {
        "scheduling_strategy": NodeAffinitySchedulingStrategy(node, soft=False),
        "num_cpus": min(1, cpus),
    }
    task = ray.remote(parse_file)
    refs: list[list[Any]] = []
    origin: dict[Any, tuple[Feed, str]] = {}
    shared = ray.put(curation)
    for feed, own in zip(sources, jobs, strict=True):
        refs.append([])
        for file, job in zip(feed.files, own, strict=True):
            ref = task.options(**(here if file.local else {}), name=f"ingest {file.name}").remote(
                job, shared
            )
            refs[-1].append(ref)
            origin[ref] = (feed, file.name)
    waiting, total = list(origin), len(origin)
    while waiting:
        done, waiting = ray.wait(waiting, num_returns=1)
        feed, name = origin[done[0]]
        try:
            ray.get(done[0])
        except ray.exceptions.RayError as error:
            cause = getattr(error, "cause", None) or error
            raise DeliaError(
                f"{feed.setting}.path={feed.source.path}: reading {name} failed "
                f"({type(cause).__name__}: {cause})"
            ) from error
        progress(total - len(waiting), total, name)
    return [ray.get(own) for own in refs]
