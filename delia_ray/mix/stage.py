"""The stage: tokenise what an arm can use, lay down each arm's order, count both."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from delia_ray.config import RunConfig
from delia_ray.errors import UserError
from delia_ray.mix.order import Order, exact
from delia_ray.mix.tokenize import encode
from delia_ray.models import end_ids, fingerprint, load_tokenizer, locate
from delia_ray.records import SEQUENCE, conform
from delia_ray.stage import Outcome, Stage, StageRun


def settings(config: RunConfig) -> dict[str, Any]:
    """The mix, the arms, and what sets the number of steps."""
    return {
        "mix": config.mix.model_dump(mode="json"),
        "arms": {name: arm.model_dump(mode="json") for name, arm in config.arms.items()},
        "batch_size": config.finetune.batch_size,
        "steps": config.finetune.steps,
        "special_tokens": list(config.downstream.special_tokens),
        "seed": config.seed,
        "model": fingerprint(config.model),
    }


@dataclass(frozen=True)
class _Rows:
    """Where the tokenised rows stand in ``sequences.parquet``."""

    variants: list[list[int]]
    """For each downstream row its wordings, the original first."""
    diverse: list[int]
    """The pool in pool order."""
    lengths: np.ndarray[Any, Any]
    supervised: np.ndarray[Any, Any]


def run(stage: StageRun) -> Outcome:
    """Write ``sequences.parquet`` and ``order-<arm>.parquet``: position -> sequence."""
    config = stage.config
    sequences, overlong = _tokenise(stage)
    rows = _index(sequences)
    if not rows.variants:
        raise UserError(
            f"every downstream row is longer than mix.max_length={config.mix.max_length} tokens; "
            "raise it"
        )
    stage.out.write_table("sequences.parquet", conform(sequences, SEQUENCE))
    orders = {arm: _order(config, arm, rows, overlong) for arm in config.arms}
    batch = config.finetune.batch_size
    longest = max((o.epoch for o in orders.values()), default=0)
    steps = config.finetune.steps or math.ceil(longest / batch)
    counts: dict[str, Any] = {"steps": steps, "batch_size": batch, "overlong": overlong, "arms": {}}
    for arm, order in orders.items():
        positions = np.arange(steps * batch)
        chosen, downstream = _lay_down(order, rows, positions, config.arms[arm].reworded)
        stage.out.write_table(f"order-{arm}.parquet", pa.table({"sequence": chosen}))
        counts["arms"][arm] = _count(order, rows, chosen, downstream, config.arm_ratio(arm))
    return Outcome(counts, _summary(counts))


STAGE = Stage(
    "mix",
    version=1,
    needs={
        "ingest": ("downstream.parquet",),
        "synthesize": ("answers.parquet", "rewordings.parquet"),
    },
    settings=settings,
    run=run,
)


def _tokenise(stage: StageRun) -> tuple[list[dict[str, Any]], dict[str, int]]:
    """All sequences (downstream wordings, then the pool) and how many were too long."""
    config = stage.config
    path = locate(config.model)
    tokenizer = load_tokenizer(path, config.downstream.special_tokens)
    ends, limit = end_ids(path), config.mix.max_length
    sequences: list[dict[str, Any]] = []
    overlong = {"downstream": 0, "diverse": 0}
    rows = list(_rows(stage))
    for done, row in enumerate(rows):
        ids, supervised = encode(tokenizer, row.pop("prompt"), row.pop("answer"), ends)
        if len(ids) <= limit:
            sequences.append({**row, "input_ids": ids, "supervised": supervised})
        elif config.mix.overlong == "error":
            raise UserError(
                f"{row['kind']} row {row['id']} of {row['source']} has {len(ids):,} tokens, more "
                f"than mix.max_length={limit:,}; raise it, or set mix.overlong=set_aside"
            )
        else:
            overlong[row["kind"]] += 1
        if done % 256 == 0:
            stage.progress(done, len(rows), "tokenising")
    return sequences, overlong


def _rows(stage: StageRun) -> Iterator[dict[str, Any]]:
    made = stage.inputs["synthesize"]
    wordings: dict[str, list[dict[str, Any]]] = {}
    for rewording in made.read_table("rewordings.parquet").to_pylist():
        wordings.setdefault(rewording["id"], []).append(rewording)
    for row in stage.inputs["ingest"].read_table("downstream.parquet").to_pylist():
        base = {"id": row["id"], "source": row["source"], "kind": "downstream"}
        yield {**base, "variant": 0, "prompt": row["prompt"], "answer": row["answer"]}
        # Popped: a downstream row that stands there twice shares its id, and has its
        # rewordings once.
        for other in wordings.pop(row["id"], []):
            prompt, variant = other["prompt"], other["variant"]
            yield {**base, "variant": variant, "prompt": prompt, "answer": row["answer"]}
    for answer in made.read_table("answers.parquet").to_pylist():
        base = {"id": answer["id"], "source": answer["source"], "kind": "diverse"}
        yield {**base, "variant": 0, "prompt": answer["prompt"], "answer": answer["answer"]}


def _index(sequences: list[dict[str, Any]]) -> _Rows:
    variants: list[list[int]] = []
    diverse: list[int] = []
    for at, row in enumerate(sequences):
        if row["kind"] == "diverse":
            diverse.append(at)
        elif row["variant"] == 0:
            variants.append([at])
        elif variants and sequences[variants[-1][0]]["id"] == row["id"]:
            variants[-1].append(at)
    return _Rows(
        variants,
        diverse,
        np.array([len(s["input_ids"]) for s in sequences]),
        np.array([sum(s["supervised"]) for s in sequences]),
    )


def _order(config: RunConfig, arm: str, rows: _Rows, overlong: dict[str, int]) -> Order:
    try:
        return Order(
            config.seed, exact(config.arm_ratio(arm)), len(rows.variants), len(rows.diverse),
            config.mix.repeat,
        )  # fmt: skip
    except ValueError as error:
        raise UserError(
            f"arm {arm}: {error} ({overlong['diverse']} diverse rows were longer than "
            f"mix.max_length={config.mix.max_length}). Raise mix.max_length or "
            "synthesize.slack, lower the ratio, or allow repeats with mix.repeat=true."
        ) from None


def _lay_down(
    order: Order, rows: _Rows, positions: np.ndarray[Any, Any], reworded: bool
) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Sequence numbers at ``positions``, and whether each is a downstream row.

    A downstream row takes its wordings in turn, each row starting at another one, so that
    every pass over the rows holds all kinds of wordings.
    """
    picks = order.at(positions)
    chosen = np.empty(len(positions), dtype=np.int64)
    pool = np.array(rows.diverse, dtype=np.int64)
    chosen[~picks.downstream] = pool[picks.row[~picks.downstream]]
    for at in np.flatnonzero(picks.downstream):
        row = int(picks.row[at])
        wordings = rows.variants[row]
        turn = (int(picks.cycle[at]) + row) % len(wordings) if reworded else 0
        chosen[at] = wordings[turn]
    return chosen, picks.downstream


def _count(
    order: Order,
    rows: _Rows,
    chosen: np.ndarray[Any, Any],
    downstream: np.ndarray[Any, Any],
    asked: float,
) -> dict[str, Any]:
    """Realised shares over the whole training, in rows, tokens and supervised tokens."""

    def split(values: np.ndarray[Any, Any]) -> dict[str, int]:
        return {
            "downstream": int(values[downstream].sum()),
            "diverse": int(values[~downstream].sum()),
        }

    ones = np.ones(len(chosen), dtype=np.int64)
    counted = split(ones)
    return {
        "ratio_asked": asked,
        "ratio_realised": round(counted["diverse"] / max(1, counted["downstream"]), 3),
        "epoch": order.epoch,
        "epochs": round(len(chosen) / order.epoch, 3),
        "unique_rows": {"downstream": order.rows, "diverse": order.used},
        "rows": counted,
        "tokens": split(rows.lengths[chosen]),
        "supervised_tokens": split(rows.supervised[chosen]),
    }


def _summary(counts: dict[str, Any]) -> str:
    parts = []
    for arm, c in counts["arms"].items():
        total = sum(c["supervised_tokens"].values())
        share = c["supervised_tokens"]["downstream"] / max(1, total)
        used = c["unique_rows"]
        parts.append(
            f"{arm} {c['ratio_asked']:g}x: {used['downstream']:,} + {used['diverse']:,} rows, "
            f"supervised {share:.1%} / {1 - share:.1%}"
        )
    return "; ".join(parts)
