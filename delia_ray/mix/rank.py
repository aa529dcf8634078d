"""Which diverse rows go first, where an arm uses fewer than there are. A ranking holds for
every ratio: a smaller one uses a prefix of it."""

import numpy as np
import numpy.typing as npt

from delia_ray.mix.draws import Ints

Floats = npt.NDArray[np.float32]
BLOCK = 4096
"""Rows among which the farthest is sought; all of them would cost rows squared."""


def farthest_first(vectors: Floats, block: int = BLOCK) -> Ints:
    """Rows so that each is as far as can be from those before it (greedy k-centre; Gonzalez
    1985), by cosine distance.

    Exact within blocks of consecutive rows (the pool's order is random); the blocks take
    turns. Starts with the row nearest to its block's mean.

    Args:
        vectors: (rows, d).
    """
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit = vectors / np.maximum(length, 1e-12)
    ranks = np.empty(len(unit), np.int64)
    for start in range(0, len(unit), block):
        ranks[start : start + block] = _ranks(unit[start : start + block])
    return np.lexsort((np.arange(len(unit)), ranks))


def by_loss(losses: Floats, high: bool) -> Ints:
    """Rows by the base model's loss on their answers, lowest (or highest) first."""
    return np.argsort(-losses if high else losses, kind="stable").astype(np.int64)


def _ranks(unit: Floats) -> Ints:
    """When each row of a block is taken."""
    ranks = np.full(len(unit), -1, np.int64)
    nearest = np.full(len(unit), -np.inf, np.float32)  # similarity to the nearest taken row
    at = int(np.argmax(unit @ unit.mean(0)))
    for turn in range(len(unit)):
        ranks[at] = turn
        nearest = np.maximum(nearest, unit @ unit[at])
        nearest[at] = np.inf
        at = int(np.argmin(nearest))
    return ranks
