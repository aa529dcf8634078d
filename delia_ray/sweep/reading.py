"""A sweep from its YAML, from a recipe and ``--over``, or from the folder of one begun before."""

from collections.abc import Sequence
from typing import Any

import yaml

from delia_ray import miniature
from delia_ray.artifacts import Folder, open_storage
from delia_ray.config import RunConfig, Sweep, changed, checked, compose
from delia_ray.config.sweep import KINDS
from delia_ray.errors import UserError
from delia_ray.redaction import is_redacted

SETTINGS = "sweep.json"
"""In the sweep's folder: what ``--resume`` goes on with."""
TRIALS = 24
"""Of a sweep that ``--over`` makes, unless told otherwise."""


def read_sweep(
    files: Sequence[str], others: Sequence[str], over: Sequence[str], trials: int | None,
    resume: bool,
) -> Sweep:  # fmt: skip
    """What ``delia sweep`` was told.

    Args:
        files: YAML files.
        others: ``key=value`` overrides; with ``resume``, also the folder of a sweep.
        over: dimensions; with any, ``files`` and overrides are a recipe's.
        trials: instead of the sweep's.
        resume: only go on with a sweep that was begun.

    Raises:
        UserError: something is wrong with it.
    """
    folders = [o for o in others if "=" not in o]
    overrides = [o for o in others if "=" in o]
    if resume and folders:
        if files or len(folders) > 1:
            raise UserError(
                f"--resume takes one folder or the sweep's YAML, got {folders}, {files}"
            )
        tree = begun(open_storage(folders[0])).model_dump(mode="json")
        if is_redacted(tree):
            raise UserError(
                f"{folders[0]}: credentials are not kept with a sweep; go on with `delia sweep "
                "SWEEP.yaml --resume`, by the YAML that has them"
            )
        tree = changed(tree, compose(overrides=overrides))
    elif folders:
        raise UserError(
            f"{folders[0]!r} is neither a YAML file nor an override like trials=24; to go on with "
            "a sweep's folder add --resume"
        )
    elif over:
        tree = of_recipe(files, overrides, over)
    elif files:
        tree = compose(files, overrides)
    else:
        raise UserError(
            "nothing to sweep over: give a SWEEP.yaml (jobs/sweeps has some), or a recipe and "
            "--over, as in: delia sweep RECIPE.yaml --over mix.ratio=0,32,67"
        )
    if trials is not None:
        tree["trials"] = trials
    if isinstance(run := tree.get("run"), str | list):  # the recipe may change, the sweep may not
        tree["run"] = compose([run] if isinstance(run, str) else run)
    settings = checked(Sweep, tree)
    if resume:
        begun(open_storage(settings.storage) / settings.name)
    return settings


def begun(folder: Folder) -> Sweep:
    """The settings of the sweep in ``folder``.

    Raises:
        UserError: there is none.
    """
    if not folder.exists(SETTINGS):
        raise UserError(
            f"{folder} is no sweep's folder: it has no {SETTINGS}; begin one with `delia sweep "
            "SWEEP.yaml`, without --resume"
        )
    return checked(Sweep, folder.read_json(SETTINGS, sealed=True))


def of_recipe(
    files: Sequence[str], overrides: Sequence[str], over: Sequence[str]
) -> dict[str, Any]:
    """The settings of a sweep of a recipe over dimensions."""
    run = compose(files or [miniature.RECIPE], overrides)
    recipe = checked(RunConfig, run)
    dimensions = dict(map(dimension, over))
    ranges = any("choice" not in d for d in dimensions.values())
    combinations = 1
    for one in dimensions.values():
        combinations *= len(one.get("choice", ()))
    grid = not ranges and combinations <= TRIALS
    return {
        "name": f"{recipe.name}-sweep",
        "storage": recipe.storage,
        "run": run,
        "dimensions": dimensions,
        "searcher": "grid" if grid else "random",
        "trials": None if grid else TRIALS,
    }


def dimension(text: str) -> tuple[str, dict[str, Any]]:
    """``mix.ratio=0,32,67`` or ``finetune.lr=log:1e-5:1e-3`` as a dimension of the settings.

    Raises:
        UserError: it is neither.
    """
    name, equals, values = text.partition("=")
    if not name or not equals or not values:
        raise UserError(
            f"--over {text!r}: write KEY=VALUE,VALUE or KEY=log:LOW:HIGH (also "
            f"{', '.join(k for k in KINDS if k not in ('choice', 'log'))})"
        )
    kind, colon, ends = values.partition(":")
    if colon and kind in KINDS and kind != "choice":
        try:
            low, high = (float(e) for e in ends.split(":"))
        except ValueError:
            raise UserError(f"--over {text!r}: write {name}={kind}:LOW:HIGH, two numbers") from None
        if "integer" in kind:
            return name, {kind: [int(low), int(high)]}
        return name, {kind: [low, high]}
    return name, {"choice": [_number(yaml.safe_load(v)) for v in values.split(",")]}


def _number(value: Any) -> Any:
    """YAML 1.1 takes 1e-3 for a text."""
    try:
        return float(value) if isinstance(value, str) else value
    except ValueError:
        return value
