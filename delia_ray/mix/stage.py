"""The stage: tokenise what an arm can use, lay down and pack each arm's steps, count both."""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa

from delia_ray import runtime
from delia_ray.config import RunConfig
from delia_ray.errors import UserError
from delia_ray.mix.advice import nothing_to_train
from delia_ray.mix.build import STORE, Job, build_all
from delia_ray.mix.count import Counted, asked
from delia_ray.mix.draws import Ints
from delia_ray.mix.index import Index
from delia_ray.mix.order import Order
from delia_ray.mix.plan import Packed, StepPlan, make_order, packed_steps
from delia_ray.mix.rank import by_loss, farthest_first
from delia_ray.mix.reuse import SCORES, TABLES, find, store_key, take_scores, take_store, tell
from delia_ray.mix.score import score_all
from delia_ray.models import fingerprint
from delia_ray.packing import packs_needed
from delia_ray.records import SHARE, STEP, conform
from delia_ray.stage import Outcome, Stage, StageRun
from delia_ray.store import lists, write_file, write_index

RANKINGS: dict[str, Callable[[pa.Table], Ints]] = {
    "farthest_first": lambda t: farthest_first(np.stack(t["vector"].to_numpy())),
    "low_loss_first": lambda t: by_loss(t["loss"].to_numpy(), high=False),
    "high_loss_first": lambda t: by_loss(t["loss"].to_numpy(), high=True),
}
"""Strategies that look at the rows: scores of the diverse rows to their ranking."""


def settings(config: RunConfig) -> dict[str, Any]:
    """The mix, the arms, and what sets the number of steps and packs."""
    return {
        "mix": config.mix.model_dump(mode="json"),
        # What the loss counts does not change what is laid down.
        "arms": {
            name: arm.model_dump(mode="json", exclude={"objective", "snapshots"})
            for name, arm in config.arms.items()
        },
        "weights": _weights(config),
        "batch_size": config.finetune.batch_size,
        "steps": config.finetune.steps,
        "special_tokens": list(config.downstream.special_tokens),
        "seed": config.order_seed,
        "model": fingerprint(config.model),
    }


def run(stage: StageRun) -> Outcome:
    """Write the stores ``sequences`` and ``steps-<arm>`` and the tables that describe them."""
    config = stage.config
    job = _job(stage)
    key = store_key(stage, NEEDS)
    others = find(stage, key)
    if others:
        parts = take_store(others[0], stage.out)
        sequences, untrained = (stage.out.read_table(name) for name in TABLES)
    else:
        sequences, untrained, parts = _tokenise(stage, job)
        stage.out.write_table("sequences.parquet", sequences)
        stage.out.write_table("untrained.parquet", untrained)
    tell(stage.out, key, others)
    index = Index(sequences, _weights(config))
    if not index.rows:
        raise UserError(nothing_to_train(_reasons(untrained), config.mix.max_length))
    if config.mix.strategy in RANKINGS:
        scored = [folder for folder in others if folder.exists(SCORES)]
        if scored:
            take_scores(scored[0], stage.out)
        index.ranking = _rank(stage, job, parts, index)
    indices = {name: index.using(arm.answers) for name, arm in config.arms.items()}
    orders = {arm: _order(config, arm, own, untrained) for arm, own in indices.items()}
    batch = config.finetune.batch_size
    longest = max((o.epoch for o in orders.values()), default=0)
    steps = config.finetune.steps or math.ceil(longest / batch)
    counts: dict[str, Any] = {
        "steps": steps,
        "batch_size": batch,
        "untrained": _reasons(untrained),
        "tokens_left_out": _left_out(untrained),
        "downstream_rows_left_out": index.lost,
        "arms": {},
    }
    for done, (arm, order) in enumerate(orders.items()):
        stage.progress(len(config.arms) + done, 2 * len(config.arms), f"packing {arm}")
        own = config.arms[arm].steps or steps
        counts["arms"][arm] = _write_arm(stage, arm, order, indices[arm], own)
    return Outcome(counts, _summary(counts))


NEEDS = {
    "ingest": ("downstream.parquet", "corpus.parquet"),
    "synthesize": ("answers.parquet", "rewordings.parquet"),
}
STAGE = Stage("mix", version=4, needs=NEEDS, settings=settings, run=run)


def _weights(config: RunConfig) -> dict[str, float]:
    return {s.label: s.weight for s in config.corpus}


def _job(stage: StageRun) -> Job:
    config, mix = stage.config, stage.config.mix
    return Job(
        config.model, tuple(config.downstream.special_tokens), stage.inputs["ingest"],
        stage.inputs["synthesize"], stage.out, mix.max_length, mix.overlong, mix.turns, mix.mosaic,
        reference=config.uses_reference(),
    )  # fmt: skip


def _tokenise(stage: StageRun, job: Job) -> tuple[pa.Table, pa.Table, list[int]]:
    """The store of sequences; what is in it, what is not, and the sequences of each part."""
    config = stage.config
    parts = job.parts()
    if job.is_large:
        runtime.connect(config)
    done = {}
    for built in build_all(job):
        if config.mix.overlong == "error":
            _refuse_overlong(built.untrained, config.mix.max_length)
        done[built.part] = built
        stage.progress(len(done) / 2, parts, "tokenising")
    ordered = [done[part] for part in range(parts)]
    rows = [len(b.sequences) for b in ordered]
    write_index(stage.out, STORE, rows)
    return (
        pa.concat_tables([b.sequences for b in ordered]),
        pa.concat_tables([b.untrained for b in ordered]),
        rows,
    )


def _rank(stage: StageRun, job: Job, rows: list[int], index: Index) -> Ints:
    """The ranking that the strategy asks for; the scores stay in ``scores.parquet``."""
    if stage.out.exists(SCORES):  # taken over, or of a run that was broken off
        scores = stage.out.read_table(SCORES)
    else:
        scores = _score(stage, replace(job, reference=False), rows)
        stage.out.write_table(SCORES, scores)
    of_rows = scores.take(index.first[index.diverse])  # a split row by its first piece
    return RANKINGS[stage.config.mix.strategy](of_rows)


def _score(stage: StageRun, job: Job, rows: list[int]) -> pa.Table:
    """Of each sequence; references are ranked like the model's own answers to their queries."""
    done: dict[int, pa.Table] = {}
    for part, table in score_all(job, rows):
        done[part] = table
        stage.progress(len(done), 2 * job.parts(), "scoring")
    return pa.concat_tables([done[part] for part in sorted(done)])


def _refuse_overlong(untrained: pa.Table, limit: int) -> None:
    for row in untrained.to_pylist():
        if row["tokens"] > limit:
            raise UserError(
                f"{row['kind']} row {row['id']} of {row['source']} has {row['tokens']:,} tokens, "
                f"more than mix.max_length={limit:,}; raise it, or set mix.overlong=set_aside "
                "or split"
            )


def _order(config: RunConfig, arm: str, index: Index, untrained: pa.Table) -> Order:
    try:
        return make_order(
            config.mix, config.arms[arm], index, config.order_seed, config.finetune.batch_size
        )
    except ValueError as error:
        raise UserError(
            f"arm {arm}: {error} ({len(untrained):,} rows could not be trained on: "
            f"{_reasons(untrained) or 'none'}). Raise mix.max_length or synthesize.slack, lower "
            f"the ratio (arms.{arm}.ratio), or allow repeats with mix.repeat=true."
        ) from None


def _write_arm(stage: StageRun, arm: str, order: Order, index: Index, steps: int) -> dict[str, Any]:
    config = stage.config
    batch, reworded = config.finetune.batch_size, config.arms[arm].reworded
    limit = config.mix.pack_length or config.mix.max_length
    laid = StepPlan(order, index, steps, batch, reworded, config.mix.paired_wordings)
    packed = Packed(packs_needed(laid.tokens(), limit, config.finetune.workers))
    counted = Counted(index, steps * batch)
    files: list[int] = []
    for sequences, packs in packed_steps(laid, packed, counted.add):
        columns = {
            "sequence": lists(sequences, STEP.field("sequence").type.value_type),
            "pack": lists(packs, STEP.field("pack").type.value_type),
        }
        files.append(write_file(stage.out, f"steps-{arm}", len(files), columns))
    write_index(stage.out, f"steps-{arm}", files, packs=packed.packs)
    stage.out.write_table(f"shares-{arm}.parquet", conform(counted.rows(), SHARE))
    totals, ratio = counted.totals(), config.arm_ratio(arm)
    rows = totals["rows"]
    return {
        "steps": steps,
        "ratio_asked": ratio,
        "ratio_realised": round(rows["diverse"] / max(1, rows["downstream"]), 3),
        "epoch": order.epoch,
        "epochs": round(steps * batch / order.epoch, 3),
        "unique_rows": {
            "downstream": order.downstream.size,
            "diverse": min(index.pool, order.diverse.size) if order.diverse else 0,
        },
        **totals,
        "sources": counted.sources(asked(order, index, steps * batch)),
        "packs_per_step": packed.packs,
        "packing_efficiency": round(packed.efficiency, 4),
        "tokens_per_pack": round(packed.tokens / max(1, steps * packed.packs)),
    }


def _reasons(untrained: pa.Table) -> dict[str, int]:
    """Rows by kind and reason."""
    found: dict[str, int] = {}
    for row in untrained.to_pylist():
        reason = row["reason"].split(":")[0]
        found[f"{row['kind']}, {reason}"] = found.get(f"{row['kind']}, {reason}", 0) + 1
    return found


def _left_out(untrained: pa.Table) -> int:
    """Tokens of rows that were left out whole."""
    return sum(r["tokens"] for r in untrained.to_pylist() if not r["reason"].startswith("split"))


def _summary(counts: dict[str, Any]) -> str:
    parts = []
    for arm, c in counts["arms"].items():
        total = sum(c["supervised_tokens"].values())
        share = c["supervised_tokens"]["downstream"] / max(1, total)
        used = c["unique_rows"]
        parts.append(
            f"{arm} {c['ratio_asked']:g}x: {used['downstream']:,} + {used['diverse']:,} rows, "
            f"{c['packing_efficiency']:.1%} packed, supervised {share:.1%} / {1 - share:.1%}"
        )
    return "; ".join(parts)
