"""From a sweep to the runs of its trials, and to its pool."""

from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from delia_ray.config import RunConfig, Sweep, load_config, load_settings
from delia_ray.errors import UserError
from delia_ray.sweep.configs import Configs
from delia_ray.sweep.pool import pools, upstream
from delia_ray.synthesize.stage import largest_ratio, settings

from ..conftest import ROOT
from .conftest import RUN

Make = Callable[..., Sweep]


def test_every_trial_reads_one_pool(make_sweep: Make) -> None:
    configs = Configs(make_sweep(dimensions={
        "mix.ratio": {"choice": [0, 2, 8]}, "finetune.lr": {"log": [1e-4, 1e-2]},
        "arms.delia.reworded": {"choice": [True, False]},
        "mix.strategy": {"choice": ["uniform", "low_loss_first"], "when": {"mix.ratio": [2]}},
    }))  # fmt: skip
    assert configs.ratio == 8
    assert upstream(configs) == []
    assert pools(configs) == [{}]
    found = {str(settings(configs.trial(p))) for p in configs.planned()}
    assert len(found) == 1
    assert found == {str(settings(configs.anew({"mix.ratio": 2}, 0)))}


def test_the_pool_holds_the_largest_product_of_what_makes_it_larger(make_sweep: Make) -> None:
    dimensions = {"mix.ratio": {"integer": [1, 6]}, "mix.mosaic": {"choice": [1, 3]}}
    configs = Configs(make_sweep(dimensions=dimensions))
    assert configs.ratio == 18
    small = configs.trial({"mix.ratio": 1})
    assert (small.arm_ratio("delia"), largest_ratio(small)) == (1, 18)


def test_what_changes_the_questions_takes_a_pool_for_each_value(make_sweep: Make) -> None:
    dimensions = {
        "mix.ratio": {"choice": [0, 4]}, "downstream.rows": {"choice": [4, 8]},
        "synthesize.sampling.temperature": {"choice": [0.5, 1.0]},
    }  # fmt: skip
    configs = Configs(make_sweep(dimensions=dimensions))
    assert upstream(configs) == ["downstream.rows", "synthesize.sampling.temperature"]
    assert len(pools(configs)) == 4
    wide = {"synthesize.sampling.temperature": {"uniform": [0.5, 1.0]}}
    with pytest.raises(UserError, match=r"changes what is synthesised.*choice"):
        upstream(Configs(make_sweep(dimensions=wide)))


def test_the_search_sees_the_first_rows_and_the_confirmation_all(make_sweep: Make) -> None:
    configs = Configs(make_sweep())
    assert [s.rows for s in configs.trial({}).evaluate.suites] == [4, 4]
    assert configs.searched() == {"plain": 4, "sep": 4}
    anew = configs.anew({"mix.ratio": 2}, 3)
    assert [s.rows for s in anew.evaluate.suites] == [8, 8]
    assert anew.order_seed not in (configs.base.order_seed, configs.anew({}, 2).order_seed)
    assert not configs.base.evaluate.base
    with pytest.raises(UserError, match="none are left for the confirmation"):
        Configs(make_sweep(search_rows=8))


def test_trials_have_the_one_arm_and_the_storage_of_the_sweep(make_sweep: Make) -> None:
    sweep = make_sweep(run=RUN | {"arms": ["common", "delia"], "name": "other"})
    config = Configs(sweep).trial({"mix.ratio": 2, "arms.delia.reworded": False})
    assert list(config.arms) == ["delia"]
    assert not config.arms["delia"].reworded
    assert (config.name, config.storage) == ("s", sweep.storage)
    assert config.cluster.num_cpus == 2


def test_the_winner_is_a_recipe(make_sweep: Make, tmp_path: Path) -> None:
    configs = Configs(make_sweep())
    parameters = {"mix.ratio": 2, "finetune.lr": 0.002}
    file = tmp_path / "best.yaml"
    file.write_text(yaml.safe_dump(configs.recipe(parameters, "won")))
    config = load_config([file])
    assert (config.name, config.mix.ratio, config.finetune.lr) == ("won", 2, 0.002)
    trial = configs.trial(parameters)
    assert config.finetune == trial.finetune
    assert settings(config) == settings(trial)  # the pool is not made again


def test_keys_name_what_a_trial_does(make_sweep: Make) -> None:
    one, two = Configs(make_sweep()), Configs(make_sweep(name="t", rungs=[3]))
    config, other = one.trial({"mix.ratio": 2}), two.trial({"mix.ratio": 2})
    assert one.key(config, rungs=False) == two.key(other, rungs=False)
    assert one.key(config, rungs=True) != two.key(other, rungs=True)
    assert one.key(config, rungs=True) != one.key(one.trial({"mix.ratio": 8}), rungs=True)


@pytest.mark.parametrize(
    ("dimensions", "said"),
    [
        ({"mix.ratoi": {"choice": [1]}}, "dimensions.mix.ratoi.*did you mean mix.ratio"),
        ({"mix.strategy": {"choice": ["best"]}}, "dimensions.mix.strategy, value 'best'"),
        ({"finetune.lr": {"uniform": [-1, 1]}}, "dimensions.finetune.lr, value -1"),
    ],
)
def test_dimensions_are_checked_before_anything_runs(
    make_sweep: Make, dimensions: dict, said: str
) -> None:
    with pytest.raises(UserError, match=said):
        Configs(make_sweep(dimensions=dimensions))


def test_what_cannot_be_is_said(make_sweep: Make) -> None:
    with pytest.raises(UserError, match=r"neither in run.arms nor one of"):
        Configs(make_sweep(arm="nobody"))
    several = RUN | {"finetune": RUN["finetune"] | {"workers": 2}}
    with pytest.raises(UserError, match=r"needs finetune.workers=1"):
        Configs(make_sweep(run=several, scheduler="asha", rungs=[2]))
    grid = make_sweep(dimensions={"mix.ratio": {"choice": [0, 2, 8]}}, searcher="grid", trials=2)
    with pytest.raises(UserError, match="3 combinations"):
        Configs(grid).planned()


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"searcher": "grid"}, "takes choices only"),
        ({"trials": None}, "needs trials"),
        ({"scheduler": "asha"}, "decides at rungs"),
        ({"rungs": [4, 2]}, "must rise"),
        ({"searcher": "bohb"}, "go together"),
        ({"scheduler": "pbt", "rungs": [2], "searcher": "optuna"}, "random or grid"),
        (
            {"scheduler": "pbt", "rungs": [2], "dimensions": {"mix.ratio": {"choice": [1, 2]}}},
            "make it a dimension",
        ),
        ({"objectives": {"a": {"of": ["seconds"], "weight": 0}}}, "weight above 0"),
        ({"objectives": {"a": {"of": ["seconds", "mean"]}}}, "stands alone"),
        ({"dimensions": {"mix.ratio": {"choice": [1], "when": {"x": 1}}}}, "no dimension"),
    ],
)
def test_settings_that_contradict_each_other(make_sweep: Make, settings: dict, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        make_sweep(**settings)


@pytest.mark.parametrize("file", sorted((ROOT / "jobs" / "sweeps").glob("*.yaml")), ids=str)
def test_every_shipped_sweep_loads(file: Path) -> None:
    sweep = load_settings(Sweep, [file])
    checked = {n: d for n, d in sweep.dimensions.items() if n != "model"}  # those are built first
    configs = Configs(sweep.model_copy(update={"dimensions": checked}))
    assert configs.ratio == 520
    assert len(configs.planned()) >= 24 - 3
    assert isinstance(configs.anew({}, 0), RunConfig)
