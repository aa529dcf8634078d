"""What can be seen while a model trains, on the same rows all the time.

The distance of a new token's meaning to its description (the paper's state-space curve), and
the angle between the gradients of downstream and of diverse rows (its buffering effect).
"""

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.distributed as dist

from delia_ray.finetune.batches import Micro, Steps
from delia_ray.finetune.objective import Objective, run
from delia_ray.models import described

Ids = npt.NDArray[np.int64]


class Watch:
    """Looks at the objective on some rows of the mix.

    Args:
        steps: whose store the rows are taken from: the first ones of either kind.
        tokens: id of each declared token, and the ids of its description.
        rows: downstream rows, diverse rows, and prompts to look at.
    """

    def __init__(self, steps: Steps, tokens: dict[int, list[int]], rows: int) -> None:
        rank, world = dist.get_rank(), dist.get_world_size()
        down, other = (np.flatnonzero(steps.downstream == kind)[:rows] for kind in (True, False))
        # The same rows for every arm, also for one that trains on no diverse rows.
        self.sides = [_share(steps, own, rank, world) for own in (down, other) if len(own)]
        # A token without a description has nothing to be near to.
        tokens = {token: words for token, words in tokens.items() if words}
        prompts: list[tuple[Ids, Ids]] = []
        for position in np.flatnonzero(steps.downstream) if tokens else ():
            row = steps.store.row(int(position))
            ids = row["input_ids"][: int(row["supervised"].argmax())].astype(np.int64)
            if np.isin(ids, list(tokens)).any():
                prompts.append((ids, np.array(described(ids, tokens), np.int64)))
            if len(prompts) == rows:
                break
        own = [ids for pair in prompts for ids in pair]
        self.prompts = _beside(own, steps.flat) if own else None

    def look(self, objective: Objective, device: Any) -> dict[str, float | None]:
        """``token_distance``, ``gradient_cosine`` and the two gradients' norms; None where
        there is nothing to look at. Every rank must call it."""
        was_training = objective.training
        objective.eval()
        try:
            return {**self._distance(objective, device), **self._angle(objective, device)}
        finally:
            objective.train(was_training)

    @torch.no_grad()
    def _distance(self, objective: Objective, device: Any) -> dict[str, float | None]:
        """Mean L2 distance of the last hidden state after a prompt with the token to that
        after the prompt with its description instead."""
        if self.prompts is None:
            return {"token_distance": None}
        micro, (lines, ends) = self.prompts[0].to(device), self.prompts[1]
        states = objective.states(micro.input_ids, micro.position_ids, micro.borders)
        last = states[lines, ends].float()
        return {"token_distance": float((last[0::2] - last[1::2]).norm(dim=-1).mean())}

    def _angle(self, objective: Objective, device: Any) -> dict[str, float | None]:
        names = ("gradient_cosine", "gradient_norm_downstream", "gradient_norm_diverse")
        if len(self.sides) < 2:
            return dict.fromkeys(names)
        trained = [p for p in objective.parameters() if p.requires_grad]
        found = []
        for micro, count in self.sides:
            # Past the accumulators, in which the engine would take it for the step's own.
            loss = run(objective, micro.to(device))[:2].sum() / count
            parts = torch.autograd.grad(loss, trained, allow_unused=True)
            flat = torch.cat([g.float().flatten() for g in parts if g is not None])
            dist.all_reduce(flat)
            found.append(flat)
        cosine = torch.nn.functional.cosine_similarity(found[0], found[1], dim=0)
        values = (cosine, found[0].norm(), found[1].norm())
        return {name: float(value) for name, value in zip(names, values, strict=True)}


def _share(steps: Steps, rows: Ids, rank: int, world: int) -> tuple[Micro, int]:
    """(this rank's part of ``rows`` in one pass, supervised tokens of all of them)."""
    mine = rows[rank::world]
    packs = [mine] if steps.flat else [row[None] for row in mine]
    micro = steps.micro(packs) if len(mine) else steps.micro([rows[:1]], counts=False)
    return micro, int(steps.supervised[rows].sum())


def _beside(documents: list[Ids], flat: bool) -> tuple[Micro, tuple[list[int], list[int]]]:
    """(documents as a pass, line and place of the last token of each)."""
    lengths = [len(d) for d in documents]
    if flat:
        ids = np.concatenate(documents)[None]
        positions = np.concatenate([np.arange(n) for n in lengths])[None]
        ends = np.cumsum(lengths)
        borders = torch.from_numpy(np.append(0, ends).astype(np.int32))
        places = ([0] * len(ends), (ends - 1).tolist())
    else:
        ids, positions = (np.zeros((len(lengths), max(lengths)), np.int64) for _ in range(2))
        for line, document in enumerate(documents):
            ids[line, : len(document)] = document
            positions[line, : len(document)] = np.arange(len(document))
        borders, places = None, (list(range(len(lengths))), [n - 1 for n in lengths])
    none = torch.zeros(ids.shape, dtype=torch.bool)
    micro = Micro(torch.from_numpy(ids), torch.from_numpy(positions), none.long(), none, borders)
    return micro, places
