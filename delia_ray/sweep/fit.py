"""Score as a function of the parameters, with honest uncertainty, from a few dozen trials.

A Gaussian process (Rasmussen and Williams 2006, ch. 2 and 5) on inputs scaled to [0, 1]: the
ratio as log2(1 + ratio), logarithmic ranges by their logarithm, choices as one input for each
value. The covariance is a constant, a linear part, and a squared exponential with a length for
each input; the noise is what the prompts explain (known for each trial) and what they do not
(seeds, estimated). With so few trials the hyperparameters are far from known, so they are not
fixed: draws from their prior are weighted by how likely they make the scores, and a prediction
is the mixture over them. Beyond the data the linear part and the length decide, and the interval
grows as it should.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from delia_ray.records import digest

Floats = npt.NDArray[np.float64]

DRAWS = 1500
"""Hyperparameters drawn from their prior."""
_JITTER = 1e-8
_NUMBERS = 20_000_000
"""In all covariances together; of very many trials fewer hyperparameters are drawn."""


@dataclass(frozen=True)
class Axis:
    """How one parameter enters: a number on some scale, or a choice."""

    name: str
    scale: str = "linear"
    """linear, log, ratio (log2 of 1 + value) or choice."""
    low: float = 0.0
    high: float = 1.0
    """On the scale, what 0 and 1 stand for."""
    choices: tuple[str, ...] = ()
    default: Any = None
    """Where a trial lacks it: the recipe's own value."""

    def place(self, value: Any) -> list[float]:
        """The inputs of ``value``: one number, or one for each choice."""
        if self.scale == "choice":
            return [0.5 * (digest(value) == c) for c in self.choices]
        width = self.high - self.low
        return [(self._scaled(value) - self.low) / width if width else 0.0]

    def _scaled(self, value: Any) -> float:
        number = float(value)
        if self.scale == "ratio":
            return math.log2(1 + number)
        return math.log(number) if self.scale == "log" else number


def axis(name: str, values: Sequence[Any], default: Any, scale: str = "linear") -> Axis:
    """The axis that holds ``values``; anything that is not a number makes it a choice."""
    everything = [*values, default]
    numbers = all(isinstance(v, int | float) and not isinstance(v, bool) for v in everything)
    if not numbers or scale == "choice":
        return Axis(
            name, "choice", choices=tuple(dict.fromkeys(map(digest, everything))), default=default
        )
    own = Axis(name, scale, default=default)
    placed = [own._scaled(v) for v in everything]
    return Axis(name, scale, min(placed), max(placed), default=default)


def inputs(axes: Sequence[Axis], points: Sequence[Mapping[str, Any]]) -> Floats:
    """(n, d): every axis of every point."""
    rows = [[x for a in axes for x in a.place(p.get(a.name, a.default))] for p in points]
    return np.array(rows, float).reshape(len(points), -1)


@dataclass(frozen=True)
class Prediction:
    """Mixtures of normals, one for each point."""

    means: Floats
    """(draws, n)."""
    deviations: Floats
    """(draws, n)."""
    weights: Floats
    """(draws,), summing to 1."""

    @property
    def mean(self) -> Floats:
        """(n,)."""
        return np.asarray(self.weights @ self.means)

    @property
    def deviation(self) -> Floats:
        """(n,) of the mixture."""
        second = self.weights @ (self.deviations**2 + self.means**2)
        return np.sqrt(np.maximum(second - self.mean**2, 0))

    def quantile(self, p: float) -> Floats:
        """(n,) by bisection of the mixture's distribution."""
        low = (self.means - 9 * self.deviations).min(0)
        high = (self.means + 9 * self.deviations).max(0)
        for _ in range(60):
            at = (low + high) / 2
            below = self.weights @ normal_cdf(
                (at - self.means) / np.maximum(self.deviations, 1e-12)
            )
            low, high = np.where(below < p, at, low), np.where(below < p, high, at)
        return np.asarray((low + high) / 2)

    def interval(self, confidence: float) -> tuple[Floats, Floats]:
        """(n,) lower and upper ends."""
        return self.quantile((1 - confidence) / 2), self.quantile((1 + confidence) / 2)


@dataclass(frozen=True)
class Fit:
    """What was learned from the trials."""

    x: Floats
    """(n, d)."""
    y: Floats
    """(n,) as given."""
    centre: float
    scale: float
    lengths: Floats
    """(draws, d)."""
    signal: Floats
    """(draws,) deviation of the squared exponential, in units of ``scale``."""
    slope: Floats
    """(draws,) deviation of the linear part."""
    noise: Floats
    """(draws,) deviation of what the prompts do not explain."""
    known: Floats
    """(n,) that they do, in units of ``scale``."""
    weights: Floats
    """(draws,)."""
    inverse: Floats
    """(draws, n, n) of the covariance of the trials."""

    @property
    def residual(self) -> float:
        """Deviation between equal trials, from seeds and prompts that are not these."""
        return float(np.sqrt(self.weights @ self.noise**2)) * self.scale

    def predict(self, x: Floats, *, new: bool = False, error: float = 0.0) -> Prediction:
        """At points (m, d): the expected score, or (``new``) that of one more trial there,
        whose prompts give it the standard error ``error``."""
        how = self.lengths, self.signal, self.slope
        cross = covariance(x, self.x, *how)
        own = _CONSTANT**2 + np.outer(self.slope**2, ((x - 0.5) ** 2).sum(1))
        own += self.signal[:, None] ** 2
        half = cross @ self.inverse
        variance = np.maximum(own - (half * cross).sum(-1), 0)
        if new:
            variance = variance + self.noise[:, None] ** 2 + (error / self.scale) ** 2
        target = (self.y - self.centre) / self.scale
        return Prediction(
            half @ target * self.scale + self.centre, np.sqrt(variance) * self.scale, self.weights
        )


_CONSTANT = 1.0


def covariance(a: Floats, b: Floats, lengths: Floats, signal: Floats, slope: Floats) -> Floats:
    """(draws, n, m) of scores in units of their spread, between points (n, d) and (m, d)."""
    apart = np.einsum("nmd,kd->knm", (a[:, None] - b[None]) ** 2, lengths**-2.0)
    linear = (a - 0.5) @ (b - 0.5).T
    bend = signal[:, None, None] ** 2 * np.exp(-0.5 * apart)
    return np.asarray(_CONSTANT**2 + slope[:, None, None] ** 2 * linear + bend)


def fit(
    x: Floats, y: Sequence[float], errors: Sequence[float], *, draws: int = DRAWS, seed: int = 0
) -> Fit:
    """Learn from trials at ``x`` (n, d) with scores ``y``, of which the prompts explain a
    standard error of ``errors``.

    Raises:
        ValueError: fewer than three trials.
    """
    scores = np.asarray(y, float)
    if len(scores) < 3:
        raise ValueError(f"a fit needs three trials or more, got {len(scores)}")
    centre = float(scores.mean())
    scale = float(scores.std()) or 1.0
    target, known = (scores - centre) / scale, np.asarray(errors, float) / scale
    random = np.random.default_rng(seed)
    draws = max(100, min(draws, _NUMBERS // len(scores) ** 2))
    # Lengths around that of the whole range; an input that does not matter gets a long one.
    lengths = np.exp(random.normal(0.0, 1.0, (draws, x.shape[1])))
    signal = np.exp(random.normal(-0.3, 0.7, draws))
    slope = np.exp(random.normal(0.0, 0.7, draws))
    noise = np.exp(random.normal(-1.2, 0.8, draws))
    every = covariance(x, x, lengths, signal, slope)
    rest = noise[:, None] ** 2 + known**2 + _JITTER
    every[:, np.arange(len(x)), np.arange(len(x))] += rest
    _, logdet = np.linalg.slogdet(every)
    fitted = np.linalg.solve(every, np.broadcast_to(target[:, None], (draws, len(x), 1)))[..., 0]
    logs = -0.5 * (fitted @ target) - 0.5 * logdet
    weights = np.exp(logs - logs.max())
    kept = np.flatnonzero(weights > 1e-4)  # of the largest; the others change no digit
    return Fit(
        x, scores, centre, scale, lengths[kept], signal[kept], slope[kept], noise[kept], known,
        weights[kept] / weights[kept].sum(), np.asarray(np.linalg.inv(every[kept]), np.float64),
    )  # fmt: skip


_erf = np.vectorize(math.erf)


def normal_cdf(z: Floats) -> Floats:
    """Of the standard normal distribution."""
    return np.asarray(0.5 * (1 + _erf(z / math.sqrt(2))))
