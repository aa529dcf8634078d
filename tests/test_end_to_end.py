"""The whole product as users start it: real vLLM, Ray Train, DeepSpeed, and SIGKILL."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from delia_ray.config import load_config

from .test_cli import ENV, delia

pytestmark = [pytest.mark.ray, pytest.mark.vllm]

RECIPE = """
downstream: {rows: 12}
corpus: [{path: corpus, format: miniature, rows: 300}]
synthesize:
  engine: {type: vllm, max_model_len: 512, batch_size: 16, max_concurrent_batches: 1}
  sampling: {max_tokens: 96}
  reword: {per_row: 1, registers: [""], placement: [after], sampling: {max_tokens: 64}}
mix: {ratio: 8, max_length: 512}
finetune: {steps: 24, batch_size: 8, micro_batch_size: 4, lr: 1e-3, checkpoint_every: 6}
evaluate:
  suites:
    - {name: seen, path: sep_seen, format: miniature, rows: 16}
    - {name: plain, path: plain, format: miniature, rows: 16}
  summary: [seen, plain]
"""
STAGES = ["ingest", "synthesize", "mix", "finetune", "evaluate", "report"]


def manifests(run: Path) -> dict[str, list[dict[str, Any]]]:
    return {
        stage: [json.loads(p.read_text()) for p in sorted((run / stage).glob("*/manifest.json"))]
        for stage in STAGES
    }


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("e2e")
    (folder / "tiny.yaml").write_text(RECIPE)
    return folder


@pytest.fixture(scope="module")
def finished(place: Path) -> tuple[Path, str]:
    """An undisturbed run, and what it printed."""
    done = delia("run", "tiny.yaml", "name=whole", cwd=place, timeout=500)
    assert done.returncode == 0, done.stderr + done.stdout
    return place / "runs" / "whole", done.stdout


def test_it_leaves_what_it_promises(finished: tuple[Path, str]) -> None:
    run, printed = finished
    results = json.loads((run / "results.json").read_text())
    assert set(results["suites"]) == {"seen", "plain", "mean"}
    for suite, arms in results["suites"].items():
        assert set(arms) == {"base", "common", "delia"}, suite
        for metrics in arms.values():
            for figure in metrics.values():
                assert figure["low"] <= figure["value"] <= figure["high"]
                assert figure["n"] >= 16
    assert results["suites"]["plain"]["base"]["exact_match"]["value"] >= 0.9
    assert results["suites"]["seen"]["base"]["exact_match"]["value"] == 0
    page = (run / "report.html").read_text()
    assert "<html" in page
    assert "delia" in page
    for stage in STAGES:
        assert f" {stage}" in printed
    assert "vLLM" not in printed and "Ray Train" not in printed, "chatter belongs into the log"  # noqa: PT018
    assert (run / "log.txt").stat().st_size > 1000


def test_counts_add_up(finished: tuple[Path, str]) -> None:
    counts = {k: v[0]["counts"] for k, v in manifests(finished[0]).items()}
    made = counts["synthesize"]["self_sample"]
    assert made["needed"] == made["kept"] == 96
    used = made["kept"] + made["held_out"]
    assert made["asked"] == used + sum(made["set_aside"].values()) + made["spare"]
    words = counts["synthesize"]["reword"]
    assert words["asked"] == 12 == words["kept"] + sum(words["set_aside"].values())
    assert counts["synthesize"]["engine_starts"] == 1
    # 192 positions in windows of 9 hold 21 whole ones and a part of the next.
    mixed = counts["mix"]["arms"]["delia"]["rows"]
    assert mixed["downstream"] in (21, 22)
    assert sum(mixed.values()) == 24 * 8
    assert counts["mix"]["arms"]["common"]["rows"] == {"downstream": 24 * 8, "diverse": 0}


def test_again_every_stage_is_skipped(finished: tuple[Path, str], place: Path) -> None:
    before = manifests(finished[0])
    done = delia("run", "tiny.yaml", "name=whole", cwd=place, timeout=60)
    assert done.returncode == 0
    assert done.stdout.count("[done before]") == 6
    assert manifests(finished[0]) == before


def test_a_new_suite_trains_nothing_again(finished: tuple[Path, str], place: Path) -> None:
    extra = "evaluate.suites=[{name: negated, path: sep_negated, format: miniature, rows: 8}]"
    done = delia(
        "evaluate", "tiny.yaml", "name=whole", extra, "evaluate.summary=[]", cwd=place, timeout=300
    )
    assert done.returncode == 0, done.stderr
    for stage in ("synthesize", "mix", "finetune"):
        assert len(manifests(finished[0])[stage]) == 1


def test_one_can_talk_to_it(finished: tuple[Path, str], place: Path) -> None:
    done = delia(
        "chat", str(finished[0]), "--arm", "base", cwd=place,
        stdin="cat rope bird\\\n\\\nReverse the words.\n", timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip().splitlines()[-1] == "bird rope cat"


def _start(place: Path, name: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "delia_ray.cli", "run", "tiny.yaml", f"name={name}",
         f"storage=file://{place}/killed"],
        cwd=place, env=ENV, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip


def _wait_until(process: subprocess.Popen[bytes], seen: Callable[[], bool], limit: float) -> None:
    until = time.monotonic() + limit
    while not seen():
        assert process.poll() is None, (process.stdout.read() if process.stdout else b"").decode()
        assert time.monotonic() < until, "the run never came to the point where it is killed"
        time.sleep(0.02)


def _kill_when(process: subprocess.Popen[bytes], seen: Callable[[], bool], limit: float) -> None:
    """SIGKILL the driver as soon as ``seen``; its cluster dies by itself."""
    _wait_until(process, seen, limit)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    time.sleep(6)  # the orphaned cluster ends within seconds; it must not write any longer


def _kill_engine(process: subprocess.Popen[bytes]) -> None:
    """SIGKILL vLLM's own process, below the actor that holds it."""
    (engine,) = (
        p
        for p in psutil.Process(process.pid).children(recursive=True)
        if "VLLM::EngineCore" in " ".join(p.cmdline())
    )
    engine.kill()


def test_killed_in_synthesis_and_training_it_ends_the_same(
    finished: tuple[Path, str], place: Path
) -> None:
    run = place / "killed" / "k"
    first = _start(place, "k")
    _wait_until(first, lambda: any((place / "killed" / "cache").rglob("part-*.parquet")), 300)
    _kill_engine(first)  # survived within the run; what follows kills the driver
    # A killed evaluation is tested beside the stage, which is faster.
    points: list[Callable[[], bool]] = [
        lambda: any(run.glob("finetune/*/checkpoints/common-*/whole.json")),
    ]
    created: dict[str, list[dict[str, Any]]] = {}
    for seen in points:
        _kill_when(first or _start(place, "k"), seen, limit=300)
        first = None
        now = manifests(run)
        assert not now["report"]
        assert all(now[stage] == old for stage, old in created.items() if old), "repeated"
        created = now
    assert created["synthesize"]
    last = _start(place, "k")
    printed, _ = last.communicate(timeout=300)
    assert last.returncode == 0, printed.decode()
    assert printed.decode().count("[done before]") == 3
    assert (run / "results.json").read_bytes().replace(b'"k"', b'"whole"') == (
        finished[0] / "results.json"
    ).read_bytes()


def test_the_papers_rows_go_through(place: Path, data: Path) -> None:
    """The recipe on real files, cut down; the counts add up to the rows of the files."""
    recipe = Path(__file__).parent.parent / "jobs" / "recipes" / "hallucination_format.yaml"
    root, storage = recipe.parent.parent.parent, f"storage={place}/runs"
    read = delia("ingest", str(recipe), storage, cwd=root, timeout=300)
    assert read.returncode == 0, read.stderr + read.stdout
    suites = [
        suite.model_dump(mode="json", exclude_defaults=True) | {"rows": 8}
        for suite in load_config([recipe]).evaluate.suites
    ]
    done = delia(
        "run", str(recipe), f"storage={place}/few", "mix.ratio=1", "finetune.steps=2",
        "finetune.batch_size=4", "synthesize.sampling.max_tokens=16",
        "synthesize.reword.per_row=0", "synthesize.held_out=8", "evaluate.max_tokens=4",
        "evaluate.probes=4", "synthesize.engine={type: transformers}",
        f"evaluate.suites={json.dumps(suites)}", cwd=root, timeout=580,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr + done.stdout
    counts = manifests(place / "runs" / "hallucination_format")["ingest"][0]["counts"]
    read = {
        name: {k: part["read"] for k, part in parts.items()}
        for name, parts in counts.items()
        if isinstance(parts, dict)
    }
    assert list(read["downstream"].values()) == [100]
    assert list(read["corpus"].values()) == [52002]
    assert read["suites"] == {"halueval": 2889, "delia_official": 11}
    for parts in (counts["downstream"], counts["corpus"], counts["suites"]):
        for part in parts.values():
            assert (
                part["read"]
                == part["records"]
                + sum(part["rejects"].values())
                + part["duplicates"]
                + part["beyond_limit"]
            )
