"""Steps as tensors. Step s is the same rows, whatever the number of workers."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from delia_ray.artifacts import Folder
from delia_ray.packing import pack
from delia_ray.store import Store
from delia_ray.stored import Damaged, reading

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
    borders: torch.Tensor | None = None
    """(documents + 1,) int32: where each document begins, and the end; of one flat row only."""

    def to(self, device: Any) -> "Micro":
        """The same on ``device``."""
        tensors = {k: v.to(device) for k, v in vars(self).items() if v is not None}
        return Micro(**tensors)


class Steps:
    """The optimizer steps of one arm, read from the mix.

    Args:
        mix: the finished folder of the stage ``mix``.
        arm: whose steps.
        flat: lay the packs of a pass end to end in one row, without padding, as kernels for
            sequences of varying length (FlashAttention) want them.
        whole: every token counts in the loss but the first of a document, not only the
            answers' (loss over instructions).
    """

    def __init__(self, mix: Folder, arm: str, flat: bool = False, whole: bool = False) -> None:
        self.store, self.steps = Store(mix, "sequences"), Store(mix, f"steps-{arm}")
        table = mix.read_table("sequences.parquet", ["kind", "tokens", "supervised_tokens"])
        self.downstream = table["kind"].to_numpy(zero_copy_only=False) == "downstream"
        self.lengths = table["tokens"].to_numpy()
        self.supervised = self.lengths - 1 if whole else table["supervised_tokens"].to_numpy()
        self.flat, self.whole = flat, whole
        self.packs: int = self.steps.facts.get("packs", 0)
        """In each step."""
        if type(self.packs) is not int or not 1 <= self.packs <= 2**20:
            raise Damaged(f"{mix}/steps-{arm}.json", f"packs={str(self.packs)[:50]}")
        if len(self.lengths) != len(self.store):
            raise Damaged(f"{mix}/sequences.parquet", "it has other rows than the store")

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

    def longest(self, most: int) -> int:
        """Tokens of the longest pack in ``most`` steps, evenly over all of them."""
        found = 0
        for step in np.unique(np.linspace(0, len(self) - 1, min(most, len(self)), dtype=np.int64)):
            own = self.steps.row(int(step))
            with reading(f"{self.steps.folder}: step {step}"):
                loads = np.bincount(own["pack"], weights=self.lengths[own["sequence"]])
            found = max(found, int(loads.max(initial=1)))
        return found

    def passes(self, world: int, size: int) -> int:
        """Forward passes of each rank in a step, with ``size`` packs at most in each."""
        return math.ceil(math.ceil(self.packs / world) / size)

    def micros(self, step: int, rank: int, world: int, size: int) -> list[Micro]:
        """The share of ``rank``.

        Every rank makes the same number of passes, since they meet in a collective operation
        after each step; one without packs of its own repeats a document unsupervised. The mix
        was packed for some number of ranks; for another the step's rows are packed again.
        """
        with reading(f"{self.steps.folder}: step {step}"):
            return self._micros(step, rank, world, size)

    def _micros(self, step: int, rank: int, world: int, size: int) -> list[Micro]:
        found = self.steps.row(step)
        rows, assigned, packs_here = found["sequence"], found["pack"], self.packs
        if packs_here % world:
            packs_here += world - packs_here % world
            assigned = pack(self.lengths[rows], packs_here)
        packs = [rows[assigned == p] for p in range(packs_here)]
        # By length: packs of one pass, and of one moment on all ranks, need little padding.
        packs = sorted((p for p in packs if len(p)), key=lambda p: -int(self.lengths[p].sum()))
        mine = packs[rank::world]
        passes = [mine[i * size : (i + 1) * size] for i in range(self.passes(world, size))]
        return [self.micro(p) if p else self.micro([rows[:1]], counts=False) for p in passes]

    def micro(self, packs: list[npt.NDArray[np.int64]], counts: bool = True) -> Micro:
        """``packs`` (positions in the store of each one's sequences) as tensors."""
        if self.flat:
            packs = [np.concatenate(packs)]
        shape = (len(packs), max(int(self.lengths[p].sum()) for p in packs))
        ids, positions = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
        labels, downstream = np.full(shape, IGNORED, np.int64), np.zeros(shape, bool)
        borders = None
        for line, own in enumerate(packs):
            rows = self.store.rows(own)
            tokens = np.concatenate([r["input_ids"] for r in rows])
            lengths = [len(r["input_ids"]) for r in rows]
            place = slice(0, len(tokens))
            ids[line, place] = tokens
            positions[line, place] = np.concatenate([np.arange(n) for n in lengths])
            downstream[line, place] = np.repeat(self.downstream[own], lengths)
            if counts and self.whole:
                labels[line, place] = np.where(positions[line, place] > 0, tokens, IGNORED)
            elif counts:
                supervised = np.concatenate([r["supervised"] for r in rows])
                labels[line, place] = np.where(supervised, tokens, IGNORED)
            if self.flat:
                borders = torch.from_numpy(np.cumsum([0, *lengths], dtype=np.int32))
        tensors = [torch.from_numpy(a) for a in (ids, positions, labels, downstream)]
        return Micro(tensors[0], tensors[1], tensors[2], tensors[3], borders)
