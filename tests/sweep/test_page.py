"""The result of an invented sweep, and its page."""

import copy
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from delia_ray.config import RunConfig, Sweep
from delia_ray.sweep.configs import Configs
from delia_ray.sweep.confirm import confirmed
from delia_ray.sweep.page import headline, lines, render
from delia_ray.sweep.plots import colours, heights
from delia_ray.sweep.records import Record
from delia_ray.sweep.result import overhead, result

from ..browser import SIDEWAYS, ask, needs_browser
from ..report.test_stage import Page
from .conftest import point, record

EVIL = "<script>alert('x')</script>"
COUNTERS = {
    "syntheses": 1, "answers_generated": 80, "answers_from_cache": 0, "mixes": 6, "tokenised": 1,
    "tokens_taken_over": 5, "seconds_per_answer": 0.01, "side_by_side": 2, "overhead": 1.11,
    "seconds_of_pool": 40.0, "seconds_of_trials": 90.0,
}  # fmt: skip
OBJECTIVES = {
    "adapt": {"of": ["sep"]}, "retain": {"of": ["plain"]},
    "cost": {"of": ["answers"], "goal": "minimise", "weight": 0},
}  # fmt: skip
DIMENSIONS = {
    "mix.ratio": {"choice": [0, 2, 8]},
    "finetune.lr": {"log": [1e-4, 1e-2]},
    "mix.strategy": {
        "choice": ["uniform", "low_loss_first"], "when": {"mix.ratio": {"above": 0}},
    },
}  # fmt: skip


def trials(configs: Configs) -> list[Record]:
    found = []
    for number, own in enumerate(configs.planned(), start=1):
        value = 0.3 + 0.05 * number
        points = [
            point(2, value / 2, value / 3),
            point(6, value, 1 - value, 8.0 * own["mix.ratio"]),
        ]
        found.append(record(number, parameters=own, points=points))
    found[1] = record(2, "stopped", parameters=found[1].parameters, points=[point(2, 0.1, 0.1)])
    found[2] = record(
        3, "failed", parameters=found[2].parameters, points=[point(2, 0.99, 0.99)], error=EVIL
    )
    return found


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    from .conftest import RUN

    sweep = Sweep.model_validate(
        {
            "name": "s", "storage": str(tmp_path_factory.mktemp("runs")), "run": RUN, "trials": 8,
            "dimensions": DIMENSIONS, "objectives": OBJECTIVES, "search_rows": 4,
            "budget": {"answers": 40},
        }
    )  # fmt: skip
    configs = Configs(sweep)
    rows = [{"plain": [1.0] * 4 + [1.0, 0.0] * 9, "sep": [0.0] * 4 + [1.0] * 18} for _ in range(3)]
    other = [{"plain": [1.0] * 4 + [0.0] * 18, "sep": [0.0] * 4 + [0.0, 1.0] * 9} for _ in range(3)]
    found = confirmed(rows, other, {"plain": 4, "sep": 4}, ["plain", "sep"], 0.95)
    losses = {r.key: [(1.0, 3.0), (6.0, 0.5)] for r in trials(configs)}
    return result(
        configs, trials(configs), found, losses, COUNTERS, seconds=130.0, device="2 CPU cores",
        model="miniature",
    )  # fmt: skip


@pytest.fixture(scope="module")
def page(made: dict[str, Any]) -> str:
    return render(made)


def test_a_failed_trial_has_no_score_and_is_never_best(made: dict[str, Any]) -> None:
    failed = made["trials"][2]
    assert (failed["state"], failed["score"], failed["suites"]) == ("failed", None, {})
    assert failed["error"] == EVIL
    done = [t for t in made["trials"] if t["state"] == "done"]
    assert made["best"]["score"] == max(t["score"] for t in done)
    assert made["design"] | {"done": 6, "stopped": 1, "failed": 1} == made["design"]


def test_the_front_and_the_winner_are_of_finished_trials(made: dict[str, Any]) -> None:
    done = {t["number"] for t in made["trials"] if t["state"] == "done"}
    assert made["front"]
    assert set(made["front"]) <= done
    recipe = RunConfig.model_validate(yaml.safe_load(made["best"]["yaml"]))
    for key, value in made["best"]["parameters"].items():
        assert json.loads(recipe.model_dump_json())[key.split(".")[0]][key.split(".")[1]] == value


def test_the_fit_recommends_within_the_budget(made: dict[str, Any]) -> None:
    assert made["recommended"]["ratio"] <= 5  # 40 answers for 8 rows
    assert made["fit"]["trials"] == 6
    curve = made["fit"]["curve"]
    assert [c["ratio"] for c in curve] == sorted({c["ratio"] for c in curve})
    assert all(c["low"] <= c["value"] <= c["high"] for c in curve)
    assert all(c["answers"] == 8 * c["ratio"] for c in curve)


def test_the_result_survives_json(made: dict[str, Any], page: str) -> None:
    assert render(json.loads(json.dumps(made))) == page


def test_the_page_holds_every_section_and_escapes(made: dict[str, Any], page: str) -> None:
    parsed = Page(page)
    assert re.findall(r'<section id="([^"]+)"', page) == [
        "confirmation", "recommendation", "parallel", "dimensions", "fit", "learning", "front",
        "winner", "counters", "design", "trials",
    ]  # fmt: skip
    text = " ".join(" ".join(parsed.text).split())
    assert EVIL in text
    assert "<script>alert" not in page
    assert headline(made) in text
    assert "stopped at 2" in text
    assert "8 × 8" not in text
    ids = [a["id"] for _, a in parsed.tags if "id" in a]
    assert len(ids) == len(set(ids))
    for tag, attrs in parsed.tags:
        assert tag not in ("link", "img", "iframe", "object", "base", "form")
        for name in ("src", "href"):
            assert (attrs.get(name) or "#").startswith("#")
    rows = re.findall(r"<tr>.*?</tr>", page[page.index('id="all-trials"') :], re.S)
    assert len(rows) == 1 + len(made["trials"])


def test_the_headline_says_what_the_interval_allows(made: dict[str, Any]) -> None:
    assert "beats the recipe by +0.500 [" in headline(made)
    other = copy.deepcopy(made)
    other["confirmation"]["verdict"] = "cannot tell"
    assert "cannot be told from the recipe" in headline(other)
    other["confirmation"] = None
    assert "not confirmed" in headline(other)
    assert "3 times" in " ".join(Page(render(made)).text)
    said = " ".join(lines(made))
    assert "6 of 8 trials done, 1 stopped, 1 failed; one synthesis" in said


def test_a_sweep_of_which_nothing_is_finished_renders(make_sweep: Callable[..., Sweep]) -> None:
    configs = Configs(make_sweep())
    empty = result(configs, [record(1, "failed", points=[], error="x")], None, {}, COUNTERS)
    assert (empty["best"], empty["fit"], empty["next"]) == (None, None, None)
    assert "No trial was finished" in render(empty)


def test_without_a_ratio_there_is_nothing_to_recommend(make_sweep: Callable[..., Sweep]) -> None:
    configs = Configs(make_sweep(dimensions={"finetune.lr": {"log": [1e-4, 1e-2]}}, trials=6))
    own = [
        record(n, parameters=p, points=[point(6, 0.1 * n, 0.1 * n)])
        for n, p in enumerate(configs.planned(), start=1)
    ]
    found = result(configs, own, None, {}, COUNTERS)
    assert found["recommended"] is None
    assert 'id="fit"' not in render(found)


def test_overhead_is_wall_time_over_work_at_the_same_parallelism() -> None:
    own = [record(n) for n in (1, 2, 3, 4)]  # 12 seconds of work each, at step 6
    assert overhead(own, 30.0, 2, since=0) == pytest.approx(30 * 2 / 48)
    assert overhead(own[:1], 15.0, 2, since=0) == pytest.approx(15 / 12)
    assert overhead(own, 30.0, 2, since=200.0) is None  # of an earlier session


def test_colours_go_by_rank() -> None:
    assert colours([0.1, 0.9, 0.5]) == ["var(--ramp-0)", "var(--ramp-7)", "var(--ramp-4)"]
    assert colours([0.5]) == ["var(--ramp-0)"]


def test_heights_of_numbers_choices_and_gaps() -> None:
    places, ticks = heights([0, 1, 3, None], logarithmic=False)
    assert places == [0, pytest.approx(1 / 3), 1, None]
    assert [t[1] for t in ticks] == ["0", "1", "3"]
    places, _ = heights([0, 8, 16, 32], logarithmic=True)
    assert places == pytest.approx([0, 1 / 3, 2 / 3, 1])
    places, ticks = heights([True, False, True], logarithmic=False)
    assert places == [0.25, 0.75, 0.25]
    assert [t[1] for t in ticks] == ["True", "False"]


@needs_browser
def test_nothing_is_cut_off_on_a_phone(page: str, tmp_path: Path) -> None:
    found = ask(page, SIDEWAYS, tmp_path, width=390)
    assert found["page"] == 390
    assert found["outside"] == []
    assert found["text"] > 10
