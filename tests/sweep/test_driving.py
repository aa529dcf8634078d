"""What drives Tune, as far as no cluster is needed: places, searchers, errors."""

import importlib.util
from collections.abc import Callable
from typing import Any

import pytest

from delia_ray.artifacts import Folder
from delia_ray.config import RunConfig, Sweep
from delia_ray.errors import UserError
from delia_ray.evaluate.parts import Part, run_parts
from delia_ray.sweep import records
from delia_ray.sweep.search import side_by_side

Make = Callable[..., Sweep]


@pytest.mark.parametrize(
    ("workers", "cpus", "gpus", "there", "expected"),
    [
        (1, 1, 0, {"CPU": 2}, 2),
        (1, 2, 0, {"CPU": 3}, 1),
        (2, 1, 0, {"CPU": 2}, 0),  # the trial that waits has no place
        (2, 1, 0, {"CPU": 3}, 1),
        (2, 1, 0, {"CPU": 5}, 2),
        (1, 1, 1, {"CPU": 16, "GPU": 8}, 8),
        (4, 1, 1, {"CPU": 16, "GPU": 8}, 2),
        (1, 1, 0.5, {"CPU": 16, "GPU": 2}, 4),
        (1, 1, 1, {"CPU": 16}, 0),
    ],
)
def test_as_many_trials_run_as_fit_and_never_more(
    workers: int, cpus: int, gpus: float, there: dict[str, float], expected: int
) -> None:
    assert side_by_side(workers, cpus, gpus, there) == expected


def test_parts_can_be_done_in_one_process(tmp_path) -> None:
    kept, told = Folder(str(tmp_path)), []
    kept.write_json("b.json", {"result": "kept"})
    parts = {name: Part(str.upper, (name,), name) for name in ("a.json", "b.json")}
    found = run_parts(parts, kept, told.append, here=True)
    assert found == {"a.json": "A.JSON", "b.json": "kept"}
    assert kept.read_json("a.json") == {"result": "A.JSON"}
    assert told == [2, 2]


# --- searchers ------------------------------------------------------------------------------


class Inner:
    """Suggests what it is given, and notes what it is told."""

    metric, mode = "score", "max"

    def __init__(self, suggestions: list[Any]) -> None:
        self.suggestions, self.told = suggestions, []

    def suggest(self, trial_id: str) -> Any:
        return self.suggestions.pop(0) if self.suggestions else None

    def on_trial_complete(self, trial_id: str, result: Any = None, error: bool = False) -> None:
        self.told.append((trial_id, result, error))


def planner() -> Callable[[dict[str, Any]], str | None]:
    seen: list[Any] = []

    def plan(parameters: dict[str, Any]) -> str | None:
        if parameters in seen:
            return None
        seen.append(parameters)
        return f"key{len(seen)}"

    return plan


def test_what_was_tried_is_not_suggested_again(make_sweep: Make) -> None:
    from delia_ray.sweep.searchers import Guided

    inner = Inner(
        [{"mix.ratio": 0, "finetune.lr": 0.1}] * 3 + [{"mix.ratio": 1, "finetune.lr": 0.1}]
    )
    own = Guided(inner, make_sweep(), planner())  # type: ignore[arg-type]
    assert own.suggest("one") == {"key": "key1"}
    assert own.suggest("two") == {"key": "key2"}
    assert [error for *_, error in inner.told] == [True, True]
    own.on_trial_complete("two", {"score": 1.0})
    assert inner.told[-1] == ("two-2", {"score": 1.0}, False)
    assert own.suggest("three") is None


def test_a_search_that_finds_nothing_new_ends(make_sweep: Make) -> None:
    from delia_ray.sweep.searchers import Guided

    inner = Inner([{"mix.ratio": 0, "finetune.lr": 0.1}] * 200)
    own = Guided(inner, make_sweep(), planner())  # type: ignore[arg-type]
    assert own.suggest("one") == {"key": "key1"}
    assert own.suggest("two") == Guided.FINISHED


def test_a_searcher_that_is_not_installed_is_said_at_once(make_sweep: Make) -> None:
    from delia_ray.sweep.searchers import check_installed

    bohb = make_sweep(searcher="bohb", scheduler="hyperband", rungs=[2])
    if importlib.util.find_spec("hpbandster") is not None:
        pytest.skip("hpbandster is installed")
    with pytest.raises(UserError, match=r"hpbandster.*pip install.*searcher=random"):
        check_installed(bohb)
    check_installed(make_sweep())


DIMENSIONS = {
    "mix.strategy": {
        "choice": ["uniform", "farthest_first"], "when": {"mix.ratio": {"above": 0}},
    },
    "mix.ratio": {"choice": [0, 2, 8]},
    "finetune.lr": {"log": [1e-4, 1e-2]},
}  # fmt: skip


@pytest.mark.parametrize("several", [False, True])
def test_optuna_learns_and_goes_on_from_what_is_known(make_sweep: Make, several: bool) -> None:
    pytest.importorskip("optuna")
    from delia_ray.sweep.searchers import make_searcher
    from delia_ray.sweep.trial import SCORE, named

    names = ("adapt", "cost") if several else ("score",)
    goals = {"adapt": {"of": ["sep"]}, "cost": {"of": ["answers"], "goal": "minimise", "weight": 0}}
    own = make_sweep(
        searcher="optuna",
        trials=8,
        dimensions=DIMENSIONS,
        **({"objectives": goals} if several else {}),
    )
    first: list[Any] = []
    searcher = make_searcher(own, [], lambda p: first.append(p) or str(len(first)))
    for turn in range(6):
        assert searcher.suggest(f"t{turn}") == {"key": str(turn + 1)}
        result = {SCORE: float(turn), "training_iteration": 1}
        result |= {named(n): float(turn) for n in names}
        searcher.on_trial_complete(f"t{turn}", result)
    assert all(("mix.strategy" in p) == (p["mix.ratio"] > 0) for p in first)
    again: list[Any] = []
    searcher = make_searcher(own, first, lambda p: again.append(p) or str(len(again)))
    for turn in range(6):
        searcher.suggest(f"t{turn}")
    assert again == first


# --- planning -------------------------------------------------------------------------------


def test_trials_are_noted_once_and_known_again(make_sweep: Make) -> None:
    from delia_ray.sweep.configs import Configs
    from delia_ray.sweep.run import _Planner, folder_of

    own = make_sweep()
    configs = Configs(own)
    trials = records.trials_of(folder_of(own))
    planned = configs.planned()
    plans = _Planner(configs, trials)
    keys = [plans.plan(p) for p in planned]
    assert plans.new(planned[0]) is None
    assert [r.number for r in records.read(trials)] == [1, 2, 3, 4]
    assert _Planner(configs, trials).known() == planned
    other = Configs(make_sweep(dimensions={"mix.ratio": {"choice": [0, 2]}}, rungs=[2]))
    assert _Planner(other, trials).known() == []  # trials of another sweep in the same folder
    config = RunConfig.model_validate((trials / keys[0]).read_json(records.TRIAL)["config"])
    assert configs.key(config, rungs=True) == keys[0]
