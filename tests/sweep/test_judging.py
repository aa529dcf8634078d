"""Objectives, the Pareto front, records and the confirmation."""

import itertools
from collections.abc import Callable
from dataclasses import asdict, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from delia_ray.artifacts import Folder
from delia_ray.config import RunConfig, Sweep
from delia_ray.errors import DeliaError, UserError
from delia_ray.sweep import objectives, records
from delia_ray.sweep.confirm import confirmed, suites_that_count
from delia_ray.sweep.pareto import dominates, front
from delia_ray.sweep.records import Record, read
from delia_ray.sweep.work import stop

from .conftest import point, record

Make = Callable[..., Sweep]
THREE = {
    "adapt": {"of": ["sep"]},
    "keep": {"of": ["plain/chrf"], "weight": 0.01},
    "cost": {"of": ["answers"], "goal": "minimise", "weight": 0},
}

# --- objectives -----------------------------------------------------------------------------


def test_objectives_are_figures_of_the_trial(make_sweep: Make) -> None:
    sweep = make_sweep(objectives=THREE)
    own = point(6, plain=0.4, sep=0.8, answers=64)
    assert objectives.values(sweep, own) == {"adapt": 0.8, "keep": 40.0, "cost": 64.0}
    assert objectives.score(sweep, own) == pytest.approx((0.8 + 0.01 * 40) / 1.01)


def test_what_is_minimised_counts_against(make_sweep: Make) -> None:
    sweep = make_sweep(objectives={"a": {"of": ["answers"], "goal": "minimise"}})
    assert objectives.score(sweep, point(6, 0, 0, answers=3)) == -3


def test_the_best_is_finished_and_of_equals_the_first(make_sweep: Make) -> None:
    sweep = make_sweep()
    trials = [
        record(1, points=[point(6, 0.5, 0.5)]), record(2, points=[point(6, 0.7, 0.7)]),
        record(3, points=[point(6, 0.7, 0.7)]),
        record(4, "stopped", points=[point(2, 1.0, 1.0)]), record(5, "failed", points=[]),
    ]  # fmt: skip
    chosen = objectives.best(sweep, trials)
    assert chosen is not None
    assert chosen.number == 2
    assert objectives.best(sweep, trials[3:]) is None


def test_the_spread_is_that_of_the_suites_mean(make_sweep: Make) -> None:
    sweep = make_sweep(objectives={"a": {"of": ["plain", "sep"]}})
    own = point(6, 0.5, 0.5, half=0.196)
    assert objectives.spread(sweep, own) == pytest.approx(0.1 / 2**0.5)


@pytest.mark.parametrize(
    ("of", "good"),
    [
        ("mean", True), ("plain", True), ("plain/chrf", True), ("seconds", True),
        ("plain/bleu", False), ("seps", False),
    ],
)  # fmt: skip
def test_objectives_are_checked_before_anything_runs(make_sweep: Make, of: str, good: bool) -> None:
    sweep = make_sweep(objectives={"a": {"of": [of]}})
    suites = {"plain": ["exact_match", "chrf"], "sep": ["exact_match"]}
    if good:
        objectives.check(sweep, suites, ["plain"])
        return
    with pytest.raises(UserError, match="is not measured; there are plain, sep, mean"):
        objectives.check(sweep, suites, ["plain"])


# --- Pareto ---------------------------------------------------------------------------------

ROWS = st.lists(st.tuples(*[st.integers(0, 4)] * 3), min_size=1, max_size=12)


@settings(deadline=None)
@given(ROWS)
def test_the_front_is_what_nobody_dominates(rows: list[tuple[int, ...]]) -> None:
    up = (True, False, True)
    found = front(rows, up)
    signed = [tuple(v if u else -v for v, u in zip(r, up, strict=True)) for r in rows]
    assert found
    assert found == sorted(found)
    for i, one in enumerate(signed):
        beaten = any(dominates(other, one) for other in signed)
        assert (i in found) == (not beaten)
    for i, j in itertools.product(found, found):
        assert not dominates(signed[i], signed[j])


def test_equals_stay_and_columns_must_fit() -> None:
    assert front([(1, 1), (1, 1), (0, 2), (0, 0)], (True, True)) == [0, 1, 2]
    with pytest.raises(ValueError, match="2 columns"):
        front([(1, 2, 3)], (True, True))


# --- records --------------------------------------------------------------------------------


@pytest.fixture
def trials(tmp_path) -> Folder:
    folder = Folder(str(tmp_path / "trials"))
    for number, key in enumerate(("a", "b", "c"), start=1):
        records.plan(folder, key, number, "search", {"mix.ratio": number}, RunConfig())
    return folder


def rung(folder: Folder, step: int, value: float) -> None:
    folder.write_json(f"rung-{step}.json", asdict(point(step, value, value)))


def finish(folder: Folder) -> None:
    facts = {"point": asdict(point(200, 0.9, 0.9)), "steps": 200, "seconds": {"training": 1.0}}
    facts["stages"] = {"finetune": "0" * 16, "evaluate": "1" * 16}
    folder.write_json(records.DONE, facts)


@pytest.mark.parametrize("missing", ["finetune", "evaluate"])
def test_a_finished_trial_names_its_stages(trials: Folder, missing: str) -> None:
    finish(trials / "a")
    facts = (trials / "a").read_json(records.DONE)
    del facts["stages"][missing]
    (trials / "a").write_json(records.DONE, facts)
    with pytest.raises(DeliaError, match=f"stages names no {missing}"):
        read(trials)


def by_key(trials: Folder) -> dict[str, Record]:
    return {r.key: r for r in read(trials)}


def test_states_and_points_come_from_files_alone(trials: Folder) -> None:
    for step in (20, 100):
        rung(trials / "a", step, 0.1)
        rung(trials / "b", step, 0.2)
    finish(trials / "a")
    stop(trials / "b", 20)
    (trials / "c").write_json(records.FAILED, {"tries": 3, "error": "ValueError: x"})
    found = by_key(trials)
    assert [found[k].state for k in "abc"] == ["done", "stopped", "failed"]
    assert [p.step for p in found["a"].points] == [20, 100, 200]
    assert [p.step for p in found["b"].points] == [20]
    assert found["a"].points[-1] == point(200, 0.9, 0.9)
    assert (found["c"].error, found["c"].last) == ("ValueError: x", None)
    assert (found["a"].steps, found["a"].parameters) == (200, {"mix.ratio": 1})


def test_a_finished_trial_cannot_be_stopped_and_a_plan_is_written_once(trials: Folder) -> None:
    finish(trials / "a")
    stop(trials / "a", 20)
    records.plan(trials, "a", 9, "search", {}, RunConfig())
    assert by_key(trials)["a"].state == "done"
    assert by_key(trials)["a"].number == 1


# --- the confirmation -----------------------------------------------------------------------


def rows(random: np.random.Generator, p: float) -> dict[str, list[float]]:
    return {s: (random.random(40) < p).astype(float).tolist() for s in ("plain", "sep")}


def test_a_clear_difference_is_seen_and_none_is_not() -> None:
    random = np.random.default_rng(0)
    good, bad, same = ([rows(random, p) for _ in range(4)] for p in (0.9, 0.4, 0.4))
    seen, suites = {"plain": 10, "sep": 10}, ["plain", "sep"]
    better = confirmed(good, bad, seen, suites, 0.95)
    assert better is not None
    assert better.verdict == "better"
    assert better.rows == {"plain": 30, "sep": 30}
    assert 0.3 < better.difference["low"] < better.difference["value"]
    worse, open_ = (
        confirmed(bad, good, seen, suites, 0.95),
        confirmed(bad, same, seen, suites, 0.95),
    )
    assert (worse.verdict, open_.verdict) == ("worse", "cannot tell")


def test_only_rows_that_the_search_has_not_seen_count() -> None:
    first = [{"plain": [1.0] * 5 + [0.0, 1.0] * 5} for _ in range(3)]
    other = [{"plain": [0.0] * 5 + [0.0, 1.0] * 5} for _ in range(3)]
    found = confirmed(first, other, {"plain": 5}, ["plain"], 0.95)
    assert found is not None
    assert (found.verdict, found.difference["value"]) == ("cannot tell", 0)


def test_too_little_is_no_confirmation() -> None:
    one = [{"plain": [1.0, 0.0]}]
    assert confirmed(one, one * 3, {"plain": 0}, ["plain"], 0.95) is None
    assert confirmed(one * 3, one * 3, {"plain": 2}, ["plain"], 0.95) is None
    assert confirmed(one * 3, one * 3, {"bleu": 0}, ["bleu"], 0.95) is None


def test_suites_of_the_score_are_judged(make_sweep: Make) -> None:
    own = make_sweep(objectives={
        "a": {"of": ["sep/chrf"]}, "b": {"of": ["mean"]}, "c": {"of": ["tail"], "weight": 0},
        "d": {"of": ["seconds"], "goal": "minimise"},
    })  # fmt: skip
    names = ["plain", "sep", "tail"]
    assert suites_that_count(own, ["plain", "sep"], names) == ["sep", "plain"]
    costs = own.model_copy(update={"objectives": {"d": own.objectives["d"]}})
    assert suites_that_count(costs, [], names) == names


def test_records_are_values() -> None:
    assert replace(record(1), number=2) != record(1)
