"""What the command line makes of its arguments."""

from collections.abc import Callable
from pathlib import Path

import pytest

from delia_ray.artifacts import open_storage
from delia_ray.config import Sweep
from delia_ray.errors import UserError
from delia_ray.sweep.reading import SETTINGS, dimension, read_sweep

RECIPE = "name: mine\nmix: {ratio: 4}\n"


@pytest.fixture
def recipe(tmp_path: Path) -> str:
    path = tmp_path / "mine.yaml"
    path.write_text(RECIPE)
    return str(path)


@pytest.mark.parametrize(
    ("text", "kind", "values"),
    [
        ("mix.ratio=0,32,67", "choice", [0, 32, 67]),
        ("mix.strategy=uniform,farthest_first", "choice", ["uniform", "farthest_first"]),
        ("arms.delia.reworded=true,false", "choice", [True, False]),
        ("finetune.lr=1e-5,1e-3", "choice", [1e-5, 1e-3]),
        ("finetune.lr=log:1e-5:1e-3", "log", [1e-5, 1e-3]),
        ("finetune.steps=integer:10:20", "integer", [10, 20]),
        ("model=s3://bucket/a,s3://bucket/b", "choice", ["s3://bucket/a", "s3://bucket/b"]),
    ],
)
def test_a_dimension_on_the_command_line(text: str, kind: str, values: list) -> None:
    assert dimension(text) == (text.split("=")[0], {kind: values})


@pytest.mark.parametrize(
    "text", ["mix.ratio", "=1", "mix.ratio=", "finetune.lr=log:1", "a=log:x:y"]
)
def test_a_broken_dimension_is_said(text: str) -> None:
    with pytest.raises(UserError, match="--over"):
        dimension(text)


def test_a_recipe_over_choices_is_a_grid_where_it_is_small(recipe: str) -> None:
    sweep = read_sweep([recipe], ["finetune.steps=5"], ["mix.ratio=0,2,4"], None, False)
    assert (sweep.name, sweep.searcher, sweep.trials) == ("mine-sweep", "grid", None)
    assert isinstance(sweep.run, dict)
    assert sweep.run["finetune"] == {"steps": 5}


def test_a_recipe_over_ranges_is_drawn(recipe: str) -> None:
    over = ["mix.ratio=0,2,4", "finetune.lr=log:1e-5:1e-3"]
    sweep = read_sweep([recipe], [], over, None, False)
    assert (sweep.searcher, sweep.trials) == ("random", 24)
    assert read_sweep([recipe], [], over, 6, False).trials == 6


def test_a_mistake_in_the_recipe_is_named_as_in_a_run(recipe: str) -> None:
    with pytest.raises(UserError, match=r"did you mean mix.ratio\?"):
        read_sweep([recipe], ["mix.ratoi=5"], ["finetune.lr=1e-4,1e-3"], None, False)


def test_a_sweep_goes_on_from_its_folder(make_sweep: Callable[..., Sweep]) -> None:
    sweep = make_sweep()
    folder = open_storage(sweep.storage) / sweep.name
    with pytest.raises(UserError, match="no sweep's folder"):
        read_sweep([], [str(folder)], [], None, True)
    folder.write_json(SETTINGS, sweep.model_dump(mode="json"))
    assert read_sweep([], [str(folder)], [], None, True) == sweep
    more = read_sweep([], [str(folder), "confirm.seeds=2"], [], 9, True)
    assert (more.trials, more.confirm.seeds) == (9, 2)
    with pytest.raises(UserError, match="add --resume"):
        read_sweep([], [str(folder)], [], None, False)


def test_nothing_to_sweep_over() -> None:
    with pytest.raises(UserError, match=r"--over mix.ratio"):
        read_sweep([], [], [], None, False)
