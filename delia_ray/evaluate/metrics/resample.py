"""The bootstrap of our own corpus metrics: a percentile interval over resampled rows."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from delia_ray.evaluate.metrics.contract import CorpusScore
from delia_ray.evaluate.statistics import Values, generator

Rows = npt.NDArray[np.int64]
_CHUNK = 4_000_000
"""Numbers held at a time, which bounds the memory (32 MB)."""


def bootstrap_score(
    statistic: Callable[[Rows], Values],
    n: int,
    *,
    name: str,
    resamples: int,
    seed: int,
    confidence: float,
    size: int = 1,
) -> CorpusScore:
    """A suite's value with its interval (Efron and Tibshirani 1993, ch. 13).

    Args:
        statistic: indices of rows, (samples, n) -> a value for each sample, (samples,).
        n: how many rows there are.
        name: of the measure; stands first in the signature and decides, with ``seed`` and
            ``n``, which rows are drawn, whoever answered.
        size: numbers that ``statistic`` holds for a sample beside the indices.

    Raises:
        ValueError: there is nothing to score.
    """
    if n == 0:
        raise ValueError("a corpus metric needs at least one row")
    value = float(statistic(np.arange(n)[None])[0])
    rng = generator(seed, name)
    step = max(1, _CHUNK // max(n, size))
    drawn = np.concatenate(
        [
            statistic(rng.integers(0, n, size=(min(step, resamples - at), n)))
            for at in range(0, resamples, step)
        ]
    )
    low, high = np.quantile(drawn, [(1 - confidence) / 2, (1 + confidence) / 2])
    return CorpusScore(
        value=value,
        low=min(float(low), value),
        high=max(float(high), value),
        signature=f"{name}|confidence:{confidence:g}|bs:{resamples}|seed:{seed}",
    )
