"""The learning rate as a function of the step alone, so a resumed run has no state for it."""

import math

from delia_ray.config import Finetune


def rate(step: int, steps: int, settings: Finetune) -> float:
    """Learning rate of 0-based ``step`` of ``steps``: linear warm-up, then ``schedule``, of the
    peak that holds at the step."""
    warm, peak = settings.warmup_steps, peak_rate(step, settings)
    if step < warm:
        return peak * (step + 1) / warm
    done = (step - warm) / max(1, steps - warm)
    if settings.schedule == "linear":
        return peak * (1 - done)
    if settings.schedule == "cosine":
        return peak * (1 + math.cos(math.pi * done)) / 2
    return peak


def peak_rate(step: int, settings: Finetune) -> float:
    """``lr``, or that of the last of ``phases`` that has begun."""
    begun = [p.lr for p in settings.phases if p.from_step <= step]
    return begun[-1] if begun else settings.lr
