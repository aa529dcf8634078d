"""A sweep whose driver, trial, training worker and Train controller are killed, beside one that is
left alone; its trainings have two workers, so that there is all of that to kill. And a sweep that
loses the node its trials run on."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml

from delia_ray.artifacts import Folder
from delia_ray.drill.place import Place
from delia_ray.sweep import records
from delia_ray.sweep.run import BEST, RESULT

from .conftest import RUN

pytestmark = [
    pytest.mark.ray,
    pytest.mark.skipif("DELIA_CHAOS" not in os.environ, reason="minutes long: make chaos"),
]
STEPS = 24


class Hurt:
    """``delia sweep`` in a process of its own."""

    def __init__(self, words: list[str], run: Path, log: Path) -> None:
        self.run, self.log = run, log
        self.until = time.monotonic() + 900
        command = [sys.executable, "-m", "delia_ray.cli", "sweep", *words]
        with open(log, "wb") as stream:
            self.driver = subprocess.Popen(
                command, stdout=stream, stderr=stream, start_new_session=True
            )

    def end(self) -> int:
        """Its exit code."""
        try:
            return self.driver.wait(timeout=max(1.0, self.until - time.monotonic()))
        finally:
            self.driver.kill()

    def wait_for_checkpoint(self, finished: int) -> None:
        """Until a training saved one more step, ``finished`` trials being over."""
        before = self._saved()
        while self._saved() <= before or len(done(self.run)) < finished:
            assert self.driver.poll() is None, self.log.read_text()
            assert time.monotonic() < self.until, "no training came to a checkpoint"
            time.sleep(0.05)

    def _saved(self) -> set[Path]:
        return set(self.run.glob("finetune/*/checkpoints/*/*/whole.json"))

    def kill(self, title: str) -> None:
        """SIGKILL one process of its cluster."""
        below = psutil.Process(self.driver.pid).children(recursive=True)
        next(p for p in below if _title(p).startswith(title)).kill()

    def kill_driver(self) -> None:
        """SIGKILL it, and wait until its cluster has followed."""
        below = psutil.Process(self.driver.pid).children(recursive=True)
        self.driver.kill()
        self.driver.wait()
        psutil.wait_procs(below, timeout=60)


def _title(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


def done(run: Path) -> dict[str, records.Record]:
    """The finished trials by their keys."""
    return {r.key: r for r in records.read(Folder(str(run / "trials"))) if r.state == "done"}


def found(run: Path) -> dict[str, Any]:
    result: dict[str, Any] = json.loads((run / RESULT).read_text())
    return result


@pytest.fixture(scope="module")
def hurt(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Folders of both sweeps, and the trials that were finished when the driver died."""
    root = tmp_path_factory.mktemp("killed")
    finetune = RUN["finetune"] | {"workers": 2, "steps": STEPS, "checkpoint_every": 4}
    settings = {
        "name": "s", "run": RUN | {"finetune": finetune},
        "dimensions": {"finetune.lr": {"choice": [1e-5, 3e-3]}}, "searcher": "grid",
        "search_rows": 8, "confirm": {"seeds": 0}, "retries": 2, "cluster": {"num_cpus": 3},
    }  # fmt: skip
    runs = {}
    for name in ("alone", "killed"):
        tree = settings | {"storage": str(root / name)}
        (root / f"{name}.yaml").write_text(yaml.safe_dump(tree))
        runs[name] = root / name / "s"
    first = Hurt([str(root / "killed.yaml")], runs["killed"], root / "first.txt")
    first.wait_for_checkpoint(finished=0)
    first.kill("ray::TrialActor")  # the other trial must not wait for this one's workers
    first.wait_for_checkpoint(finished=1)
    first.kill_driver()
    before = done(runs["killed"])
    again = Hurt(["--resume", str(runs["killed"])], runs["killed"], root / "again.txt")
    for title in ("ray::TrainController", "ray::RayTrainWorker"):
        again.wait_for_checkpoint(finished=1)
        again.kill(title)
    assert again.end() == 0, (root / "again.txt").read_text()
    alone = Hurt([str(root / "alone.yaml")], runs["alone"], root / "alone.txt")
    assert alone.end() == 0, (root / "alone.txt").read_text()
    return {"before": before, **runs}


def test_finished_trials_are_the_same_and_none_ran_again(hurt: dict[str, Any]) -> None:
    after, wanted = done(hurt["killed"]), done(hurt["alone"])
    assert len(wanted) == 2
    assert {k: r.points[-1].scores for k, r in after.items()} == {
        k: r.points[-1].scores for k, r in wanted.items()
    }
    assert hurt["before"]
    for key, record in hurt["before"].items():
        assert after[key].facts == record.facts
    design = found(hurt["killed"])["design"]
    assert (design["done"], design["failed"]) == (2, 0)


def test_no_step_was_made_twice_and_none_went_another_way(hurt: dict[str, Any]) -> None:
    curves = {name: _curves(hurt[name]) for name in ("killed", "alone")}
    assert len(curves["killed"]) == 2, "a trial was trained twice"
    for curve in curves["killed"].values():
        assert curve["step"].to_pylist() == list(range(1, STEPS + 1))
    for key, curve in curves["alone"].items():
        assert curves["killed"][key]["loss"].to_pylist() == curve["loss"].to_pylist()
    assert found(hurt["killed"])["counters"]["syntheses"] == 1


def test_the_best_is_the_same(hurt: dict[str, Any]) -> None:
    best, wanted = found(hurt["killed"])["best"], found(hurt["alone"])["best"]
    for fact in ("number", "parameters", "score"):
        assert best[fact] == wanted[fact]
    assert len({t["score"] for t in found(hurt["alone"])["trials"]}) > 1, "any would be the best"
    assert _settings(hurt["killed"]) == _settings(hurt["alone"])


def test_a_lost_node_loses_no_trial(tmp_path: Path) -> None:
    """It takes the trials under way with it; what comes in its place makes them again."""
    place = Place([], cpus=2)
    finetune = RUN["finetune"] | {"steps": STEPS, "checkpoint_every": 4}
    try:
        settings = {
            "name": "s", "storage": str(tmp_path), "searcher": "grid",
            "run": RUN | {"finetune": finetune},
            "dimensions": {"finetune.lr": {"choice": [1e-5, 1e-4, 1e-3, 3e-3]}},
            "search_rows": 8, "confirm": {"seeds": 0}, "retries": 1,
            "cluster": {"address": place.cluster.address},
        }  # fmt: skip
        (tmp_path / "s.yaml").write_text(yaml.safe_dump(settings))
        own = Hurt([str(tmp_path / "s.yaml")], tmp_path / "s", tmp_path / "s.txt")
        own.wait_for_checkpoint(finished=1)
        before = done(tmp_path / "s")
        place.replace_node()
        assert own.end() == 0, (tmp_path / "s.txt").read_text()
    finally:
        place.close()
    after, result = done(tmp_path / "s"), found(tmp_path / "s")
    assert 1 <= len(before) < len(after) == 4
    assert {k: after[k].facts for k in before} == {k: r.facts for k, r in before.items()}
    assert (result["design"]["failed"], result["counters"]["syntheses"]) == (0, 1)
    assert len(_curves(tmp_path / "s")) == 4, "a trial was trained twice"


def _curves(run: Path) -> dict[str, Any]:
    """Fingerprint of a training -> its steps."""
    files = run.glob("finetune/*/delia/curve.parquet")
    return {f.parts[-3]: Folder(str(f.parent)).read_table(f.name) for f in files}


def _settings(run: Path) -> dict[str, Any]:
    """What ``delia run`` would read, without the place."""
    settings: dict[str, Any] = yaml.safe_load((run / BEST).read_text())
    settings.pop("storage", None)
    return settings
