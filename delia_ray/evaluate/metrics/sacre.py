"""What BLEU, chrF and TER share: sacrebleu's scorers and its own bootstrap."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from delia_ray.evaluate.metrics.contract import CorpusScore


def corpus_score(
    metric: Any,
    outputs: Sequence[str],
    references: Sequence[str],
    resamples: int,
    seed: int,
    most: float = 100.0,
) -> CorpusScore:
    """Score of a sacrebleu ``metric`` with the interval of its own bootstrap.

    The interval is sacrebleu's: 95 %, the mean of the resamples plus and minus half the
    distance of their 2.5th and 97.5th percentiles, cut off at 0 and ``most``. The signature
    names resamples and seed.

    Raises:
        ValueError: there is nothing to score.
    """
    if not outputs:
        raise ValueError("a corpus metric needs at least one row")
    from sacrebleu.significance import PairedTest

    # The same bootstrap as ``corpus_score(..., n_bootstrap=...)``, which fails as soon as one
    # resample scores exactly zero and another does not (its mean takes no mixed float types).
    with _seeded(seed):
        test = PairedTest(
            [("system", list(outputs))], {"metric": metric}, [list(references)], "bs", resamples
        )
    signatures, scores = test()
    [name] = signatures
    result: Any = scores[name][0]
    value, mean, half = (float(x) for x in (result.score, result.mean, result.ci))
    return CorpusScore(
        value=value,
        low=max(0.0, min(value, mean - half)),
        high=min(most, max(value, mean + half)),
        signature=str(signatures[name]),
    )


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """sacrebleu takes its bootstrap seed from the environment only."""
    before = os.environ.get("SACREBLEU_SEED")
    os.environ["SACREBLEU_SEED"] = str(seed)
    try:
        yield
    finally:
        if before is None:
            del os.environ["SACREBLEU_SEED"]
        else:
            os.environ["SACREBLEU_SEED"] = before
