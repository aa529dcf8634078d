"""Cross-entropy after a head that is not trained, without keeping logits or computing them twice.

The loss of a token depends on its own state alone. So its gradient to that state is known as soon
as its logits are, and only this, as long as a state, is kept for the backward pass, which
multiplies it by what the loss of the token counts. Logits exist for a few tokens at a time. (The
idea is that of Liger Kernel, arXiv 2410.10989.)
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch.nn.functional import linear

from delia_ray.finetune.token_layers import TokenRows


@dataclass(frozen=True)
class FrozenHead:
    """A linear head of which nothing but the rows of some tokens is trained."""

    weight: torch.Tensor
    """(V, d)."""
    bias: torch.Tensor | None
    rows: torch.Tensor | None
    """(k, d), as they also stand in ``weight`` at ``index``; None where none is trained."""
    index: torch.Tensor | None

    def losses(self, states: torch.Tensor, target: torch.Tensor, at_once: int) -> torch.Tensor:
        """(n,) cross-entropy of ``target`` (n,) after ``states`` (n, d), in fp32.

        Args:
            at_once: logits that may be held.
        """
        found: torch.Tensor = _Losses.apply(  # type: ignore[no-untyped-call]
            states, target, self.weight, self.bias, self.rows, self.index, at_once
        )
        return found


def frozen_head(head: Any) -> FrozenHead | None:
    """Of a model's output embedding; None where it is anything else."""
    rows = index = None
    tokens = getattr(head, "token_adapter", None)
    if type(tokens) is TokenRows:
        if (own := tokens.in_place(tokens.active_adapters)) is None:
            return None
        head, (rows, index) = tokens.base_layer, own
    plain = type(head) is torch.nn.Linear and not (head._forward_hooks or head._forward_pre_hooks)
    if not plain or any(p.requires_grad or hasattr(p, "ds_id") for p in head.parameters()):
        return None
    return FrozenHead(head.weight, head.bias, rows, index)


class _Losses(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        states: torch.Tensor,
        target: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor | None,
        rows: torch.Tensor | None,
        index: torch.Tensor | None,
        at_once: int,
    ) -> torch.Tensor:
        losses = torch.empty(len(states), dtype=torch.float32, device=states.device)
        to_states = torch.empty_like(states)
        few = None if index is None else losses.new_empty(len(states), len(index))
        step = max(1, at_once // len(weight))
        for begin in range(0, len(states), step):
            place = slice(begin, begin + step)
            own, wanted = states[place], target[place, None]
            logits = linear(own, weight, bias).float()
            highest = logits.amax(1, keepdim=True)
            losses[place] = -(logits.gather(1, wanted) - highest)[:, 0]
            shares = logits.sub_(highest).exp_()
            total = shares.sum(1, keepdim=True)
            losses[place] += total.log()[:, 0]
            shares.div_(total).scatter_add_(1, wanted, -torch.ones_like(total))
            to_states[place] = shares.to(weight.dtype) @ weight
            if few is not None and index is not None:
                few[place] = shares[:, index]
        ctx.save_for_backward(states if few is not None else None, to_states, few)
        ctx.dtype = None if rows is None else rows.dtype
        return losses

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> Any:
        states, to_states, few = ctx.saved_tensors
        counted = gradients[0][:, None]
        of_states = (to_states.float() * counted).to(to_states.dtype)
        of_rows = None
        if few is not None:
            of_rows = ((few * counted).T @ states.float()).to(ctx.dtype)
        return of_states, None, None, None, of_rows, None, None
