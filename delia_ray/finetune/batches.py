"""Steps as tensors. Step s is a range of positions, whatever the number of workers."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch

IGNORED = -100


@dataclass(frozen=True)
class Micro:
    """One forward pass of one rank; ``b`` rows padded right to ``t`` tokens."""

    input_ids: torch.Tensor
    """(b, t) int64."""
    attention_mask: torch.Tensor
    """(b, t) int64, 1 for real tokens."""
    labels: torch.Tensor
    """(b, t) int64: the token itself where it is supervised, else -100; not shifted."""
    downstream: torch.Tensor
    """(b,) bool."""


class Steps:
    """The sequences in the order of one arm, cut into optimizer steps.

    Args:
        sequences: table of ``records.SEQUENCE``.
        order: sequence number at each position; steps x batch_size long.
        batch_size: rows of a step, over all ranks.
    """

    def __init__(self, sequences: pa.Table, order: npt.NDArray[np.int64], batch_size: int) -> None:
        self.ids = sequences["input_ids"].combine_chunks()
        self.masks = sequences["supervised"].combine_chunks()
        self.downstream = np.array([k == "downstream" for k in sequences["kind"].to_pylist()])
        self.lengths = np.array([len(x) for x in self.ids], dtype=np.int64)
        self.supervised = np.array([sum(x) for x in self.masks.to_pylist()], dtype=np.int64)
        self.order, self.batch_size = order, batch_size

    def __len__(self) -> int:
        return len(self.order) // self.batch_size

    def rows(self, step: int) -> npt.NDArray[np.int64]:
        """Sequence numbers of all rows of the step."""
        return self.order[step * self.batch_size : (step + 1) * self.batch_size]

    def supervised_tokens(self, step: int) -> int:
        """Of the whole step: what every rank divides its loss by, so that the loss is the
        mean over the step's tokens however they are spread."""
        return int(self.supervised[self.rows(step)].sum())

    def micros(self, step: int, rank: int, world: int, size: int) -> list[Micro]:
        """The share of ``rank``, in forward passes of at most ``size`` rows.

        Every rank makes the same number of passes, since they meet in a collective
        operation after each step; one without rows of its own repeats its first row
        unsupervised.
        """
        rows = self.rows(step)
        # Sorted by length before dealing out: ranks get equal work and passes little padding.
        rows = rows[np.argsort(self.lengths[rows], kind="stable")]
        passes = math.ceil(math.ceil(len(rows) / world) / size)
        mine = rows[rank::world]
        shares = np.array_split(mine, passes)
        return [self._micro(s, rows) for s in shares]

    def _micro(self, rows: npt.NDArray[np.int64], fallback: npt.NDArray[np.int64]) -> Micro:
        blank = not len(rows)
        rows = fallback[:1] if blank else rows
        shape = (len(rows), int(self.lengths[rows].max()))
        ids, labels = np.zeros(shape, np.int64), np.full(shape, IGNORED, np.int64)
        mask = np.zeros(shape, np.int64)
        for at, row in enumerate(rows):
            tokens = self.ids[int(row)].values.to_numpy()
            counted = self.masks[int(row)].values.to_numpy(zero_copy_only=False)
            ids[at, : len(tokens)] = tokens
            mask[at, : len(tokens)] = 1
            if not blank:
                labels[at, : len(tokens)] = np.where(counted, tokens, IGNORED)
        return Micro(
            torch.from_numpy(ids),
            torch.from_numpy(mask),
            torch.from_numpy(labels),
            torch.from_numpy(self.downstream[rows]),
        )


def token_losses(model: Any, micro: Micro) -> tuple[torch.Tensor, torch.Tensor]:
    """(sum of the cross-entropy over downstream tokens, the same over diverse tokens).

    The logits of unsupervised positions are never turned into a loss.
    """
    logits = model(input_ids=micro.input_ids, attention_mask=micro.attention_mask).logits
    target = micro.labels[:, 1:]
    counted = target != IGNORED
    losses = torch.nn.functional.cross_entropy(
        logits[:, :-1][counted].float(), target[counted], reduction="none"
    )
    owner = micro.downstream[:, None].expand_as(target)[counted]
    return losses[owner].sum(), losses[~owner].sum()
