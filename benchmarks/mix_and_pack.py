"""From rows of text to ready batches: our mix and packing against ``datasets`` and TRL.

Both sides read the same two parquet files (100 downstream rows, 52,002 Alpaca rows), mix them
at 520 diverse rows per downstream row, tokenise with the miniature's chat template, pack to
2,048 tokens and hand out every batch of one epoch as tensors. Each runs in a process of its
own, in turn, several times; imports are not counted. The other side does what the paper's
public code and TRL's trainer do: load, map, concatenate, shuffle, then ``SFTTrainer`` with
``packing=True`` and two processes. It needs an environment of its own:

    python -m venv trl && trl/bin/pip install torch trl datasets
    python benchmarks/mix_and_pack.py --trl trl/bin/python --downstream train_dataset.jsonl \
        --corpus alpaca_data.json.gz

Then ten million rows of random tokens: memory while the mix is laid down and packed, and the
time to read a position at random. The last line is JSON: medians, and ``ratio``, the other
side's seconds over ours.
"""

import argparse
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

OTHER = Path(__file__).parent / "trl_mix.py"


def main() -> None:
    arguments = _parser().parse_args()
    if arguments.side:
        print(json.dumps(SIDES[arguments.side](arguments)))
        return
    if not (arguments.downstream and arguments.corpus):
        _parser().error(
            "--downstream and --corpus: name train_dataset.jsonl (github.com/LinesHogan/DELIA) and "
            "alpaca_data.json (github.com/tatsu-lab/stanford_alpaca)"
        )
    work = Path(tempfile.mkdtemp(prefix="mix-and-pack-"))
    try:
        prepare(arguments, work)
        runs: dict[str, list[dict[str, Any]]] = {"ours": [], "trl": []}
        for turn in range(arguments.repeats):
            for side in sorted(runs, reverse=bool(turn % 2)):
                runs[side].append(_in_process(side, arguments, work))
                print(f"{turn + 1}/{arguments.repeats} {side:4} {runs[side][-1]}", flush=True)
        large = _in_process("large", arguments, work) if arguments.large else {}
        print(f"large {large}", flush=True)
        _summary(arguments, runs, large)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--downstream", default="")
    parser.add_argument("--corpus", default="")
    parser.add_argument("--model", default="miniature")
    parser.add_argument("--max-length", type=int, default=2048)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--trl", default=sys.executable, help="python of the environment with TRL")
    parser.add_argument("--large", type=int, default=10_000_000, help="synthetic rows; 0: none")
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    parser.add_argument("--work", type=Path, help=argparse.SUPPRESS)
    return parser


def prepare(arguments: argparse.Namespace, work: Path) -> None:
    """The two tables that both sides read, in the layout that stages hand to each other."""
    from delia_ray.artifacts import open_storage
    from delia_ray.ingest.parse import Job, parse_file
    from delia_ray.models import locate
    from delia_ray.records import ANSWER, REWORDING, conform

    def read(path: str) -> Any:
        return parse_file(Job(path, path, path, "auto", {}, None, False)).records

    folder = open_storage(str(work))
    (folder / "ingest").write_table("downstream.parquet", read(arguments.downstream))
    answers = [
        {"id": r["id"], "source": r["source"], "prompt": r["prompt"],
         # 28 rows of Alpaca have no answer.
         "answer": r["answer"] or "Nothing.", "finish_reason": "stop", "completion_tokens": 1,
         "reason": None}
        for r in read(arguments.corpus).to_pylist()
    ]  # fmt: skip
    (folder / "synthesize").write_table("answers.parquet", conform(answers, ANSWER))
    (folder / "synthesize").write_table("rewordings.parquet", conform([], REWORDING))
    (work / "model").symlink_to(locate(arguments.model))


def _in_process(side: str, arguments: argparse.Namespace, work: Path) -> dict[str, Any]:
    shutil.rmtree(work / "mix", ignore_errors=True)
    shutil.rmtree(work / "cache", ignore_errors=True)
    began = time.monotonic()
    if side == "trl":
        command = [arguments.trl, str(OTHER), str(work), str(arguments.max_length)]
    else:
        command = [
            sys.executable, __file__, "--side", side, "--work", str(work),
            "--max-length", str(arguments.max_length), "--large", str(arguments.large),
        ]  # fmt: skip
    done = subprocess.run(
        command, capture_output=True, text=True, check=False,
        env=os.environ | {"HF_DATASETS_CACHE": str(work / "cache"), "HF_HUB_OFFLINE": "1"},
    )  # fmt: skip
    if done.returncode:
        sys.exit(f"{side} failed:\n{done.stderr[-3000:]}")
    found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return found | {"with_imports": round(time.monotonic() - began, 2)}


def _ours(arguments: argparse.Namespace) -> dict[str, Any]:
    from delia_ray.artifacts import open_storage
    from delia_ray.config import RunConfig
    from delia_ray.finetune.batches import Steps
    from delia_ray.mix.stage import STAGE
    from delia_ray.models import end_ids, load_tokenizer, locate
    from delia_ray.stage import StageRun

    folder = open_storage(str(arguments.work))
    config = RunConfig.model_validate(
        {
            "model": str(arguments.work / "model"),
            "downstream": {"path": "d", "format": "auto", "rows": None},
            "mix": {"ratio": 520, "max_length": arguments.max_length, "overlong": "set_aside",
                    "repeat": True},
            "arms": {"delia": {}}, "finetune": {"batch_size": 64, "workers": 1},
        }
    )  # fmt: skip
    # The other side imports all it needs, and loads the tokenizer and the model, before this.
    end_ids(locate(config.model))
    load_tokenizer(locate(config.model), config.downstream.special_tokens)
    began = time.monotonic()
    inputs = {"ingest": folder / "ingest", "synthesize": folder / "synthesize"}
    outcome = STAGE.run(StageRun(config, folder, folder / "mix", inputs))
    mixed = time.monotonic() - began
    steps = Steps(folder / "mix", "delia")
    tokens = slots = batches = 0
    for step in range(len(steps)):
        for micro in steps.micros(step, 0, 1, 4):
            batches += 1
            slots += micro.input_ids.numel()
        tokens += int(steps.lengths[steps.sequences(step)].sum())
    return {
        "seconds": round(time.monotonic() - began, 2),
        "seconds_until_packed": round(mixed, 2),
        "tokens": tokens,
        "batches": batches,
        "packing_efficiency": round(tokens / slots, 4),
        "tokens_left_out": outcome.counts["tokens_left_out"],
        "rows_left_out": sum(outcome.counts["untrained"].values()),
    }


def _large(arguments: argparse.Namespace) -> dict[str, Any]:
    """Ten million rows: build the store, lay down and pack an epoch, read at random."""
    import numpy as np
    import pyarrow as pa

    from delia_ray.artifacts import open_storage
    from delia_ray.config import Arm, Mix
    from delia_ray.mix.count import Counted
    from delia_ray.mix.index import Index
    from delia_ray.mix.plan import Packed, StepPlan, make_order, packed_steps
    from delia_ray.packing import packs_needed
    from delia_ray.records import SEQUENCE
    from delia_ray.store import Store, write_file, write_index

    folder = open_storage(str(arguments.work / "large"))
    rng, rows, files = np.random.default_rng(0), arguments.large, []
    lengths = []
    watch = _Memory()
    for number, start in enumerate(range(0, rows, 65_536)):
        own = rng.integers(16, 96, min(65_536, rows - start))
        offsets = pa.array(np.append(0, np.cumsum(own)).astype(np.int32))
        ids = pa.array(rng.integers(0, 32_000, int(own.sum()), dtype=np.int32))
        counted = pa.array(rng.random(len(ids)) < 0.5)
        columns = {"input_ids": pa.ListArray.from_arrays(offsets, ids),
                   "supervised": pa.ListArray.from_arrays(offsets, counted)}  # fmt: skip
        files.append(write_file(folder, "sequences", number, columns))
        lengths.append(own.astype(np.int32))
    write_index(folder, "sequences", files)
    tokens, downstream = np.concatenate(lengths), rows // 521
    kinds = np.arange(rows) >= downstream
    number = np.where(kinds, np.arange(rows) - downstream, np.arange(rows))
    zeros, code = pa.array(np.zeros(rows, np.int32)), pa.array(kinds.astype(np.int32))
    table = pa.table(
        {
            "id": pa.array([""]).take(zeros),
            "source": pa.array(["d", "a"]).take(code),
            "kind": pa.array(["downstream", "diverse"]).take(code),
            "row": number, "variant": zeros, "piece": zeros, "tokens": tokens,
            "supervised_tokens": tokens // 2,
        },
        schema=pa.schema([f.with_nullable(True) for f in SEQUENCE]),
    )  # fmt: skip
    index = Index(table, {})
    del table, kinds, number, zeros, code, lengths
    order = make_order(Mix(ratio=520, repeat=True), Arm(), index, 0, 64)
    steps = order.epoch // 64
    began = time.monotonic()
    laid_down = StepPlan(order, index, steps, 64, reworded=False)
    packed = Packed(packs_needed(laid_down.tokens(), 2048, 1))
    for _ in packed_steps(laid_down, packed, Counted(index, steps * 64).add):
        pass
    laid = time.monotonic() - began
    store = Store(folder, "sequences")
    took = []
    for position in [random.randrange(order.epoch) for _ in range(5000)]:
        at = time.perf_counter()
        picks = order.at(np.array([position]))
        items = index.wording if picks.downstream[0] else index.diverse
        store.row(int(index.first[items[picks.row[0]]]))
        took.append(time.perf_counter() - at)
    return {
        "rows": rows,
        "laid_down_and_packed_seconds": round(laid, 1),
        "efficiency": round(packed.efficiency, 4),
        "peak_gib": round(watch.peak() / 2**30, 2),
        "read_median_ms": round(1000 * statistics.median(took), 3),
        "read_p99_ms": round(1000 * sorted(took)[int(0.99 * len(took))], 3),
    }


class _Memory:
    """Largest resident memory of this process, mapped files included, from now on."""

    def __init__(self) -> None:
        import psutil

        self._process, self._most = psutil.Process(), 0
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def _watch(self) -> None:
        while True:
            self._most = max(self._most, self._process.memory_info().rss)
            time.sleep(0.1)

    def peak(self) -> int:
        return self._most


SIDES: dict[str, Callable[[argparse.Namespace], dict[str, Any]]] = {"ours": _ours, "large": _large}


def _summary(
    arguments: argparse.Namespace, runs: dict[str, list[dict[str, Any]]], large: dict[str, Any]
) -> None:
    def median(side: str, key: str) -> float:
        return round(statistics.median(r[key] for r in runs[side]), 4)

    print(
        json.dumps(
            {
                "benchmark": "mix_and_pack",
                "date": datetime.now(UTC).date().isoformat(),
                "device": f"CPU, {os.cpu_count()} cores",
                "repeats": arguments.repeats,
                "max_length": arguments.max_length,
                "ratio": round(median("trl", "seconds") / median("ours", "seconds"), 3),
                "ratio_with_imports": round(
                    median("trl", "with_imports") / median("ours", "with_imports"), 3
                ),
                "packing_efficiency": median("ours", "packing_efficiency"),
                "trl_packing_efficiency": median("trl", "packing_efficiency"),
                "ours_seconds": median("ours", "seconds"),
                "trl_seconds": median("trl", "seconds"),
                "tokens": runs["ours"][0]["tokens"],
                "trl_tokens": runs["trl"][0]["tokens"],
                "tokens_left_out": runs["ours"][0]["tokens_left_out"],
                "trl": runs["trl"][0]["versions"],
                "large": large,
            }
        )
    )


if __name__ == "__main__":
    main()
