"""The learning rate as a function of the step alone, so a resumed run has no state for it."""

import math

from delia_ray.config import Finetune


def rate(step: int, steps: int, settings: Finetune) -> float:
    """Learning rate of 0-based ``step`` of ``steps``: linear warm-up, then ``schedule``."""
    warm = settings.warmup_steps
    if step < warm:
        return settings.lr * (step + 1) / warm
    done = (step - warm) / max(1, steps - warm)
    if settings.schedule == "linear":
        return settings.lr * (1 - done)
    if settings.schedule == "cosine":
        return settings.lr * (1 + math.cos(math.pi * done)) / 2
    return settings.lr
