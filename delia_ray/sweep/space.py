"""From a sweep's settings to configurations; pure, no Ray.

A trial's values are a flat mapping from dotted settings to values. Those of a dimension whose
``when`` does not hold are dropped, so two trials that differ in nothing that counts are equal.
"""

import itertools
import math
import random
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import ValidationError

from delia_ray.config import RunConfig
from delia_ray.errors import UserError
from delia_ray.sweep.settings import Dimension, Sweep

Values = dict[str, Any]
ARM = "delia"
"""The arm that trials train; a dimension may name its settings, ``arms.delia.reworded``."""
_POOL = ("model", "seed", "downstream.", "corpus", "synthesize.")
"""Settings that a pool of synthesised rows depends on, beside how many are needed."""
_SIZE = ("mix.ratio", "mix.mosaic", f"arms.{ARM}.ratio")


def active(sweep: Sweep, values: Mapping[str, Any]) -> Values:
    """Without the values of dimensions that do not count beside the others."""
    return {
        path: value
        for path, value in values.items()
        if all(values[other] in wanted for other, wanted in sweep.over[path].when.items())
    }


def config_of(sweep: Sweep, values: Mapping[str, Any]) -> RunConfig:
    """The run of a trial: the recipe, with one arm and these values.

    Raises:
        UserError: the recipe or a value does not fit.
    """
    tree = _with(_recipe(sweep), active(sweep, values))
    try:
        return RunConfig.model_validate(tree)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        shown = ", ".join(f"{k}={v}" for k, v in values.items())
        raise UserError(f"sweep: with {shown}: {where}: {first['msg']}") from None


def pool_of(sweep: Sweep, values: Mapping[str, Any]) -> RunConfig:
    """The run whose synthesis serves this trial and every other that needs the same rows: with
    the largest prefix that any trial can need.

    Raises:
        UserError: as ``config_of``, or the pool would be another one for every trial.
    """
    own = {path: v for path, v in active(sweep, values).items() if path.startswith(_POOL)}
    if drawn := [path for path in own if not sweep.over[path].choice]:
        raise UserError(
            f"sweep: every trial would need a synthesis of its own, since over.{drawn[0]} is a "
            "range and rows depend on it; give a `choice` of few values"
        )
    biggest = {path: largest(sweep.over[path]) for path in _SIZE if path in sweep.over}
    return config_of(sweep, {**dict.fromkeys(sweep.over), **values, **own, **biggest})


def largest(dimension: Dimension) -> Any:
    return max(dimension.choice) if dimension.choice else dimension.high


def pools(sweep: Sweep) -> list[RunConfig]:
    """Every pool that a trial may need, each once."""
    paths = [path for path in sweep.over if path.startswith(_POOL)]
    first = {path: d.choice[0] if d.choice else d.low for path, d in sweep.over.items()}
    found = []
    for chosen in itertools.product(*(sweep.over[path].choice or [None] for path in paths)):
        values = {**first, **{p: c for p, c in zip(paths, chosen, strict=True) if c is not None}}
        pool = pool_of(sweep, values)
        if pool not in found:
            found.append(pool)
    return found


def grid(sweep: Sweep) -> Iterator[Values]:
    """All combinations of all choices, those that differ in nothing once."""
    seen = []
    for chosen in itertools.product(*(d.choice for d in sweep.over.values())):
        values = dict(zip(sweep.over, chosen, strict=True))
        if (counts := active(sweep, values)) not in seen:
            seen.append(counts)
            yield values


def draw(sweep: Sweep, number: int, seed: int) -> Values:
    """The values of the ``number``-th random trial: a pure function of its arguments."""
    rng = random.Random(f"{seed}/{number}")
    return {path: _draw(dimension, rng) for path, dimension in sweep.over.items()}


def _draw(dimension: Dimension, rng: random.Random) -> Any:
    if dimension.choice:
        return rng.choice(dimension.choice)
    assert dimension.low is not None
    assert dimension.high is not None
    if dimension.log:
        value = math.exp(rng.uniform(math.log(dimension.low), math.log(dimension.high)))
    else:
        value = rng.uniform(dimension.low, dimension.high)
    return round(value) if dimension.integer else value


def _recipe(sweep: Sweep) -> dict[str, Any]:
    arm = sweep.recipe.get("arms", {}).get(ARM, {})
    return {
        **sweep.recipe,
        "name": sweep.name,
        "storage": sweep.storage,
        "arms": {ARM: {} if isinstance(arm, str) else arm},
    }


def _with(tree: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    found = dict(tree)
    for path, value in values.items():
        if value is None:
            continue
        head, _, rest = path.partition(".")
        if rest:
            below = found.get(head)
            found[head] = _with(below if isinstance(below, Mapping) else {}, {rest: value})
        else:
            found[head] = value
    return found
