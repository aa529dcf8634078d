"""Fine-tuning: tokens per second of ours, of TRL padded, and of TRL packed.

All sides train LoRA on the same model with the same rows, 100 official ones and Alpaca at 67
diverse rows for each, in the same precision; 64 rows make a step (TRL packed: as many packs as
hold about 64). Padded is what the paper's public code does: every 16 rows padded to the
longest. Ours is the stage as users run it: Ray Train, DeepSpeed ZeRO-2, a worker for each core
or for the GPU; TRL computes with as many threads. Each side runs in a process of its own, in
turn, several times; the first steps are not counted. TRL needs an environment of its own:

    python -m venv trl && trl/bin/pip install torch trl peft datasets
    python benchmarks/finetune_throughput.py --trl trl/bin/python \
        --downstream ROWS --corpus ROWS

On a CPU, one worker alone follows, for the strong scaling. A few more steps of ours are watched
by torch.profiler, for the share of time in which a collective operation is under way; that holds
the waiting for the slowest worker. On a GPU, ``--shape 1b`` takes a model
of 1.2 billion random weights, in bf16, and the model's share of the device's peak operations is
printed.

The last line is JSON: medians; ``ratio_padded`` and ``ratio_packed`` are our supervised tokens
per second over the other side's.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from mix_and_pack import prepare

OTHER = Path(__file__).parent / "trl_finetune.py"
BATCH, MICRO, RATIO = 64, 16, 67
PROFILED = 4
"""Steps under the profiler, in a run of their own: it slows them down."""
SHAPES: dict[str, dict[str, Any]] = {
    "1b": {
        "hidden_size": 2048, "intermediate_size": 8192, "num_hidden_layers": 16,
        "num_attention_heads": 32, "num_key_value_heads": 8, "vocab_size": 128_256,
        "max_position_embeddings": 8192, "tie_word_embeddings": True,
    }
}  # fmt: skip


def main() -> None:
    arguments = _parser().parse_args()
    if arguments.side:
        print(json.dumps(_ours(arguments)))
        return
    if not (arguments.downstream and arguments.corpus):
        sys.exit("--downstream and --corpus: name a file of rows each; see mix_and_pack.py")
    work = Path(tempfile.mkdtemp(prefix="finetune-throughput-"))
    try:
        prepare(arguments, work)
        _model(arguments, work)
        packs = _mix(arguments, work)
        sides = {
            "ours": lambda: _run_ours(arguments, work, 1 if arguments.gpu else arguments.cores),
            "padded": lambda: run_trl(arguments, work, "padded", MICRO, BATCH // MICRO),
            "packed": lambda: run_trl(arguments, work, "packed", 1, packs),
        }
        if not arguments.gpu and not arguments.no_scaling:
            sides["one_core"] = lambda: _run_ours(arguments, work, 1)
        runs: dict[str, list[dict[str, Any]]] = {name: [] for name in sides}
        for turn in range(arguments.repeats):
            for name in sorted(sides, reverse=bool(turn % 2)):
                runs[name].append(sides[name]())
                print(f"{turn + 1}/{arguments.repeats} {name:11} {runs[name][-1]}", flush=True)
        arguments.profile = PROFILED
        watched = _run_ours(arguments, work, 1 if arguments.gpu else arguments.cores)
        print(f"profiled    {watched}", flush=True)
        print(json.dumps(_summary(arguments, runs) | {"communication": watched["communication"]}))
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _parser() -> argparse.ArgumentParser:
    import torch

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trl", default=sys.executable, help="python of the environment with TRL")
    parser.add_argument("--downstream", help="file of rows with answers")
    parser.add_argument("--corpus", help="file of diverse rows with answers")
    parser.add_argument("--model", default="miniature", help="folder; its tokenizer with --shape")
    parser.add_argument("--shape", choices=SHAPES, help="random weights of this shape instead")
    parser.add_argument("--max-length", type=int, default=2048)
    parser.add_argument("--steps", type=int, default=14, help="in all")
    parser.add_argument("--warmup-steps", type=int, default=3, help="of them, not counted")
    parser.add_argument("--packs", type=int, default=1, help="that ours computes at once")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--cores", type=int, default=os.cpu_count())
    parser.add_argument("--no-scaling", action="store_true")
    parser.add_argument("--side", help=argparse.SUPPRESS)
    parser.add_argument("--work", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--profile", type=int, default=0, help=argparse.SUPPRESS)
    parser.set_defaults(gpu=torch.cuda.is_available())
    return parser


def _model(arguments: argparse.Namespace, work: Path) -> None:
    """Put random weights of a shape beside the tokenizer."""
    if not arguments.shape:
        return
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    source = (work / "model").resolve()
    (work / "model").unlink()
    shutil.copytree(source, work / "model", ignore=shutil.ignore_patterns("*.safetensors"))
    torch.manual_seed(0)
    config = LlamaConfig(**SHAPES[arguments.shape], eos_token_id=0, pad_token_id=0)
    with torch.device("cuda" if arguments.gpu else "cpu"):
        LlamaForCausalLM(config).to(torch.bfloat16).save_pretrained(work / "model")


def _config(arguments: argparse.Namespace, work: Path, workers: int) -> Any:
    from delia_ray.config import RunConfig

    return RunConfig.model_validate(
        {
            "model": str(work / "model"), "storage": str(work),
            "downstream": {"path": "d", "format": "auto", "rows": None, "special_tokens": {}},
            "mix": {"ratio": RATIO, "max_length": arguments.max_length, "overlong": "set_aside"},
            "arms": {"delia": {"reworded": False}},
            "finetune": {
                "steps": arguments.steps, "batch_size": BATCH, "workers": workers,
                "cpus_per_worker": 1, "micro_batch_size": arguments.packs,
                "checkpoint_every": 10**6, "trackers": [], "watch": {"every": 0},
                "profile": arguments.profile,
            },
        }
    )  # fmt: skip


def _mix(arguments: argparse.Namespace, work: Path) -> int:
    """Lay the rows down, and write them for TRL in the same order; packs in a step."""
    from delia_ray.artifacts import open_storage
    from delia_ray.mix.stage import STAGE
    from delia_ray.stage import StageRun

    folder = open_storage(str(work))
    inputs = {name: folder / name for name in STAGE.needs}
    STAGE.run(StageRun(_config(arguments, work, 1), folder, folder / "mix", inputs))
    return write_rows(folder / "mix", work / "rows.parquet", arguments.max_length)


def write_rows(mix: Any, path: Path, max_length: int) -> int:
    """The rows of all steps of a mix for TRL, in their order; packs in a step."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from delia_ray.finetune.batches import Steps

    steps = Steps(mix, "delia")
    rows = [row for s in range(len(steps)) for row in steps.store.rows(steps.sequences(s))]
    table = {
        "input_ids": pa.array([r["input_ids"] for r in rows], pa.list_(pa.int32())),
        "completion_mask": pa.array([r["supervised"].view("int8") for r in rows]),
    }
    pq.write_table(pa.table(table), path)
    tokens = sum(len(r["input_ids"]) for r in rows)
    return max(1, round(tokens / len(steps) / max_length))


def _run_ours(arguments: argparse.Namespace, work: Path, workers: int) -> dict[str, Any]:
    command = [
        sys.executable, __file__, "--side", str(workers), "--work", str(work),
        "--max-length", str(arguments.max_length), "--packs", str(arguments.packs),
        "--steps", str(arguments.steps), "--warmup-steps", str(arguments.warmup_steps),
        "--profile", str(arguments.profile),
    ]  # fmt: skip
    return last_line(command)


def _ours(arguments: argparse.Namespace) -> dict[str, Any]:
    from delia_ray import runtime
    from delia_ray.artifacts import open_storage
    from delia_ray.finetune.progress import SUMMARY
    from delia_ray.finetune.stage import STAGE
    from delia_ray.stage import StageRun

    folder = open_storage(str(arguments.work))
    config = _config(arguments, arguments.work, int(arguments.side))
    out = folder / f"ours-{os.getpid()}"
    try:
        STAGE.run(StageRun(config, folder, out, {"mix": folder / "mix"}))
    finally:
        runtime.disconnect()
    found = figures(out / "delia", arguments.warmup_steps)
    if arguments.profile:
        found |= (out / "delia").read_json(SUMMARY)
    return found


def figures(arm: Any, warmup: int) -> dict[str, Any]:
    """Of the steps after the first ``warmup`` in the folder of an arm."""
    curve = arm.read_table("curve.parquet").slice(warmup)
    seconds = sum(curve["seconds"].to_pylist())
    found = {
        "side": "ours",
        "steps": len(curve),
        "seconds": round(seconds, 3),
        "supervised_tokens_per_second": round(
            sum(curve["supervised_tokens"].to_pylist()) / seconds, 1
        ),
        "tokens_per_second": round(sum(curve["tokens"].to_pylist()) / seconds, 1),
        "loss_last": round(curve["loss"][-1].as_py(), 4),
        "memory_gib": round(curve["memory_gib"][-1].as_py(), 2),
    }
    if curve["mfu"][0].as_py() is not None:
        found["mfu"] = round(statistics.median(curve["mfu"].to_pylist()), 4)
    return found


def run_trl(
    arguments: argparse.Namespace, work: Path, mode: str, batch: int, accumulate: int
) -> dict[str, Any]:
    command = [
        arguments.trl, str(OTHER), "--data", str(work / "rows.parquet"), "--mode", mode,
        "--model", str((work / "model").resolve()), "--steps", str(arguments.steps),
        "--warmup-steps", str(arguments.warmup_steps), "--batch-size", str(batch),
        "--accumulate", str(accumulate), "--max-length", str(arguments.max_length),
        "--precision", _precision(), "--threads", str(arguments.cores),
        # Its packs come longest rows first, so packs are drawn at random.
        "--order", "random" if mode == "packed" else "sequential",
    ]  # fmt: skip
    return last_line(command)


def _precision() -> str:
    """What ``finetune.precision: auto`` is here."""
    import torch

    from delia_ray.finetune.engine import dtype

    return "bf16" if dtype("auto") == torch.bfloat16 else "fp32"


def last_line(command: list[str]) -> dict[str, Any]:
    done = subprocess.run(
        command, capture_output=True, text=True, check=False,
        env=os.environ | {"HF_HUB_OFFLINE": "1", "RAY_USAGE_STATS_ENABLED": "0"},
    )  # fmt: skip
    if done.returncode:
        sys.exit(f"{command[1:4]} failed:\n{done.stdout[-1500:]}\n{done.stderr[-3000:]}")
    found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def _summary(
    arguments: argparse.Namespace, runs: dict[str, list[dict[str, Any]]]
) -> dict[str, Any]:
    def median(side: str, key: str = "supervised_tokens_per_second") -> float:
        return float(statistics.median(r[key] for r in runs[side]))

    import torch

    device = torch.cuda.get_device_name() if arguments.gpu else f"CPU, {os.cpu_count()} cores"
    figures: dict[str, Any] = {
        "benchmark": "finetune_throughput",
        "date": datetime.now(UTC).date().isoformat(),
        "device": device,
        "shape": arguments.shape or arguments.model,
        "repeats": arguments.repeats,
        "ratio_padded": round(median("ours") / median("padded"), 3),
        "ratio_packed": round(median("ours") / median("packed"), 3),
        "ratio_packed_all_tokens": round(
            median("ours", "tokens_per_second") / median("packed", "tokens_per_second"), 3
        ),
        "supervised_tokens_per_second": {name: median(name) for name in runs},
        "trl_padding": median("padded", "padding"),
        "trl": runs["padded"][0]["versions"],
    }
    if "mfu" in runs["ours"][0]:
        figures["mfu"] = median("ours", "mfu")
    if "one_core" in runs:
        figures[f"scaling_1_to_{arguments.cores}"] = round(median("ours") / median("one_core"), 3)
    return figures


if __name__ == "__main__":
    main()
