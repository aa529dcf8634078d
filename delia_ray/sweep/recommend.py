"""Which ratio to take for a budget, and what to try next, from a fit of the trials."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from delia_ray.sweep.fit import Axis, Fit, Floats, Prediction, inputs, normal_cdf
from delia_ray.sweep.space import Parameters

_POINTS = 41
_WORTH = 0.1
"""A trial that is expected to gain less than this share of the tolerance is not worth it."""


@dataclass(frozen=True)
class Recommended:
    """A ratio, and what it is expected to give."""

    ratio: float
    value: float
    low: float
    high: float
    """Of the expected score."""
    cost: float
    """In the budget's unit."""
    best: float
    """The ratio of the highest expected score that the budget allows."""


def ratios_up_to(largest: float) -> list[float]:
    """Whole ratios, evenly spread in log2(1 + ratio), with both ends."""
    top = math.log2(1 + largest)
    found = [round(2 ** (top * i / (_POINTS - 1)) - 1) for i in range(_POINTS)]
    return sorted({float(r) for r in (*found, largest)})


def along(
    fit: Fit, axes: Sequence[Axis], name: str, ratios: Sequence[float], rest: Mapping[str, Any]
) -> Prediction:
    """The expected score at ``ratios``, all other parameters as in ``rest``."""
    return fit.predict(inputs(axes, [{**rest, name: r} for r in ratios]))


def recommend(
    fit: Fit,
    axes: Sequence[Axis],
    name: str,
    rest: Mapping[str, Any],
    *,
    largest: float,
    cost: Callable[[float], float],
    budget: float | None,
    tolerance: float,
    confidence: float,
) -> Recommended | None:
    """The smallest ratio that is expected to lose no more than ``tolerance`` of the best one that
    the budget allows; None where it allows none.

    Args:
        fit: of the score.
        axes: of its inputs.
        name: of the ratio among them.
        rest: the other parameters.
        largest: ratio that was tried; nothing beyond it is recommended.
        cost: of a ratio, in the budget's unit.
        budget: None for any.
        tolerance: of the score.
        confidence: of the interval.
    """
    ratios = [r for r in ratios_up_to(largest) if budget is None or cost(r) <= budget]
    if not ratios:
        return None
    found = along(fit, axes, name, ratios, rest)
    mean = found.mean
    top = int(np.argmax(mean))
    at = int(np.flatnonzero(mean >= mean[top] - tolerance)[0])
    low, high = found.interval(confidence)
    return Recommended(
        ratios[at], float(mean[at]), float(low[at]), float(high[at]), cost(ratios[at]), ratios[top]
    )


def next_trial(
    fit: Fit, axes: Sequence[Axis], candidates: Sequence[Parameters], tolerance: float
) -> tuple[Parameters, float] | None:
    """The candidate with the largest expected improvement (Mockus 1978) over the best expected
    score among the trials, and that improvement; None where none is worth a trial."""
    if not candidates:
        return None
    best = float(fit.predict(fit.x).mean.max())
    gain = improvement(fit.predict(inputs(axes, candidates)), best)
    at = int(np.argmax(gain))
    return (candidates[at], float(gain[at])) if gain[at] > _WORTH * tolerance else None


def improvement(found: Prediction, best: float) -> Floats:
    """(n,) expected value of max(0, score - best)."""
    deviation = np.maximum(found.deviations, 1e-12)
    z = (found.means - best) / deviation
    density = np.exp(-0.5 * z**2) / math.sqrt(2 * math.pi)
    each = (found.means - best) * normal_cdf(z) + deviation * density
    return np.asarray(found.weights @ each)


def line(answers: Sequence[float], seconds: Sequence[float]) -> tuple[float, float]:
    """(constant, slope) of seconds over answers, the slope not below 0."""
    x, y = np.asarray(answers, float), np.asarray(seconds, float)
    spread = float(((x - x.mean()) ** 2).sum())
    slope = max(0.0, float(((x - x.mean()) * (y - y.mean())).sum()) / spread) if spread else 0.0
    return float(y.mean() - slope * x.mean()), slope
