"""What the workers of a training need to know. A module of its own, so that the driver and Ray
Train's controller, which only pass it on, import no model code."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from delia_ray.artifacts import Folder
from delia_ray.config import RunConfig

if TYPE_CHECKING:
    from delia_ray.finetune.footprint import Footprint
    from delia_ray.finetune.layout import Layout


@dataclass(frozen=True)
class Job:
    """All of it plain data or URLs."""

    config: RunConfig
    mix: Folder
    """The stage's folder."""
    out: Folder
    """Where the arms go."""
    layout: "Layout | None" = None
    """How documents are computed; None: looked for where the model is loaded."""
    footprint: "Footprint | None" = None
    """What a step takes; None: counted where it is needed."""
