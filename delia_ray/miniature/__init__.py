"""The embedded default: a synthetic instruction world and the tiny chat model that knows it.

The world is small enough that its exact right answers can be computed, so the effect of a
training method shows as exact match instead of as an impression. The model in `MODEL_PATH` was
trained from scratch on it (`python -m delia_ray.miniature.build`) and ships with the package, so
everything runs without a download. This module imports nothing heavier than PyYAML.
"""

import functools
from pathlib import Path
from typing import Any

import yaml

from delia_ray.miniature.parts import PARTS, REWORDABLE, rewordings, rows
from delia_ray.miniature.world import REWORD_PROMPT

MODEL_PATH: Path = Path(__file__).parent / "model"
"""The shipped chat model: weights, tokenizer, chat template and card, in the hub's layout."""

RECIPE: Path = Path(__file__).parent / "miniature.yaml"
"""The whole method on this world: what ``delia run`` without a recipe does."""


@functools.cache
def world_settings() -> dict[str, Any]:
    """What ``RECIPE`` says of downstream rows, corpus and suites; not to be changed in place."""
    recipe = yaml.safe_load(RECIPE.read_text())
    return {key: recipe[key] for key in ("downstream", "corpus", "evaluate")}


__all__ = [
    "MODEL_PATH",
    "PARTS",
    "RECIPE",
    "REWORDABLE",
    "REWORD_PROMPT",
    "rewordings",
    "rows",
    "world_settings",
]
