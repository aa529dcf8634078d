"""Documents of one optimizer step to packs of nearly equal length.

The step is the look-ahead window: its rows are what the order says, packing only decides
which of them share a sequence. Every step of an arm has the same number of packs, so every
worker makes the same number of passes, and the packs of a step are balanced, so that hardly
anything is padded. With attention kept within documents and the loss divided by the step's
supervised tokens, the gradient is that of the unpacked rows.
"""

import heapq
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]


def packs_needed(tokens: Ints, limit: int, multiple: int) -> int:
    """Packs for each step so that the fullest of the steps fits, a multiple of ``multiple``.

    Args:
        tokens: (steps,) tokens of each step.
        limit: tokens that a pack should hold at most.
    """
    most = int(tokens.max(initial=1))
    return -(-most // (limit * multiple)) * multiple


def pack(lengths: Sequence[int] | Ints, packs: int) -> Ints:
    """The pack of each document, balanced: longest first, each into the emptiest pack.

    (Graham 1969: the longest pack exceeds the best possible by a third at most, and by much
    less where documents are short beside packs.)
    """
    found = np.zeros(len(lengths), np.int64)
    heap = [(0, number) for number in range(packs)]
    for at in np.argsort(-np.asarray(lengths, np.int64), kind="stable"):
        load, number = heap[0]
        found[at] = number
        heapq.heapreplace(heap, (load + int(lengths[at]), number))
    return found


def loads(lengths: Sequence[int] | Ints, assigned: Ints, packs: int) -> Ints:
    """Tokens of each pack."""
    return np.bincount(assigned, weights=np.asarray(lengths), minlength=packs).astype(np.int64)
