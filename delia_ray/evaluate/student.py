"""Student's t distribution, which numpy has no quantiles of.

The tail is a regularised incomplete beta function (DLMF 8.17.22, https://dlmf.nist.gov/8.17,
a continued fraction); the quantile is found from it by Newton's method.
"""

import math
from statistics import NormalDist

_NORMAL = 1e7
"""Degrees of freedom above which t and normal agree to about seven digits."""


def upper_tail(t: float, df: float) -> float:
    """P(T > t) for ``df`` > 0 degrees of freedom, not necessarily whole."""
    if t < 0:
        return 1 - upper_tail(-t, df)
    if math.isinf(t):
        return 0.0
    if df > _NORMAL:
        return NormalDist().cdf(-t)
    # 1 - x is given beside x: near t = 0 the subtraction would lose every digit.
    square = t * t
    return 0.5 * _beta(df / 2, 0.5, df / (df + square), square / (df + square))


def quantile(p: float, df: float) -> float:
    """The t that the share ``p`` of the distribution lies below.

    Raises:
        ValueError: ``p`` is not inside (0, 1) or ``df`` is not positive.
    """
    if not 0 < p < 1 or not df > 0:
        raise ValueError(f"a quantile needs 0 < p < 1 and df > 0, got p={p}, df={df}")
    if p < 0.5:
        return -quantile(1 - p, df)
    # The normal quantile is never above t's in the upper half, and the tail is convex there,
    # so Newton's steps grow towards the root and cannot pass it.
    t = NormalDist().inv_cdf(p)
    for _ in range(200):
        step = (upper_tail(t, df) - (1 - p)) / _density(t, df)
        t += step
        if abs(step) <= 1e-10 * max(1.0, t):
            break
    return t


def _density(t: float, df: float) -> float:
    scale = math.lgamma((df + 1) / 2) - math.lgamma(df / 2) - 0.5 * math.log(df * math.pi)
    return math.exp(scale - (df + 1) / 2 * math.log1p(t * t / df))


def _beta(a: float, b: float, x: float, rest: float) -> float:
    """The regularised incomplete beta function I_x(a, b), with ``rest`` = 1 - x."""
    if x <= 0 or rest <= 0:
        return 0.0 if x <= 0 else 1.0
    if x > (a + 1) / (a + b + 2):  # where the other end's fraction converges quickly
        return 1 - _beta(b, a, rest, x)
    front = math.exp(
        math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log(rest)
    )
    return front * _fraction(a, b, x) / a


def _fraction(a: float, b: float, x: float) -> float:
    """1 / (1 + d_1 / (1 + d_2 / (1 + ...))), from its far end."""
    below = 1.0
    # DLMF: some square roots of the larger parameter are enough.
    for m in range(20 + int(1.5 * math.sqrt(a + b)), 0, -1):
        odd = -(a + m - 1) * (a + b + m - 1) * x / ((a + 2 * m - 2) * (a + 2 * m - 1))
        even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        below = 1 + odd / (1 + even / below)
    return 1 / below
