"""A real model, training and answering: ours beside TRL, bare vLLM and bare matrix products.

    make model && python -m venv trl && trl/bin/pip install torch trl peft datasets
    python benchmarks/real_model.py --trl trl/bin/python

Takes the demo's recipe: its rows are answered and mixed as the demo does (without rewordings), and
that mix is trained with the recipe's settings by the stage ``finetune`` (``ours``), by TRL with
packs of the same length (``packed``), by TRL with padding (``padded``), all with LoRA and in the
same precision. ``limit`` multiplies matrices of the shapes of the model's layers and of its head,
forward and backward to their inputs, for as many tokens as a step has, and does nothing else; the
head for all tokens, though only supervised ones need it. Then the same queries are answered by
the stage ``synthesize`` (``stage``) and by ``vllm.LLM.generate`` on all cores, with the same
arguments and all prompts at once (``bare``). Each side runs in a process of its own, in turn,
several times.

The last line is JSON: medians. ``ratio_packed`` and ``ratio_padded`` are our tokens per second,
supervised or not, over TRL's, ``share_of_limit`` over the limit's, from the second step on;
``synthesis_ratio`` is the generated tokens per second over those of bare vLLM, the start of the
engines left out on both sides, and ``synthesis_ratio_whole`` with all that the processes do.
``cores_busy`` is CPU seconds per second in the busiest stretch as long as what was timed;
``peak_gib`` the most memory that a side's processes held together (PSS).
"""

import argparse
import json
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import finetune_throughput as training
import synthesis_throughput as synthesis
from observed import Observed

ROOT = Path(__file__).resolve().parent.parent
NAME = "bench"
"""Of the run in ``--work``; as ``synthesis_throughput`` has it."""
Run = dict[str, Any]


def main() -> None:
    arguments = _parser().parse_args()
    if arguments.side:
        print(json.dumps(SIDES[arguments.side](arguments)))
        return
    work = Path(tempfile.mkdtemp(prefix="real-model-"))
    try:
        command = [sys.executable, __file__, "--work", str(work), "--side", "prepare"]
        training.last_line([*command, *sys.argv[1:]])
        for key, value in json.loads((work / "prepared.json").read_text()).items():
            setattr(arguments, key, value)
        sides = _sides(arguments, work)
        runs: dict[str, list[Run]] = {name: [] for name in sides}
        for turn in range(arguments.repeats):
            # The order changes from turn to turn, so that neither side is always the warm one.
            for name in sorted(sides, reverse=bool(turn % 2)):
                with Observed() as seen:
                    found = sides[name]()
                found |= {"whole_seconds": round(seen.seconds, 1), "peak_gib": seen.peak_gib}
                runs[name].append(found | {"cores_busy": seen.busy(found["seconds"])})
                print(f"{turn + 1}/{arguments.repeats} {name:7} {runs[name][-1]}", flush=True)
        print(json.dumps(_summary(arguments, runs)))
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--recipe", default=str(ROOT / "jobs" / "recipes" / "demo.yaml"))
    parser.add_argument("--model", help="folder or hub id; default: the recipe's")
    parser.add_argument("--trl", help="python of the environment with TRL")
    parser.add_argument("--steps", type=int, default=5, help="in all")
    parser.add_argument("--warmup-steps", type=int, default=1, help="of them, not counted")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--cores", type=int, default=os.cpu_count())
    parser.add_argument("--only", choices=["training", "synthesis"], help="one half alone")
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    parser.add_argument("--work", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--tokens", type=int, help=argparse.SUPPRESS)
    return parser


def _prepare(arguments: argparse.Namespace) -> Run:
    """Answer and mix the recipe's rows, and write the mix for TRL."""
    from delia_ray import pipeline
    from delia_ray.config import load_config

    work = arguments.work
    model = [] if arguments.model is None else [f"model={Path(arguments.model).resolve()}"]
    os.chdir(ROOT)  # a recipe's paths are those of the checkout
    config = load_config(
        [arguments.recipe],
        [
            f"name={NAME}", f"storage={work}", "arms={delia: {reworded: false}}",
            "evaluate.suites=[]", "evaluate.summary=[]", f"finetune.steps={arguments.steps}",
            "finetune.checkpoint_every=1000000", "finetune.trackers=[]", *model,
        ],
    )  # fmt: skip
    (work / "config.json").write_text(config.model_dump_json())
    _write_model(config, work / "model")
    until = "ingest" if arguments.only == "synthesis" else "mix"
    pipeline.run(config, until=until)
    plan, length, packs = pipeline.plan(config), config.mix.max_length, 0
    (work / "ingest").write_text(plan.folder("ingest").url)
    if until == "mix":
        (work / "mix").write_text(plan.folder("mix").url)
        packs = training.write_rows(plan.folder("mix"), work / "rows.parquet", length)
    own = config.finetune
    facts = {"max_length": length, "packs": packs, "rows": own.batch_size}
    (work / "prepared.json").write_text(json.dumps(facts | {"micro": own.micro_batch_size}))
    return facts


def _write_model(config: Any, path: Path) -> None:
    """The base model with the recipe's special tokens, whose rows TRL leaves as they are."""
    from delia_ray.finetune.engine import dtype
    from delia_ray.finetune.model import load_base
    from delia_ray.models import locate
    from delia_ray.token_rows import initialise_rows

    source, tokens = locate(config.model), config.downstream.special_tokens
    model, tokenizer = load_base(source, tokens, dtype(config.finetune.precision))
    how = config.finetune.token_init
    initialise_rows(model, source, tokenizer, tokens, how, config.order_seed)
    model.save_pretrained(path)
    tokenizer.save_pretrained(path)


def _sides(arguments: argparse.Namespace, work: Path) -> dict[str, Callable[[], Run]]:
    sides: dict[str, Callable[[], Run]] = {}
    if arguments.only != "synthesis":
        sides["ours"] = lambda: _in_process("ours", arguments, work)
        sides["limit"] = lambda: _in_process("limit", arguments, work)
    if arguments.only != "synthesis" and arguments.trl:
        sides["packed"] = lambda: training.run_trl(arguments, work, "packed", 1, arguments.packs)
        sides["padded"] = lambda: training.run_trl(
            arguments, work, "padded", arguments.micro, max(1, arguments.rows // arguments.micro)
        )
    if arguments.only != "training":
        sides["stage"] = lambda: synthesis.in_process("stage", work)
        sides["bare"] = lambda: synthesis.in_process("bare", work)
    return sides


def _in_process(side: str, arguments: argparse.Namespace, work: Path) -> Run:
    return training.last_line(
        [
            sys.executable, __file__, "--side", side, "--work", str(work),
            "--warmup-steps", str(arguments.warmup_steps), "--cores", str(arguments.cores),
            "--tokens", str(arguments.packs * arguments.max_length),
        ]
    )  # fmt: skip


def _ours(arguments: argparse.Namespace) -> Run:
    """The stage as a run starts it, on a cluster of its own."""
    from delia_ray import runtime
    from delia_ray.artifacts import Folder
    from delia_ray.config import RunConfig
    from delia_ray.finetune.stage import STAGE
    from delia_ray.stage import StageRun

    config = RunConfig.model_validate_json((arguments.work / "config.json").read_text())
    root = Folder(str(arguments.work / NAME))
    out, mix = root / f"ours-{os.getpid()}", Folder((arguments.work / "mix").read_text())
    os.chdir(ROOT)
    try:
        STAGE.run(StageRun(config, root, out, {"mix": mix}))
    finally:
        runtime.disconnect()
    return training.figures(out / "delia", arguments.warmup_steps)


def _limit(arguments: argparse.Namespace, seconds: float = 10.0) -> Run:
    """Tokens per second of the products alone."""
    import torch

    from delia_ray.causal_models import load_causal
    from delia_ray.finetune.engine import dtype

    torch.set_num_threads(arguments.cores)
    whole = load_causal(str(arguments.work / "model"), dtype=dtype("auto"))
    layers = [m for m in whole.modules() if isinstance(m, torch.nn.Linear)]
    weights = [m.weight.detach() for m in layers]

    def states(width: int) -> torch.Tensor:
        return torch.randn(arguments.tokens, width).to(weights[0].dtype)

    inputs = {width: states(width) for width in {w.shape[1] for w in weights}}
    outputs = {width: states(width) for width in {w.shape[0] for w in weights}}

    def once() -> None:
        for weight in weights:
            torch.nn.functional.linear(inputs[weight.shape[1]], weight)
            torch.mm(outputs[weight.shape[0]], weight)

    once()
    began, made = time.monotonic(), 0
    while time.monotonic() - began < seconds:
        once()
        made += arguments.tokens
    took = time.monotonic() - began
    return {"side": "limit", "seconds": round(took, 2), "tokens_per_second": round(made / took, 1)}


SIDES: dict[str, Callable[[argparse.Namespace], Run]] = {
    "prepare": _prepare, "ours": _ours, "limit": _limit,
}  # fmt: skip


def _summary(arguments: argparse.Namespace, runs: dict[str, list[Run]]) -> dict[str, Any]:
    def median(side: str, key: str) -> float:
        return float(statistics.median(run[key] for run in runs[side]))

    found: dict[str, Any] = {
        "benchmark": "real_model",
        "date": datetime.now(UTC).date().isoformat(),
        "device": f"CPU, {arguments.cores} cores",
        "recipe": Path(arguments.recipe).stem,
        "repeats": arguments.repeats,
    }
    if "ours" in runs:
        trained = [side for side in runs if side not in synthesis.SIDES]
        speed = {side: median(side, "tokens_per_second") for side in trained}
        found["share_of_limit"] = round(speed["ours"] / speed["limit"], 3)
        found |= {
            f"ratio_{side}": round(speed["ours"] / speed[side], 3)
            for side in trained
            if side not in ("ours", "limit")
        }
        found["tokens_per_second"] = speed
        found["supervised"] = round(
            median("ours", "supervised_tokens_per_second") / speed["ours"], 3
        )
    if "stage" in runs:
        whole = {
            side: statistics.median(run["tokens"] / run["whole_seconds"] for run in runs[side])
            for side in synthesis.SIDES
        }
        rates = {side: median(side, "rate") for side in synthesis.SIDES}
        found["synthesis_ratio"] = round(rates["stage"] / rates["bare"], 3)
        found["synthesis_ratio_whole"] = round(whole["stage"] / whole["bare"], 3)
        found["generated_tokens_per_second"] = rates
        found["answers"] = {side: runs[side][0]["rows"] for side in synthesis.SIDES}
        found["generated_tokens"] = {side: runs[side][0]["tokens"] for side in synthesis.SIDES}
    for key in ("cores_busy", "peak_gib", "whole_seconds"):
        found[key] = {side: median(side, key) for side in runs}
    if "packed" in runs:
        found["trl"] = runs["packed"][0]["versions"]
    return found


if __name__ == "__main__":
    main()
