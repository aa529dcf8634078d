"""Dropout of the adapters' input, fast on a CPU.

PyTorch draws a CPU's mask one number at a time, and applies it with conversions; together that
takes a fifth of the step of a small model. Here 64 random bits make the masks of four values, and
a mask has all bits of a value, so that it is applied as one.
"""

from typing import Any

import numpy as np
import torch

_BITS = 16
"""Random bits for each value; ``p`` is met to 2^-16."""
_INTEGERS = {2: torch.int16, 4: torch.int32, 8: torch.int64}
"""By bytes of a value."""


class Dropout(torch.nn.Module):
    """What ``torch.nn.Dropout`` is, by the seed of the same generator; on a GPU it is that.

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
        mask, scale = draw(values, self.p), 1 / (1 - self.p)
        found: torch.Tensor = _Masked.apply(values, mask, scale)  # type: ignore[no-untyped-call]
        return found

    def extra_repr(self) -> str:
        """As PyTorch prints its own."""
        return f"p={self.p}"


@torch.compiler.disable  # type: ignore[untyped-decorator]
def draw(values: torch.Tensor, p: float) -> torch.Tensor:
    """A mask for ``values``: integers of their shape and size, all bits set where a value is
    kept, none where it is not."""
    words = -(-values.numel() * _BITS // 64)
    # torch draws a seed; numpy draws the bits, in half the time.
    generator = np.random.SFC64(int(torch.randint(2**62, ())))
    drawn = torch.from_numpy(generator.random_raw(words).view(np.int16))[: values.numel()]
    least = max(round(p * 2**_BITS) - 2 ** (_BITS - 1), 1 - 2 ** (_BITS - 1))
    # A comparison would be a conversion to bytes and back, which is slow.
    mask = drawn.clamp_(least - 1, least).neg_().add_(least - 1)
    return mask.to(_INTEGERS[values.element_size()]).view(values.shape)


def masked(values: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """A copy of ``values`` with zeros where ``mask`` of ``draw`` keeps none."""
    return (values.view(mask.dtype) & mask).view(values.dtype)


class _Masked(torch.autograd.Function):
    """Values or zero, and gradients likewise; holds the mask alone."""

    @staticmethod
    def forward(ctx: Any, values: torch.Tensor, mask: torch.Tensor, scale: float) -> torch.Tensor:
        ctx.save_for_backward(mask)
        ctx.scale = scale
        return masked(values, mask).mul_(scale)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> Any:
        (mask,) = ctx.saved_tensors
        return masked(gradients[0], mask).mul_(ctx.scale), None, None


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
