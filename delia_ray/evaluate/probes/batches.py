"""Rows of tokens, and how they go through a model: like lengths together, padded right.

In a causal model nothing that stands right of a token reaches it, so padding on that side
changes no state and no loss, and positions need not be told.
"""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch

from delia_ray import scoring

_TOKENS = 4096
"""In one pass at most."""
_LOGITS = 2**28
"""In one pass at most; 1 GiB in fp32."""


class Row(NamedTuple):
    """A chat with its answer, as tokens."""

    ids: Sequence[int]
    supervised: Sequence[bool]
    """Same length: whether the token counts in the loss. The first never does."""


def batches(model: Any, lengths: Sequence[int]) -> Iterator[list[int]]:
    """Numbers of rows for one pass each, the longest first; every row is in one of them."""
    limit = min(_TOKENS, _LOGITS // int(model.config.get_text_config().vocab_size))
    return scoring.batches(list(lengths), limit)


def padded(rows: Sequence[Sequence[int]], device: Any) -> dict[str, Any]:
    """Arguments for the model: (rows, longest) ``input_ids`` and ``attention_mask``."""
    ids = np.zeros((len(rows), max(map(len, rows))), np.int64)
    mask = np.zeros_like(ids)
    for line, row in enumerate(rows):
        ids[line, : len(row)], mask[line, : len(row)] = row, 1
    return {
        "input_ids": torch.from_numpy(ids).to(device),
        "attention_mask": torch.from_numpy(mask).to(device),
        "use_cache": False,
    }
