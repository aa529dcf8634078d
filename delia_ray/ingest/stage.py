"""The ingest stage: one Ray task for each file, then limits, duplicates and the pool order.

Writes ``downstream.parquet`` and ``suite-<name>.parquet`` (EXAMPLE, file order),
``corpus.parquet`` (QUERY, ascending key) and ``rejects.parquet`` (REJECT).
"""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from delia_ray import models, runtime
from delia_ray.config import Curate, RunConfig
from delia_ray.ingest import spill
from delia_ray.ingest.curate.embed import embeddings
from delia_ray.ingest.gathering import (
    Gathered,
    drop_duplicates,
    drop_near_duplicates,
    keep_to_caps,
)
from delia_ray.ingest.parse import KIND_REJECT
from delia_ray.ingest.reading import Reading, tokenizer_folder
from delia_ray.ingest.reasoning import marks_of
from delia_ray.ingest.sources import Feed, feeds
from delia_ray.records import LEAK, QUERY, REMOVED
from delia_ray.stage import Outcome, Stage, StageRun


def settings(config: RunConfig) -> dict[str, Any]:
    """Sources, content digests of their files, and the seed of the pool order, as JSON.

    Raises:
        UserError: a path is missing, cannot be read or cannot work as configured.
    """
    described: dict[str, Any] = {"seed": config.seed, "downstream": [], "corpus": [], "suites": {}}
    sources = feeds(config)
    described["control_tokens"] = control_tokens(config, sources)
    if marks := reasoning(config, sources):
        described["reasoning"] = list(marks)
    if config.curate != Curate():
        described["curate"] = config.curate.model_dump(mode="json")
        if tokenizer_folder(config) or config.curate.diversity is not None:
            described["model"] = models.fingerprint(config.model)
    for feed in sources:
        if feed.group == "suites":
            described["suites"][feed.label] = feed.settings()
        else:
            described[feed.group].append(feed.settings())
    return described


def control_tokens(config: RunConfig, sources: Sequence[Feed]) -> list[str]:
    """The tokens of the base model that no text may hold; the downstream rows' new ones are
    not among them. None where no source is searched for them.

    Raises:
        UserError: the model is not there.
    """
    if not any(feed.checks_control for feed in sources):
        return []
    known = models.template_tokens(config.model)
    return [token for token in known if token not in config.downstream.special_tokens]


def reasoning(config: RunConfig, sources: Sequence[Feed]) -> tuple[str, str] | None:
    """What the model's template writes around reasoning, where a source keeps that.

    Raises:
        UserError: the model is not there.
    """
    if not any(feed.keeps_reasoning for feed in sources):
        return None
    return marks_of(config.model)


def run(run: StageRun) -> Outcome:
    """Read all sources and write the tables.

    Raises:
        UserError: a source gave no record at all.
        DeliaError: a file could not be read to its end.
    """
    config = run.config
    sources = feeds(config)
    for feed in sources:
        feed.check()
    runtime.connect(config)
    scratch = run.out / "scratch"
    run.out.remove("scratch")  # of a run that was broken off
    reading = Reading(
        run,
        scratch,
        control_tokens(config, sources),
        run.progress,
        reasoning=reasoning(config, sources),
    )
    gathered = reading.all(sources)
    corpus = [one for one in gathered if one.feed.group == "corpus"]
    others = [one for one in gathered if one.feed.group != "corpus"]
    drop_duplicates(corpus)
    near = config.curate.near_duplicates
    if near is not None:
        drop_near_duplicates(corpus, near.threshold)
    keep_to_caps(corpus)
    tables: dict[str, list[pa.Table]] = {}
    for one in others:
        table = pa.concat_tables(one.records)
        one.kept_duplicates = len(table) - pc.count_distinct(table.column("id")).as_py()
        name = "downstream" if one.feed.group == "downstream" else f"suite-{one.feed.label}"
        tables.setdefault(name, []).append(table)
    for name, own in tables.items():
        run.out.write_table(f"{name}.parquet", pa.concat_tables(own))
    kept = [(s, t) for one in corpus for s, t in zip(one.stored, one.records, strict=True)]
    pool = sum(len(table) for _, table in kept)
    run.out.write_tables("corpus.parquet", QUERY, spill.pool(kept, reading.buckets))
    run.out.remove("scratch")
    if config.curate.diversity is not None and config.curate.diversity.embedded:
        write_embeddings(run, config.curate.diversity.embedded)
    rejects = pa.concat_tables([KIND_REJECT.empty_table(), *(one.rejects for one in gathered)])
    run.out.write_table("rejects.parquet", rejects.drop_columns("kind"))

    counts: dict[str, Any] = {"downstream": {}, "corpus": {}, "suites": {}}
    for one in gathered:
        counts[one.feed.group][one.feed.label] = one.counts()
    counts["files"] = sum(len(feed.files) for feed in sources)
    removed = pa.concat_tables([REMOVED.empty_table(), *(one.removed for one in corpus)])
    if curates(config):
        run.out.write_table("removed.parquet", removed)
        counts["curation"] = _curated(run, corpus, removed)
    downstream = sum(c["records"] for c in counts["downstream"].values())
    repeats = sum(one.duplicates for one in corpus)
    return Outcome(
        counts,
        f"{downstream:,} downstream, {pool:,} diverse queries, {len(rejects):,} rejects"
        + (f", {repeats:,} duplicates" if repeats else "")
        + (f", {len(removed):,} removed" if len(removed) else ""),
        [f"{one.feed.label}: {line}" for one in gathered if said(one) for line in one.lines()],
    )


def said(one: Gathered) -> bool:
    """Whether it is told how the rows of a source were read; of our own there is nothing to say."""
    return one.feed.source.format != "miniature"


def write_embeddings(run: StageRun, rows: int) -> None:
    """Embed the pool's first queries by the base model, as ``embeddings.parquet``."""
    import ray

    table = run.out.read_first("corpus.parquet", ["prompt"], rows)
    texts = [turns[-1]["content"] for turns in table.column("prompt").to_pylist()]
    gpus = min(1, ray.cluster_resources().get("GPU", 0))
    task = ray.remote(embeddings).options(num_gpus=gpus, name="embed the pool")
    found = ray.get(task.remote(models.locate(run.config.model), texts))
    width = found.shape[1]
    column = pa.FixedSizeListArray.from_arrays(pa.array(found.reshape(-1)), width)
    run.out.write_table("embeddings.parquet", pa.table({"embedding": column}))


def curates(config: RunConfig) -> bool:
    """Whether any step of curation is asked for."""
    return config.curate != Curate() or any(source.cap for source in config.corpus)


def _curated(run: StageRun, corpus: Sequence[Gathered], removed: pa.Table) -> dict[str, Any]:
    """What curation found, for the manifest; the listing of leaks goes to a table."""
    found: dict[str, Any] = {"removed": dict(sorted(Counter(removed["step"].to_pylist()).items()))}
    if run.config.curate.leaks is not None:
        leaks = pa.concat_tables([LEAK.empty_table(), *(one.leaks for one in corpus)])
        run.out.write_table("leaks.parquet", leaks)
        found["leaks"] = len(leaks)
    if run.config.curate.statistics:
        for name in ("scripts", "languages"):
            total: Counter[str] = Counter()
            for one in corpus:
                total.update(getattr(one.statistics, name))
            found[name] = dict(total.most_common())
    return found


STAGE = Stage(name="ingest", version=3, needs={}, settings=settings, run=run)
