"""A real sweep of the miniature, small: one synthesis, rungs, the confirmation."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from delia_ray import runtime
from delia_ray.artifacts import Folder
from delia_ray.config import Sweep, load_config
from delia_ray.stage import Progress, silent
from delia_ray.sweep import records
from delia_ray.sweep.run import BEST, PAGE, Told, folder_of, sweep

from .conftest import RUN

pytestmark = pytest.mark.ray

DIMENSIONS = {
    "mix.ratio": {"choice": [0, 2, 4]},
    "finetune.lr": {"choice": [1e-3, 2e-3]},
    "mix.strategy": {"choice": ["uniform", "low_loss_first"], "when": {"mix.ratio": 2}},
}


def settings(storage: Path, **changes: Any) -> Sweep:
    base = {
        "name": "s", "storage": str(storage), "run": RUN, "dimensions": DIMENSIONS, "trials": 3,
        "search_rows": 4, "rung_rows": 4, "rungs": [3], "scheduler": "asha",
        "confirm": {"seeds": 2}, "retries": 1, "cluster": {"num_cpus": 2},
    }  # fmt: skip
    return Sweep.model_validate(base | changes)


class Quiet:
    """A watcher who says nothing."""

    def begin(self, number: int, stage: Any) -> Progress:
        return silent

    def end(self, number: int, stage: Any, manifest: dict[str, Any], skipped: bool) -> None:
        pass

    def note(self, text: str) -> None:
        pass


@contextmanager
def _silent(title: str) -> Iterator[Progress]:
    yield silent


TOLD = Told(lambda title: Quiet(), _silent, print)


@pytest.fixture(scope="module")
def storage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def made(storage: Path, ray_local: None) -> dict[str, Any]:
    return sweep(settings(storage), TOLD)


def trials(storage: Path) -> list[records.Record]:
    return records.read(records.trials_of(folder_of(settings(storage))))


def trained(folder: Folder) -> int:
    return sum((folder / "finetune" / n).manifest() is not None for n in _names(folder, "finetune"))


def _names(folder: Folder, stage: str) -> list[str]:
    return (folder / stage).names()


def test_one_synthesis_serves_all_trials(made: dict[str, Any], storage: Path) -> None:
    counted = made["counters"]
    assert (counted["syntheses"], counted["tokenised"]) == (1, 1)
    assert counted["tokens_taken_over"] == counted["mixes"] - 1 >= 2
    done = [r for r in trials(storage) if r.state == "done"]
    pool = _names(folder_of(settings(storage)), "synthesize")
    assert {r.facts["stages"]["synthesize"] for r in done} == set(pool)
    assert made["design"]["done"] >= 1
    assert made["design"]["done"] + made["design"]["stopped"] == 3


def test_trials_are_asked_at_rungs_and_the_best_is_trained_anew(
    made: dict[str, Any], storage: Path
) -> None:
    for record in trials(storage):
        if record.purpose == "search":
            assert record.points[0].step == 3
            assert set(record.points[0].scores) == {"plain", "sep", "mean"}
            assert record.last is not None
            assert record.last.step == (6 if record.state == "done" else 3)
    assert made["confirmation"]["seeds"] == 2
    assert made["confirmation"]["rows"] == {"plain": 4, "sep": 4}
    seeds = {r.config["training_seed"] for r in trials(storage) if r.purpose != "search"}
    assert seeds == {1, 2}


def test_it_leaves_a_page_and_a_recipe(made: dict[str, Any], storage: Path) -> None:
    folder = folder_of(settings(storage))
    assert "The best trial against the recipe" in folder.read_bytes(PAGE).decode()
    config = load_config([folder.file(BEST)])
    assert config.mix.ratio == made["best"]["parameters"]["mix.ratio"]
    assert made["counters"]["overhead"] > 0


def test_the_same_command_again_trains_nothing(made: dict[str, Any], storage: Path) -> None:
    folder = folder_of(settings(storage))
    before, ended = trained(folder), {r.key: r.facts.get("ended") for r in trials(storage)}
    again = sweep(settings(storage), TOLD)
    assert trained(folder) == before
    assert {r.key: r.facts.get("ended") for r in trials(storage)} == ended
    assert again["best"] == made["best"]
    assert again["confirmation"] == made["confirmation"]


def test_what_dead_trainings_hold_is_given_back_and_a_trials_place_is_kept(made: Any) -> None:
    """``made`` so that no sweep runs beside it."""
    import ray
    from ray.util.placement_group import placement_group, placement_group_table

    trial, training = {"CPU": 0.01}, [{"CPU": 0.5}, {"CPU": 0.5}]
    kept, orphan = placement_group([trial]), placement_group(training)
    ray.get([kept.ready(), orphan.ready()])
    runtime.free_orphans(but=trial)
    states = {name: facts["state"] for name, facts in placement_group_table().items()}
    assert states[kept.id.hex()] == "CREATED"
    assert states[orphan.id.hex()] == "REMOVED"
    runtime.free_orphans()
    assert placement_group_table()[kept.id.hex()]["state"] == "REMOVED"
