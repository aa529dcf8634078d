"""Trained rows of tokens without copies of the embedding matrix.

PEFT puts the trained rows into a copy of the matrix in every forward pass, on the input and on the
output side, and lets the backward pass compute the gradient of all of it, of which the rows' is
taken. Of a vocabulary of 150,000 tokens that is most of a gigabyte and a third of the head's work.
Here the rows are written into the frozen matrix itself, and theirs are the only gradients.
"""

from typing import Any

import torch
from peft.tuners.trainable_tokens import TrainableTokensLayer
from torch.nn.functional import embedding, linear


class TokenRows(TrainableTokensLayer):  # type: ignore[misc]
    """Computes what its parent computes; the rows are kept, saved and loaded as there."""

    written: str | None = None
    """The adapter whose rows stand in the matrix; None for the original ones."""

    def forward_adapters(
        self, x: torch.Tensor, active_adapters: Any, *args: Any, **kwargs: Any
    ) -> torch.Tensor:
        """As the parent does, and by the parent where the matrix is not simply there: with no
        adapter or several, merged, spread by ZeRO-3, or while it is compiled."""
        base, own = self.base_layer, self.in_place(active_adapters)
        if own is None:
            if self.written is not None:
                self._write(self.trainable_tokens_original[self.written])
                self.written = None
            found: torch.Tensor = super().forward_adapters(x, active_adapters, *args, **kwargs)
            return found
        rows, index = own
        if isinstance(base, torch.nn.Linear):
            said: torch.Tensor = _Head.apply(x, base.weight, base.bias, rows, index)  # type: ignore[no-untyped-call]
            return said
        looked_up: torch.Tensor = _LookUp.apply(x, base.weight, rows, index)  # type: ignore[no-untyped-call]
        scale = self._get_embed_scale()
        return looked_up if scale is None else looked_up * scale.to(looked_up.dtype)

    def in_place(self, active_adapters: Any) -> tuple[torch.Tensor, torch.Tensor] | None:
        """(the trained rows, (k,) where they now stand in the matrix); None where the parent has
        to compute."""
        base, names = self.base_layer, list(active_adapters or [])
        known = isinstance(base, torch.nn.Embedding | torch.nn.Linear)
        if not known or self.disable_adapters or self.merged or len(names) != 1:
            return None
        if hasattr(base.weight, "ds_id") or torch.compiler.is_compiling():
            return None
        self.written = names[0]
        rows: torch.Tensor = self.trainable_tokens_delta[self.written]
        return rows, self._write(rows)

    @torch.no_grad()
    def _write(self, rows: torch.Tensor) -> torch.Tensor:
        """Put ``rows`` into the matrix; their places in it. Nothing that looks on is told: what an
        earlier pass keeps of the matrix is the same matrix, and rows change between steps only."""
        weight = self.base_layer.weight.data
        index = torch.tensor(self.token_indices[self.written], device=weight.device)
        values = rows.to(weight)
        if not torch.equal(weight[index], values):
            weight[index] = values
        return index


class _LookUp(torch.autograd.Function):
    """``ids`` to rows of ``weight``; a gradient for ``rows``, which stand in it at ``index``."""

    @staticmethod
    def forward(
        ctx: Any, ids: torch.Tensor, weight: torch.Tensor, rows: torch.Tensor, index: torch.Tensor
    ) -> torch.Tensor:
        ctx.save_for_backward(ids, index)
        ctx.dtype = rows.dtype
        return embedding(ids, weight)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> Any:
        ids, index = ctx.saved_tensors
        (own,) = gradients
        there = ids.reshape(-1, 1) == index
        seen = there.any(1)  # few are: only they are read
        summed = there[seen].T.float() @ own.reshape(-1, own.shape[-1])[seen].float()
        return None, None, summed.to(ctx.dtype), None


class _Head(torch.autograd.Function):
    """(…, d) states to (…, V) logits; gradients for the states and for ``rows``."""

    @staticmethod
    def forward(
        ctx: Any,
        states: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor | None,
        rows: torch.Tensor,
        index: torch.Tensor,
    ) -> torch.Tensor:
        ctx.save_for_backward(states, weight, index)
        ctx.dtype = rows.dtype
        return linear(states, weight, bias)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> Any:
        states, weight, index = ctx.saved_tensors
        (own,) = gradients
        of_states = own @ weight if ctx.needs_input_grad[0] else None
        few = own[..., index].reshape(-1, len(index))
        of_rows = few.T.float() @ states.reshape(-1, states.shape[-1]).float()
        return of_states, None, None, of_rows.to(ctx.dtype), None


def lighten(model: Any) -> int:
    """Let every layer of trained rows in ``model`` compute without copies; how many there are."""
    found = [m for m in model.modules() if type(m) is TrainableTokensLayer]
    for layer in found:
        layer.__class__ = TokenRows
    return len(found)
