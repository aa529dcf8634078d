"""An evaluation that is killed goes on where it was, and says the same."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pyarrow.parquet as pq
import pytest

pytestmark = pytest.mark.ray
EVALUATE = {
    "engine": {"type": "transformers", "batch_size": 8},
    "suites": [
        {"name": "plain", "path": "plain", "format": "miniature", "rows": 160, "phrasings": 1},
        {"name": "translation", "path": "translation", "format": "miniature", "rows": 40,
         "metrics": [{"name": "chrf"}]},
    ],
    "summary": ["plain"], "resamples": 100, "probes": 4,
}  # fmt: skip


def _command(storage: Path) -> list[str]:
    return [
        sys.executable, "-m", "delia_ray.cli", "evaluate", "name=e", f"storage={storage}",
        "arms={}",
        "corpus=[{path: corpus, format: miniature, rows: 8}]",
        f"evaluate={json.dumps(EVALUATE)}",
    ]  # fmt: skip


def _chunks(storage: Path) -> dict[str, int]:
    """Answers that are kept: file -> inode."""
    found = (storage / "e" / "evaluate").glob("*/parts/answers/*.parquet")
    return {f.name: f.stat().st_ino for f in found if ".tmp-" not in f.name}


def _run(storage: Path) -> None:
    done = subprocess.run(
        _command(storage), capture_output=True, text=True, timeout=400, check=False,
        env=dict(os.environ),
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


def _result(storage: Path) -> tuple[dict, list[dict], dict]:
    (out,) = (f.parent for f in (storage / "e" / "evaluate").glob("*/manifest.json"))
    manifest = json.loads((out / "manifest.json").read_text())
    rows = pq.read_table(out / "generations.parquet").to_pylist()
    return json.loads((out / "scores.json").read_text()), rows, manifest["counts"]


def test_killed_and_resumed(tmp_path: Path) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    driver = subprocess.Popen(
        _command(killed), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=dict(os.environ)
    )
    deadline = time.monotonic() + 300
    while len(_chunks(killed)) < 3:
        assert driver.poll() is None, "ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.05)
    below = psutil.Process(driver.pid).children(recursive=True)
    driver.send_signal(signal.SIGKILL)
    for process in below:  # its cluster goes with it, and must not go on writing meanwhile
        try:
            process.kill()
        except psutil.NoSuchProcess:
            continue
    driver.wait()
    psutil.wait_procs(below, timeout=30)
    before = _chunks(killed)
    assert not list((killed / "e" / "evaluate").glob("*/manifest.json"))
    _run(killed)
    _run(whole)
    (scores, rows, counts), (other, expected, _) = _result(killed), _result(whole)
    assert scores == other
    assert rows == expected
    # Every chunk that was there was kept: so many prompts fewer were asked.
    prompts = 160 * 2 + 40
    asked = counts["answered"]["base"]
    assert asked <= prompts - 32 * (len(before) - 1)
    assert asked + sum(min(32, prompts) for _ in before) >= prompts
    assert scores["robustness"]["plain"]["base"]["mean"]["value"] > 0.5
