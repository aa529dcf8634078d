"""Steps as tensors. Step s is the same rows, whatever the number of workers."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from delia_ray.artifacts import Folder
from delia_ray.store import Store

IGNORED = -100


@dataclass(frozen=True)
class Micro:
    """One forward pass of one rank; ``b`` packs padded right to ``t`` tokens.

    There is no attention mask: positions that begin again at 0 say where a document begins,
    and transformers keeps attention within documents by them
    (``transformers.masking_utils.find_packed_sequence_indices``). A padding token is a
    document of its own.
    """

    input_ids: torch.Tensor
    """(b, t) int64."""
    position_ids: torch.Tensor
    """(b, t) int64, from 0 within each document."""
    labels: torch.Tensor
    """(b, t) int64: the token itself where it is supervised, else -100; not shifted."""
    downstream: torch.Tensor
    """(b, t) bool: whether the token is of a downstream row."""


class Steps:
    """The optimizer steps of one arm, read from the mix.

    Args:
        mix: the finished folder of the stage ``mix``.
        arm: whose steps.
        flat: lay the packs of a pass end to end in one row, without padding, as kernels for
            sequences of varying length (FlashAttention) want them.
    """

    def __init__(self, mix: Folder, arm: str, flat: bool = False) -> None:
        self.store, self.steps = Store(mix, "sequences"), Store(mix, f"steps-{arm}")
        table = mix.read_table("sequences.parquet", ["kind", "tokens", "supervised_tokens"])
        self.downstream = table["kind"].to_numpy(zero_copy_only=False) == "downstream"
        self.lengths = table["tokens"].to_numpy()
        self.supervised = table["supervised_tokens"].to_numpy()
        self.flat = flat
        self.packs: int = self.steps.facts["packs"]
        """In each step."""

    def __len__(self) -> int:
        return len(self.steps)

    def sequences(self, step: int) -> npt.NDArray[np.int64]:
        """Positions in the store of all that the step trains on."""
        return self.steps.row(step)["sequence"]

    def supervised_tokens(self, step: int) -> tuple[int, int]:
        """(of downstream rows, of diverse rows) in the whole step. Every rank divides its loss
        by their sum, so that the loss is the mean over the step's tokens however they are
        spread."""
        own = self.sequences(step)
        counted, down = self.supervised[own], self.downstream[own]
        return int(counted[down].sum()), int(counted[~down].sum())

    def passes(self, world: int, size: int) -> int:
        """Forward passes of each rank in a step, with ``size`` packs at most in each."""
        return math.ceil(math.ceil(self.packs / world) / size)

    def micros(self, step: int, rank: int, world: int, size: int) -> list[Micro]:
        """The share of ``rank``.

        Every rank makes the same number of passes, since they meet in a collective operation
        after each step; one without packs of its own repeats a document unsupervised.
        """
        found = self.steps.row(step)
        packs = [found["sequence"][found["pack"] == p] for p in range(self.packs)]
        # By length: packs of one pass, and of one moment on all ranks, need little padding.
        packs = sorted((p for p in packs if len(p)), key=lambda p: -int(self.lengths[p].sum()))
        mine = packs[rank::world]
        blank = [found["sequence"][:1]]
        passes = [mine[i * size : (i + 1) * size] for i in range(self.passes(world, size))]
        return [self._micro(p or blank, counts=bool(p)) for p in passes]

    def _micro(self, packs: list[npt.NDArray[np.int64]], counts: bool) -> Micro:
        if self.flat:
            packs = [np.concatenate(packs)]
        shape = (len(packs), max(int(self.lengths[p].sum()) for p in packs))
        ids, positions = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
        labels, downstream = np.full(shape, IGNORED, np.int64), np.zeros(shape, bool)
        for line, pack in enumerate(packs):
            rows = self.store.rows(pack)
            tokens = np.concatenate([r["input_ids"] for r in rows])
            lengths = [len(r["input_ids"]) for r in rows]
            own = slice(0, len(tokens))
            ids[line, own] = tokens
            positions[line, own] = np.concatenate([np.arange(n) for n in lengths])
            downstream[line, own] = np.repeat(self.downstream[pack], lengths)
            if counts:
                supervised = np.concatenate([r["supervised"] for r in rows])
                labels[line, own] = np.where(supervised, tokens, IGNORED)
        return Micro(
            torch.from_numpy(ids),
            torch.from_numpy(positions),
            torch.from_numpy(labels),
            torch.from_numpy(downstream),
        )


def token_losses(model: Any, micro: Micro) -> tuple[torch.Tensor, torch.Tensor]:
    """(sum of the cross-entropy over downstream tokens, the same over diverse tokens).

    The logits of unsupervised positions are never turned into a loss. The first token of a
    document is never supervised, so no document predicts the next one.
    """
    # Without a cache: transformers looks for packed documents only where there is none.
    logits = model(
        input_ids=micro.input_ids, position_ids=micro.position_ids, use_cache=False
    ).logits
    target = micro.labels[:, 1:]
    counted = target != IGNORED
    losses = torch.nn.functional.cross_entropy(
        logits[:, :-1][counted].float(), target[counted], reduction="none"
    )
    owner = micro.downstream[:, 1:][counted]
    return losses[owner].sum(), losses[~owner].sum()
