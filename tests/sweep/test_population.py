"""Going on from a copy of a better trial with another rate."""

import pytest

from delia_ray.artifacts import Folder
from delia_ray.config import RunConfig
from delia_ray.config.sweep import Dimension
from delia_ray.finetune.schedule import peak_rate, rate
from delia_ray.sweep import records
from delia_ray.sweep.population import branched

RATES = Dimension(log=(1e-4, 1e-2))


def test_the_copy_makes_the_donors_steps_and_then_its_own() -> None:
    donor = RunConfig.model_validate({"finetune": {"lr": 1e-3}})
    one = branched(donor, 20, 2e-3, RATES)
    two = branched(one, 40, 5e-4, RATES)
    for step in range(40):
        assert rate(step, 100, two.finetune) == rate(step, 100, one.finetune)
    assert [peak_rate(s, two.finetune) for s in (0, 19, 20, 39, 40, 99)] == [
        1e-3, 1e-3, 2e-3, 2e-3, 5e-4, 5e-4,
    ]  # fmt: skip
    assert two.finetune.phases[:1] == one.finetune.phases


def test_going_on_from_an_earlier_step_forgets_what_came_after_it() -> None:
    donor = RunConfig.model_validate(
        {"finetune": {"lr": 1e-3, "phases": [{"from_step": 20, "lr": 2e-3}]}}
    )
    found = branched(donor, 20, 5e-4, RATES).finetune.phases
    assert [(p.from_step, p.lr) for p in found] == [(20, 5e-4)]


@pytest.mark.parametrize("lr", [1e-3, 1e-9, 5.0])
def test_the_rate_stays_in_its_dimension_and_is_another_one(lr: float) -> None:
    donor = RunConfig.model_validate({"finetune": {"lr": 1e-3}})
    found = branched(donor, 20, lr, RATES).finetune.phases[-1].lr
    assert 1e-4 <= found <= 1e-2
    assert found != 1e-3
    edge = RunConfig.model_validate({"finetune": {"lr": 1e-2}})
    assert branched(edge, 20, 1e-2, RATES).finetune.phases[-1].lr < 1e-2


def test_a_family_is_found_from_its_eldest(tmp_path) -> None:
    trials = Folder(str(tmp_path))
    for key, parent in (("a", None), ("b", "a"), ("c", "b"), ("x", None), ("y", "x")):
        records.plan(trials, key, 1, "search", {}, RunConfig(), parent=parent)
    assert sorted(records.family(trials, ["a"])) == ["a", "b", "c"]
    assert records.family(trials, ["c"]) == ["c"]
