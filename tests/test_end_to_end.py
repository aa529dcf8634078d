"""The whole product as users start it: real vLLM, Ray Train, DeepSpeed, and SIGKILL."""

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from delia_ray import pipeline
from delia_ray.config import load_config

from .test_cli import ENV, delia

ROOT = Path(__file__).parent.parent
pytestmark = [pytest.mark.ray, pytest.mark.vllm]

RECIPE = """
downstream: {path: downstream, format: miniature, rows: 12, special_tokens: {"<sep>": json}}
corpus: [{path: corpus, format: miniature, rows: 300}]
synthesize:
  engine: {type: vllm, max_model_len: 512, batch_size: 16, max_concurrent_batches: 1}
  sampling: {max_tokens: 96}
  reword: {per_row: 1, registers: [""], placement: [after], sampling: {max_tokens: 64}}
mix: {ratio: 8, max_length: 512}
finetune: {steps: 24, batch_size: 8, micro_batch_size: 4, lr: 1e-3, checkpoint_every: 6}
evaluate:
  engine: {type: transformers}
  max_tokens: 64
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


def test_a_new_suite_trains_nothing_again(
    finished: tuple[Path, str], place: Path, ray_local: None
) -> None:
    extra = "evaluate.suites=[{name: negated, path: sep_negated, format: miniature, rows: 8}]"
    overrides = ["name=whole", f"storage={place}/runs", extra, "evaluate.summary=[]"]
    plan = pipeline.run(load_config([place / "tiny.yaml"], overrides), until="ingest")
    for stage in ("synthesize", "mix", "finetune"):
        assert plan.folder(stage).manifest() is not None
    assert plan.folder("evaluate").manifest() is None


def test_one_can_talk_to_it(finished: tuple[Path, str], place: Path) -> None:
    done = delia(
        "chat", str(finished[0]), "--arm", "base", cwd=place,
        stdin="cat rope bird\\\n\\\nReverse the words.\n", timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip().splitlines()[-1] == "bird rope cat"


def _start(place: Path, name: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "delia_ray.cli", "finetune", "tiny.yaml", f"name={name}",
         f"storage=file://{place}/killed"],
        cwd=place, env=ENV, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip


def _wait_until(process: subprocess.Popen[bytes], seen: Callable[[], bool], limit: float) -> None:
    until = time.monotonic() + limit
    while not seen():
        assert process.poll() is None, (process.stdout.read() if process.stdout else b"").decode()
        assert time.monotonic() < until, "the run never came to the point where it is killed"
        time.sleep(0.02)


def _kill(process: subprocess.Popen[bytes], title: str) -> None:
    """SIGKILL the first process below the driver that calls itself so."""
    below = psutil.Process(process.pid).children(recursive=True)
    next(p for p in below if title in " ".join(p.cmdline())).kill()


def _newest(run: Path) -> tuple[bool, int]:
    """(whether it is of the second arm, step) of the newest whole checkpoint."""
    found = [f.parts[-3:-1] for f in run.glob("finetune/*/checkpoints/*/*/whole.json")]
    return max(((arm == "delia", int(step)) for arm, step in found), default=(False, 0))


def test_whatever_is_killed_it_ends_the_same(finished: tuple[Path, str], place: Path) -> None:
    """vLLM's process, the driver, a worker and Ray Train's controller; ``make chaos`` has more,
    and a killed evaluation is tested beside the stage."""
    run = place / "killed" / "k"
    first = _start(place, "k")
    _wait_until(first, lambda: any((place / "killed" / "cache").rglob("part-*.parquet")), 300)
    _kill(first, "VLLM::EngineCore")
    _wait_until(first, lambda: _newest(run) > (False, 0), 300)
    first.kill()
    first.wait()
    time.sleep(6)  # the orphaned cluster ends within seconds; it must not write any longer
    before, reached = manifests(run), _newest(run)
    assert before["mix"]
    assert not before["finetune"]
    last = _start(place, "k")
    for title in ("ray::RayTrainWorker", "ray::TrainController"):
        _wait_until(last, lambda past=reached: _newest(run) > past, 300)
        reached = _newest(run)
        _kill(last, title)
    printed, _ = last.communicate(timeout=400)
    assert last.returncode == 0, printed.decode()
    assert printed.decode().count("[done before]") == 3
    assert all(manifests(run)[stage] == before[stage] for stage in ("synthesize", "mix"))
    for arm in ("common", "delia"):
        (one,), (other,) = (
            list(r.glob(f"finetune/*/{arm}/adapter/adapter_model.safetensors"))
            for r in (run, finished[0])
        )
        assert one.read_bytes() == other.read_bytes()


def test_the_papers_rows_go_through(place: Path, data: Path) -> None:
    """The paper's recipe with local files and the miniature laid over it, cut down; the counts add
    up to the rows of the files."""
    recipe, local = ROOT / "jobs" / "recipes" / "paper.yaml", place / "local.yaml"
    metrics = [
        m.model_dump(exclude_defaults=True)
        for m in load_config([recipe]).evaluate.suites[0].metrics
    ]
    paths = {
        "halueval": data / "messages" / "halueval_general.public.sep_label.jsonl.gz",
        "delia_official": data / "native" / "delia" / "eval_dataset.jsonl",
    }
    suites = [
        {"name": name, "path": str(path), "format": "messages", "metrics": metrics}
        for name, path in paths.items()
    ]
    corpus = {"path": str(data / "native/alpaca/alpaca_data.json.gz"), "format": "alpaca"}
    local.write_text(
        json.dumps(
            {
                "model": "miniature",
                "downstream": {"path": str(data / "native" / "delia" / "train_dataset.jsonl")},
                "corpus": [corpus],
                "mix": {"max_length": 1024, "overlong": "set_aside", "repeat": True},
                "synthesize": {"engine": {"max_model_len": 2048}},
                "evaluate": {"suites": suites},
            }
        )
    )
    root, storage = ROOT, f"storage={place}/runs"
    read = delia("ingest", str(recipe), str(local), storage, cwd=root, timeout=300)
    assert read.returncode == 0, read.stderr + read.stdout
    suites = [suite | {"rows": 8} for suite in suites]
    done = delia(
        "run", str(recipe), str(local), f"storage={place}/few", "mix.ratio=1", "finetune.steps=2",
        "finetune.batch_size=4", "synthesize.sampling.max_tokens=16",
        "synthesize.reword.per_row=0", "synthesize.held_out=8", "evaluate.max_tokens=4",
        "evaluate.probes=4", "synthesize.engine={type: transformers}",
        "evaluate.engine={type: transformers}", "finetune.workers=1", "arms=[delia]",
        f"evaluate.suites={json.dumps(suites)}", f"corpus={json.dumps([corpus | {'rows': 500}])}",
        cwd=root, timeout=580,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr + done.stdout
    counts = manifests(place / "runs" / "paper")["ingest"][0]["counts"]
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
