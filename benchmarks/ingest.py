"""Ingest and curation against ``datasets``: rows per second, and memory as the corpus grows.

Both sides read the same shards of JSON lines (Alpaca repeated, every copy after the first with
words exchanged, some with nothing changed), normalise, make prompts and ids, drop exact
duplicates, then near-duplicates by MinHash of ``rensa`` with the same shingles, bands and
threshold, and write parquet. Each runs in a process of its own, in turn; starting Ray and
imports do not count. The other side is what people write with ``datasets``: load_dataset,
map in two processes, filter, batched MinHash, bands in a dictionary, select.

    python benchmarks/ingest.py --rows 500000 --corpus alpaca_data.json.gz

The last line is JSON: ``ratio`` is the other side's seconds over ours, and ``memory_growth`` our
peak over all processes with all rows over that with a quarter of them, less one.
"""

import argparse
import gzip
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

SHARDS = 8
SHINGLE, PERMUTATIONS, BANDS, THRESHOLD = 8, 128, 16, 0.8
PEAK = Path(__file__).parent / "peak_memory.py"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--corpus", default="", help="alpaca_data.json, or packed as .gz")
    parser.add_argument("--rows", type=int, default=500_000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    parser.add_argument("--work", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.side:
        print(json.dumps(SIDES[arguments.side](arguments.work)))
        return
    if not arguments.corpus:
        parser.error("--corpus: name alpaca_data.json (github.com/tatsu-lab/stanford_alpaca)")
    work = Path(tempfile.mkdtemp(prefix="ingest-"))
    try:
        prepare(arguments.corpus, arguments.rows, work / "all")
        prepare(arguments.corpus, arguments.rows // 4, work / "quarter")
        runs: dict[str, list[dict[str, Any]]] = {side: [] for side in SIDES}
        for turn in range(arguments.repeats):
            for side in sorted(SIDES, reverse=bool(turn % 2)):
                runs[side].append(_in_process(side, work / "all"))
                print(f"{turn + 1}/{arguments.repeats} {side:8} {runs[side][-1]}", flush=True)
        quarter = [_in_process("ours", work / "quarter") for _ in range(arguments.repeats)]
        _summary(arguments, runs, quarter)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def prepare(corpus: str, rows: int, folder: Path) -> None:
    """Write ``rows`` rows in `SHARDS` files; every tenth copy is exact."""
    folder.mkdir(parents=True)
    opener = gzip.open if corpus.endswith(".gz") else open
    with opener(corpus, "rt", encoding="utf-8") as stream:
        base = json.load(stream)
    rng = random.Random(0)
    words = [word for row in base[:5000] for word in row["output"].split()]
    for shard in range(SHARDS):
        with open(folder / f"{shard}.jsonl", "w", encoding="utf-8") as stream:
            for number in range(shard * rows // SHARDS, (shard + 1) * rows // SHARDS):
                stream.write(json.dumps(_perturbed(base, number, words, rng)) + "\n")


def _perturbed(
    base: list[dict[str, str]], number: int, words: list[str], rng: random.Random
) -> dict[str, str]:
    row = dict(base[number % len(base)])
    if number >= len(base) and rng.random() > 0.1:
        share = rng.choice([0.02, 0.3, 0.6])
        for key in ("instruction", "output"):
            row[key] = " ".join(
                rng.choice(words) if rng.random() < share else word for word in row[key].split()
            )
    return row


def _in_process(side: str, work: Path) -> dict[str, Any]:
    shutil.rmtree(work / "out", ignore_errors=True)
    command = [sys.executable, str(PEAK), sys.executable, __file__, "--side", side,
               "--work", str(work)]  # fmt: skip
    done = subprocess.run(
        command, capture_output=True, text=True, check=False,
        env=os.environ | {"HF_DATASETS_CACHE": str(work / "out" / "cache"),
                          "HF_HUB_OFFLINE": "1"},
    )  # fmt: skip
    if done.returncode:
        sys.exit(f"{side} failed:\n{done.stderr[-3000:]}")
    found, peak = (json.loads(line) for line in done.stdout.strip().splitlines()[-2:])
    return {**found, "peak_gib": peak["peak_gib"]}


def _ours(work: Path) -> dict[str, Any]:
    from delia_ray import runtime
    from delia_ray.artifacts import open_storage
    from delia_ray.config import RunConfig
    from delia_ray.ingest.stage import STAGE
    from delia_ray.stage import StageRun

    near = {"shingle": SHINGLE, "permutations": PERMUTATIONS, "bands": BANDS,
            "threshold": THRESHOLD}  # fmt: skip
    config = RunConfig.model_validate(
        {
            "corpus": [{"path": f"{work}/*.jsonl"}],
            "curate": {"normalize": "nfc", "near_duplicates": near},
            "evaluate": {"suites": [], "summary": []},
        }
    )
    runtime.connect(config)
    folder = open_storage(str(work / "out"))
    began = time.monotonic()
    outcome = STAGE.run(StageRun(config, folder, folder, {}))
    seconds = time.monotonic() - began
    [counts] = outcome.counts["corpus"].values()
    runtime.disconnect()
    return {"seconds": round(seconds, 2), "read": counts["read"], "kept": counts["records"],
            "duplicates": counts["duplicates"], "removed": counts.get("removed", {})}  # fmt: skip


def _datasets(work: Path) -> dict[str, Any]:
    import hashlib
    import re
    import unicodedata

    from datasets import load_dataset
    from datasets.utils.logging import disable_progress_bar
    from rensa import RMinHash

    disable_progress_bar()
    not_words = re.compile(r"[\W_]+")

    def normalise(row: dict[str, Any]) -> dict[str, Any]:
        parts = [part for part in (row["instruction"], row["input"]) if part.strip()]
        prompt = unicodedata.normalize("NFC", "\n\n".join(parts)).strip()
        answer = unicodedata.normalize("NFC", row["output"]).strip()
        identity = hashlib.sha256(json.dumps([["user", prompt], answer]).encode()).hexdigest()
        return {"id": identity[:16], "answer": answer,
                "prompt": [{"role": "user", "content": prompt}]}  # fmt: skip

    def minhash(batch: dict[str, list[Any]]) -> dict[str, list[Any]]:
        sets = []
        for prompt, answer in zip(batch["prompt"], batch["answer"], strict=True):
            text = not_words.sub("", unicodedata.normalize(
                "NFKC", f"{prompt[-1]['content']}\n{answer}").casefold())  # fmt: skip
            sets.append([text[i : i + SHINGLE] for i in range(max(1, len(text) - SHINGLE + 1))])
        return {"signature": RMinHash.digests_from_token_sets(sets, PERMUTATIONS, 1)}

    began = time.monotonic()
    rows = load_dataset("json", data_files=f"{work}/*.jsonl", split="train", num_proc=2)
    rows = rows.map(normalise, num_proc=2, remove_columns=rows.column_names)
    rows = rows.filter(lambda row: bool(row["prompt"][-1]["content"]), num_proc=2)
    seen: set[str] = set()
    before = len(rows)
    rows = rows.filter(lambda i: not (i in seen or seen.add(i)), input_columns=["id"])
    unique = len(rows)
    signed = rows.map(minhash, batched=True, num_proc=2)
    width, first, kept = PERMUTATIONS // BANDS, {}, []
    held: list[list[int]] = []
    for index, signature in enumerate(signed["signature"]):
        near = False
        keys = [(b, tuple(signature[b * width : (b + 1) * width])) for b in range(BANDS)]
        for key in keys:
            other = first.get(key)
            if other is not None:
                same = sum(a == b for a, b in zip(held[other], signature, strict=True))
                near = near or same >= THRESHOLD * PERMUTATIONS
        held.append(signature)
        for key in keys:
            first.setdefault(key, index)
        if not near:
            kept.append(index)
    rows = rows.select(kept)
    rows.to_parquet(str(work / "out" / "corpus.parquet"))
    return {"seconds": round(time.monotonic() - began, 2), "read": before, "kept": len(kept),
            "duplicates": before - unique,
            "removed": {"near-duplicate": unique - len(kept)}}  # fmt: skip


SIDES: dict[str, Callable[[Path], dict[str, Any]]] = {"datasets": _datasets, "ours": _ours}


def _summary(
    arguments: argparse.Namespace,
    runs: dict[str, list[dict[str, Any]]],
    quarter: list[dict[str, Any]],
) -> None:
    def median(found: list[dict[str, Any]], key: str) -> float:
        return statistics.median(run[key] for run in found)

    ours, other = median(runs["ours"], "seconds"), median(runs["datasets"], "seconds")
    large, small = median(runs["ours"], "peak_gib"), median(quarter, "peak_gib")
    print(
        json.dumps(
            {
                "benchmark": "ingest",
                "date": datetime.now(UTC).date().isoformat(),
                "device": f"CPU, {os.cpu_count()} cores",
                "rows": arguments.rows,
                "repeats": arguments.repeats,
                "ratio": round(other / ours, 3),
                "ours_rows_per_second": round(arguments.rows / ours),
                "datasets_rows_per_second": round(arguments.rows / other),
                "peak_gib": large,
                "peak_gib_of_a_quarter": small,
                "memory_growth": round(large / small - 1, 3),
                "kept": {side: own[0]["kept"] for side, own in runs.items()},
                "datasets_peak_gib": median(runs["datasets"], "peak_gib"),
            }
        )
    )


if __name__ == "__main__":
    main()
