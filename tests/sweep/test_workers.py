"""Trials whose trainings have two workers: Ray Train's controller of one is killed on its way."""

import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import yaml

from delia_ray.artifacts import Folder
from delia_ray.sweep import records

from .conftest import RUN

pytestmark = pytest.mark.ray
STEPS = 24


def test_a_killed_controller_costs_nothing_but_time(tmp_path: Path) -> None:
    """Training goes on with another one, on the CPUs that the dead one held."""
    finetune = RUN["finetune"] | {"workers": 2, "steps": STEPS, "checkpoint_every": 4}
    settings = {
        "name": "s", "storage": str(tmp_path / "runs"), "run": RUN | {"finetune": finetune},
        "dimensions": {"mix.ratio": {"choice": [0, 2]}}, "searcher": "grid", "search_rows": 4,
        "confirm": {"seeds": 0}, "retries": 1, "cluster": {"num_cpus": 3},
    }  # fmt: skip
    file, run = tmp_path / "s.yaml", tmp_path / "runs" / "s"
    file.write_text(yaml.safe_dump(settings))
    command = [sys.executable, "-m", "delia_ray.cli", "sweep", str(file)]
    with open(tmp_path / "printed", "w+") as printed:
        driver = subprocess.Popen(command, stdout=printed, stderr=printed)
        try:
            _kill_controller(driver, run)
            code = driver.wait(timeout=400)
        finally:
            driver.kill()
        printed.seek(0)
        assert code == 0, printed.read()
    known = records.read(Folder(str(run / "trials")))
    assert [r.state for r in known] == ["done", "done"]
    curves = list(run.glob("finetune/*/delia/curve.parquet"))
    assert len(curves) == 2, "a trial was trained twice"
    for curve in curves:
        steps = Folder(str(curve.parent)).read_table(curve.name)["step"].to_pylist()
        assert steps == list(range(1, STEPS + 1))


def _kill_controller(driver: "subprocess.Popen[str]", run: Path) -> None:
    """SIGKILL it once a checkpoint is there."""
    until = time.monotonic() + 300
    while not list(run.glob("finetune/*/checkpoints/*/whole.json")):
        assert driver.poll() is None, "the sweep ended before anything was killed"
        assert time.monotonic() < until, "no training came to a checkpoint"
        time.sleep(0.05)
    below = psutil.Process(driver.pid).children(recursive=True)
    next(p for p in below if " ".join(p.cmdline()).startswith("ray::TrainController")).kill()
