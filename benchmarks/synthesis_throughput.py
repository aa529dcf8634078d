"""Generated tokens per second: bare ``vllm.LLM.generate`` against the synthesis stage.

Both sides answer the same queries with the same chats, sampling parameters and seeds, each
in a process of its own, in turn, several times. Bare vLLM gets all prompts at once, already
turned into token ids. The stage does everything a run does: renders the prompts, keeps each
batch in the cache, counts. The start of the engines is left out on both sides.

    python benchmarks/synthesis_throughput.py
    python benchmarks/synthesis_throughput.py --corpus alpaca_data.json.gz --rows 20000
    python benchmarks/synthesis_throughput.py --model <chat model> --max-tokens 512   # on a GPU

The last line is JSON: medians, and ``ratio``, the stage's tokens per second over bare vLLM's.
"""

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from delia_ray.config import RunConfig
from delia_ray.stage import StageRun

CORPUS = Path(__file__).parent.parent / "jobs" / "data" / "demo" / "corpus.jsonl.gz"


def main() -> None:
    arguments = _parser().parse_args()
    if arguments.side:
        print(json.dumps(SIDES[arguments.side](arguments)))
        return
    work = Path(tempfile.mkdtemp(prefix="throughput-"))
    try:
        _prepare(arguments, work)
        runs: dict[str, list[dict[str, Any]]] = {side: [] for side in SIDES}
        for turn in range(arguments.repeats):
            # The order changes from turn to turn, so that neither side is always the warm one.
            for side in sorted(SIDES, reverse=bool(turn % 2)):
                runs[side].append(in_process(side, work))
                print(f"{turn + 1}/{arguments.repeats} {side:5} {runs[side][-1]}", flush=True)
        if arguments.again:
            again = in_process("stage", work, "--keep-cache")
            print(f"again: {again}", flush=True)
            runs["again"] = [again]
        _summary(arguments, runs)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="miniature")
    parser.add_argument("--corpus", default=str(CORPUS), help="default: the demo's")
    parser.add_argument("--rows", type=int, default=4_000)
    parser.add_argument("--max-tokens", type=int, default=64)
    parser.add_argument("--max-model-len", type=int, default=1024)
    parser.add_argument("--temperature", type=float, default=0.7)
    parser.add_argument("--method", default="self_sample", choices=["self_sample", "plain"])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--again", action="store_true", help="time a last run with a full cache")
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    parser.add_argument("--work", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--keep-cache", action="store_true", help=argparse.SUPPRESS)
    return parser


def _config(work: Path) -> RunConfig:
    return RunConfig.model_validate_json((work / "config.json").read_text())


def _prepare(arguments: argparse.Namespace, work: Path) -> None:
    """A corpus of the first rows that fit into the model with their answers, and its ingest."""
    from delia_ray import pipeline

    config = RunConfig.model_validate(
        {
            "name": "bench",
            "storage": str(work),
            "model": arguments.model,
            "downstream": {"rows": 1},
            "corpus": [{"path": arguments.corpus}],
            "mix": {"ratio": arguments.rows},
            "arms": {"delia": {}},
            "synthesize": {
                "engine": {
                    "type": "vllm", "max_model_len": arguments.max_model_len, "batch_size": 256
                },
                "method": arguments.method,
                "sampling": {
                    "temperature": arguments.temperature, "max_tokens": arguments.max_tokens
                },
                "reword": {"per_row": 0},
                "slack": 0,
            },
        }
    )  # fmt: skip
    (work / "config.json").write_text(config.model_dump_json())
    pipeline.run(config, until="ingest")
    (work / "ingest").write_text(pipeline.plan(config).folder("ingest").url)


def _stage(work: Path, name: str) -> StageRun:
    from delia_ray.artifacts import Folder

    root = Folder(str(work / "bench"))
    ingest = Folder((work / "ingest").read_text())
    return StageRun(_config(work), root, root / name, {"ingest": ingest})


def in_process(side: str, work: Path, *options: str) -> dict[str, Any]:
    command = [sys.executable, __file__, "--side", side, "--work", str(work), *options]
    with open(work / "log.txt", "a") as log:
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=log, text=True, check=False)
    if done.returncode:
        sys.exit(f"{side} failed:\n{(work / 'log.txt').read_text()[-4000:]}")
    found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def _bare(arguments: argparse.Namespace) -> dict[str, Any]:
    """vLLM alone, with the engine arguments that our engine gives it."""
    import os

    from delia_ray.engines import make_engine
    from delia_ray.engines.vllm import _sampling, cpu_env
    from delia_ray.models import load_tokenizer, locate, prompt_ids
    from delia_ray.runtime import cpus_here
    from delia_ray.synthesize.stage import Synthesis

    config = _config(arguments.work)
    work = Synthesis(_stage(arguments.work, "bare"))
    requests = list(work.answers(work.method.queries(work.asked, None)))
    tokenizer = load_tokenizer(locate(config.model))
    prompts = [prompt_ids(tokenizer, r.messages) for r in requests]

    import psutil
    import torch

    gpu = torch.cuda.is_available()
    engine: Any = make_engine(config.synthesize.engine, config.model)
    told = engine._engine_kwargs(
        gpu, engine.longest(lambda: requests), psutil.virtual_memory().available
    )
    longest = told.get("max_model_len", 1 << 62)
    fit = [i for i, p in enumerate(prompts) if len(p) < longest]
    os.environ.update({} if gpu else cpu_env(cpus_here()))
    from vllm import LLM, SamplingParams

    llm = LLM(model=locate(config.model), **told)
    parameters = [SamplingParams(**_sampling(vars(requests[i]))) for i in fit]
    began = time.monotonic()
    outputs = llm.generate([{"prompt_token_ids": prompts[i]} for i in fit], parameters)
    return _figures(
        len(fit),
        sum(len(o.outputs[0].token_ids) for o in outputs),
        time.monotonic() - began,
        {"too_long": len(prompts) - len(fit)},
    )


def _ours(arguments: argparse.Namespace) -> dict[str, Any]:
    """The stage with its cache, on a cluster that it starts."""
    from delia_ray import runtime
    from delia_ray.synthesize.stage import Synthesis

    began = time.monotonic()
    if not arguments.keep_cache:
        shutil.rmtree(arguments.work / "cache", ignore_errors=True)
    work = Synthesis(_stage(arguments.work, "stage"))
    with work.generator() as generator:
        queries = work.method.queries(work.asked, generator)
        generator.complete(lambda: work.answers(queries))
    whole = time.monotonic() - began
    runtime.disconnect()
    live = work.live
    return _figures(
        live.rows - live.failed, live.tokens, live.seconds,
        {"too_long": live.failed, "from_cache": live.cached, "whole_seconds": round(whole, 1),
         "engine_starts": live.starts},
    )  # fmt: skip


def _figures(rows: int, tokens: int, seconds: float, others: dict[str, Any]) -> dict[str, Any]:
    rate = round(tokens / seconds, 1) if seconds else 0.0
    return {"rows": rows, "tokens": tokens, "seconds": round(seconds, 1), "rate": rate, **others}


SIDES = {"bare": _bare, "stage": _ours}


def _summary(arguments: argparse.Namespace, runs: dict[str, list[dict[str, Any]]]) -> None:
    rates = {side: [r["rate"] for r in runs[side]] for side in SIDES}
    bare, ours = (statistics.median(rates[side]) for side in ("bare", "stage"))
    figures = {
        "benchmark": "synthesis_throughput",
        "date": datetime.now(UTC).date().isoformat(),
        "device": _device(),
        "model": arguments.model,
        "rows": arguments.rows,
        "method": arguments.method,
        "max_tokens": arguments.max_tokens,
        "bare_tokens_per_second": bare,
        "stage_tokens_per_second": ours,
        "bare_all": rates["bare"],
        "stage_all": rates["stage"],
        "ratio": round(ours / bare, 3),
    }
    if "again" in runs:
        figures["cached_run_seconds"] = runs["again"][0]["whole_seconds"]
        figures["cached_run_generated"] = runs["again"][0]["rows"]
    print(json.dumps(figures))


def _device() -> str:
    import os

    import torch

    if torch.cuda.is_available():
        return str(torch.cuda.get_device_name())
    return f"CPU, {os.cpu_count()} cores"


if __name__ == "__main__":
    main()
