"""The ingest stage: one Ray task for each file, then limits, duplicates and the pool order.

Writes ``downstream.parquet`` and ``suite-<name>.parquet`` (EXAMPLE, file order),
``corpus.parquet`` (QUERY, ascending key) and ``rejects.parquet`` (REJECT).
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from delia_ray import models, runtime
from delia_ray.config import RunConfig
from delia_ray.errors import DeliaError, UserError
from delia_ray.ingest.parse import KIND_REJECT, Part, parse_file
from delia_ray.ingest.pool import first_of_each, merge_by_key
from delia_ray.ingest.sources import Feed, feeds
from delia_ray.records import QUERY
from delia_ray.stage import Outcome, Progress, Stage, StageRun


@dataclass
class Gathered:
    """What one source gave after its limit."""

    feed: Feed
    records: list[pa.Table]
    """One for each file."""
    rejects: pa.Table
    """KIND_REJECT."""
    read: int
    beyond_limit: int
    duplicates: int = 0
    """Records dropped because an earlier one of the corpus has the same content."""
    kept_duplicates: int = 0
    """Records that repeat an earlier one of a set where each row counts."""

    def counts(self) -> dict[str, Any]:
        """``read`` equals the sum of ``records``, all ``rejects``, ``duplicates`` and
        ``beyond_limit``; the rest is said about these."""
        reasons = Counter(self.rejects.column("kind").to_pylist())
        records = sum(map(len, self.records))
        if self.read != records + reasons.total() + self.duplicates + self.beyond_limit:
            raise AssertionError(f"rows of {self.feed.setting} do not add up: {self}")
        return {
            "files": len(self.feed.files),
            "read": self.read,
            "records": records,
            "rejects": dict(sorted(reasons.items())),
            "duplicates": self.duplicates,
            "beyond_limit": self.beyond_limit,
            "kept_duplicates": self.kept_duplicates,
            "without_answer": sum(t.column("answer").null_count for t in self.records),
        }


def settings(config: RunConfig) -> dict[str, Any]:
    """Sources, content digests of their files, and the seed of the pool order, as JSON.

    Raises:
        UserError: a path is missing, cannot be read or cannot work as configured.
    """
    described: dict[str, Any] = {"seed": config.seed, "downstream": [], "corpus": [], "suites": {}}
    sources = feeds(config)
    described["control_tokens"] = control_tokens(config, sources)
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
    control = control_tokens(config, sources)
    parts = read_parts(sources, config.seed, control, run.progress)
    gathered = [gather(feed, own) for feed, own in zip(sources, parts, strict=True)]
    corpus = [one for one in gathered if one.feed.group == "corpus"]
    others = [one for one in gathered if one.feed.group != "corpus"]
    drop_duplicates(corpus)
    tables: dict[str, list[pa.Table]] = {}
    for one in others:
        table = pa.concat_tables(one.records)
        one.kept_duplicates = len(table) - pc.count_distinct(table.column("id")).as_py()
        name = "downstream" if one.feed.group == "downstream" else f"suite-{one.feed.label}"
        tables.setdefault(name, []).append(table)
    for name, own in tables.items():
        run.out.write_table(f"{name}.parquet", pa.concat_tables(own))
    queries = [table for one in corpus for table in one.records]
    pool = merge_by_key([QUERY.empty_table(), *queries])
    run.out.write_table("corpus.parquet", pool)
    rejects = pa.concat_tables([KIND_REJECT.empty_table(), *(one.rejects for one in gathered)])
    run.out.write_table("rejects.parquet", rejects.drop_columns("kind"))

    counts: dict[str, Any] = {"downstream": {}, "corpus": {}, "suites": {}}
    for one in gathered:
        counts[one.feed.group][one.feed.label] = one.counts()
    counts["files"] = sum(len(feed.files) for feed in sources)
    downstream = sum(c["records"] for c in counts["downstream"].values())
    repeats = sum(one.duplicates for one in corpus)
    return Outcome(
        counts,
        f"{downstream:,} downstream, {len(pool):,} diverse queries, {len(rejects):,} rejects"
        + (f", {repeats:,} duplicates" if repeats else ""),
    )


def read_parts(
    sources: Sequence[Feed], seed: int, control: Sequence[str], progress: Progress
) -> list[list[Part]]:
    """Every file of every source, one Ray task each; needs a connected Ray.

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
    for feed in sources:
        refs.append([])
        for file, job in zip(feed.files, feed.jobs(seed, control), strict=True):
            ref = task.options(**(here if file.local else {}), name=f"ingest {file.name}").remote(
                job
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


def gather(feed: Feed, parts: Sequence[Part]) -> Gathered:
    """The files of one source in order, up to ``rows`` records; what stands after the last
    record taken, good or not, is beyond the limit.

    Raises:
        UserError: there is not one record, or none of a file and the config does not allow that.
    """
    limit = feed.source.rows
    records, rejects, beyond, taken = [], [], 0, 0
    for file, part in zip(feed.files, parts, strict=True):
        if not len(part.records) and feed.source.unreadable == "error":
            raise _unreadable(feed, file.name, part)
        kept, bad = part.records, part.rejects
        if limit is not None and taken + len(kept) >= limit:
            kept = kept.slice(0, limit - taken)
            last = kept.column("row")[-1].as_py() if len(kept) else 0
            bad = bad.filter(pc.less_equal(bad.column("row"), last))
        records.append(kept)
        rejects.append(bad)
        taken += len(kept)
        beyond += part.read - len(kept) - len(bad)
    if limit is None and beyond:
        raise AssertionError(f"{beyond} rows of {feed.setting} are neither record nor reject")
    if not taken:
        raise _nothing(feed, pa.concat_tables(rejects))
    read = sum(part.read for part in parts)
    return Gathered(feed, records, pa.concat_tables(rejects), read, beyond)


def drop_duplicates(corpus: Sequence[Gathered]) -> None:
    """Keep the first record of each id, through all sources in the config's order."""
    masks = iter(first_of_each([table for one in corpus for table in one.records]))
    for one in corpus:
        for index, table in enumerate(one.records):
            kept = next(masks)
            if repeats := len(table) - kept.true_count:  # filtering copies the table
                one.duplicates += repeats
                one.records[index] = table.filter(kept)


def _nothing(feed: Feed, rejects: pa.Table) -> UserError:
    where = f"{feed.setting}.path={feed.source.path}"
    if not len(rejects):
        return UserError(f"{where}: no rows; {feed.setting} must not be empty")
    kind, times = Counter(rejects.column("kind").to_pylist()).most_common(1)[0]
    first = rejects.filter(pc.equal(rejects.column("kind"), kind)).slice(0, 1).to_pylist()[0]
    return UserError(
        f"{where}: none of {len(rejects):,} rows could be read; {times:,} times: {kind} "
        f"(row {first['row']} of {first['file']}: {first['reason']}); "
        f"see {feed.setting}.format and {feed.setting}.columns"
    )


def _unreadable(feed: Feed, file: str, part: Part) -> UserError:
    if len(feed.files) == 1:
        return _nothing(feed, part.rejects)
    why = "it has no rows"
    if len(part.rejects):
        kind, times = Counter(part.rejects.column("kind").to_pylist()).most_common(1)[0]
        first = part.rejects.slice(0, 1).to_pylist()[0]
        why = f"{times:,} times: {kind} (row {first['row']}: {first['reason']})"
    return UserError(
        f"{feed.setting}.path={feed.source.path}: nothing in {file} could be read; {why}; mend or "
        f"remove it, see {feed.setting}.format, or set {feed.setting}.unreadable=set_aside"
    )


STAGE = Stage(name="ingest", version=2, needs={}, settings=settings, run=run)
