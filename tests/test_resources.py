"""One arithmetic of what a recipe asks of a cluster: the check at start, doctor and pods agree."""

import pytest

from delia_ray import runtime
from delia_ray.config import RunConfig
from delia_ray.config.resources import needs_of
from delia_ray.errors import UserError
from delia_ray.k8s.sizes import training_pods


@pytest.mark.parametrize(
    ("finetune", "workers", "said"),
    [
        ({"side_by_side": 8, "workers": 1}, 8, "finetune.side_by_side=8"),
        ({"workers": 3}, 3, "finetune.workers=3"),
        ({"side_by_side": 4, "workers": 1, "cpus_per_worker": 2}, 4, "finetune.side_by_side=4"),
        ({"workers": 8, "min_workers": 3}, 3, "finetune.min_workers=3"),
    ],
)
def test_what_trains_at_once_must_fit(finetune: dict[str, int], workers: int, said: str) -> None:
    config = RunConfig.model_validate({"finetune": finetune})
    each = finetune.get("cpus_per_worker", config.finetune.cpus_per_worker)
    assert needs_of(config, 0).workers == workers
    with pytest.raises(UserError, match=f"{said} x finetune.cpus_per_worker={each} need"):
        runtime.check_fits(config, {"CPU": workers * each - 1})
    runtime.check_fits(config, {"CPU": workers * each})


def test_gpus_of_arms_side_by_side_must_fit() -> None:
    config = RunConfig.model_validate(
        {"finetune": {"side_by_side": 3, "workers": 1, "gpus_per_worker": 1}}
    )
    with pytest.raises(UserError, match=r"side_by_side=3 x finetune.gpus_per_worker=1 need 3 GPUs"):
        runtime.check_fits(config, {"CPU": 64, "GPU": 2})
    runtime.check_fits(config, {"CPU": 64, "GPU": 3})


def test_a_recipe_without_arms_needs_no_workers() -> None:
    config = RunConfig.model_validate({"arms": {}, "finetune": {"workers": 64}})
    runtime.check_fits(config, {"CPU": 2})


def test_pods_are_counted_by_the_same_arithmetic() -> None:
    pods = {"training": {"cpus": 2, "gpus": 0}}
    config = RunConfig.model_validate(
        {"finetune": {"side_by_side": 8, "workers": 1}, "cluster": {"kubernetes": pods}}
    )
    each = config.finetune.cpus_per_worker
    assert training_pods(config).most == -(-needs_of(config, 0).workers // (2 // each))
