"""Dropout of the adapters' input, fast on a CPU.

PyTorch draws a CPU's mask one number at a time, which takes a tenth of the step of a small model.
Here 64 random bits make the masks of four values.
"""

from typing import Any

import torch

_BITS = 16
"""Random bits for each value; ``p`` is met to half of 2^-16."""


class Dropout(torch.nn.Module):
    """What ``torch.nn.Dropout`` is, drawn from the same generator; on a GPU it is that.

    Args:
        p: share of the values that become zero; the others are divided by 1 - p.
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        """``values``, of any shape, in training with zeros."""
        if not self.training or self.p == 0:
            return values
        if values.device.type != "cpu":
            return torch.nn.functional.dropout(values, self.p)
        kept, scale = _kept(values, self.p), 1 / (1 - self.p)
        found: torch.Tensor = _Masked.apply(values, kept, scale)  # type: ignore[no-untyped-call]
        return found

    def extra_repr(self) -> str:
        """As PyTorch prints its own."""
        return f"p={self.p}"


def _kept(values: torch.Tensor, p: float) -> torch.Tensor:
    """Of the shape of ``values``: whether each is kept."""
    per_word = 64 // _BITS
    words = torch.empty(-(-values.numel() // per_word), dtype=torch.int64)
    words.random_(-(2**63), None)  # all 64 bits
    drawn = words.view(torch.int16)[: values.numel()]
    least = round(p * 2**_BITS) - 2 ** (_BITS - 1)
    kept: torch.Tensor = drawn >= least
    return kept.view(values.shape)


class _Masked(torch.autograd.Function):
    """Values or zero, and gradients likewise; holds the mask alone (a byte for each value)."""

    @staticmethod
    def forward(ctx: Any, values: torch.Tensor, kept: torch.Tensor, scale: float) -> torch.Tensor:
        ctx.save_for_backward(kept)
        ctx.scale = scale
        found: torch.Tensor = torch.ops.aten.native_dropout_backward(values, kept, scale)
        return found

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> Any:
        (kept,) = ctx.saved_tensors
        own = torch.ops.aten.native_dropout_backward(gradients[0], kept, ctx.scale)
        return own, None, None


def quicken(model: torch.nn.Module) -> int:
    """Put ``Dropout`` in the place of PyTorch's in the adapters of ``model`` (PEFT's
    ``lora_dropout``), of any family; the number of places."""
    places = 0
    for module in model.modules():
        own = getattr(module, "lora_dropout", None)
        if not isinstance(own, torch.nn.ModuleDict):
            continue
        for name, part in own.items():
            if type(part) is torch.nn.Dropout:
                own[name] = Dropout(part.p)
                places += 1
    return places
