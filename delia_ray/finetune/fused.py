"""Parts of a model with frozen weights, each as one step of the graph, for CPUs.

Written as a dozen small operations, as transformers and PEFT do, a layer with an adapter and a
norm spend more time on moving their intermediate results than on what they compute, and keep
them until the backward pass.
"""

from typing import Any

import torch
from peft.tuners.lora import Linear
from torch.nn.functional import linear
from transformers.models.llama.modeling_llama import LlamaRMSNorm

from delia_ray.finetune.dropout import Dropout, draw, masked


def fuse(model: torch.nn.Module) -> tuple[int, int]:
    """Let the layers of ``model`` with a plain LoRA adapter, and its norms that are written like
    Llama's, compute as one step each; how many of both.

    Not for ZeRO-3, which gathers the weights of a module when that module is called.
    """
    layers = norms = 0
    for module in model.modules():
        if type(module) is Linear and type(module.base_layer) is torch.nn.Linear:
            module.__class__, layers = FusedLinear, layers + 1
        elif _like_llama(module):
            module.__class__, norms = FusedNorm, norms + 1
    return layers, norms


class FusedLinear(Linear):  # type: ignore[misc]
    """A frozen linear layer with one LoRA adapter: the adapter's output is added to the layer's
    in the product, and its dropout's mask is all that is kept of its input."""

    def forward(self, x: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        """As PEFT's, (..., in) to (..., out)."""
        base, names = self.get_base_layer(), self.active_adapters
        if args or kwargs or self.disable_adapters or self.merged or len(names) != 1:
            return self._apart(x, *args, **kwargs)
        name = names[0]
        if name not in self.lora_A or name in self.lora_variant:
            return self._apart(x)
        a, b = self.lora_A[name].weight, self.lora_B[name].weight
        frozen = not (base.weight.requires_grad or self.lora_B[name].bias is not None)
        one_kind = {x.dtype, base.weight.dtype, b.dtype} == {a.dtype}
        if x.device.type != "cpu" or not frozen or not one_kind:
            return self._apart(x)
        drop, scale, mask = self.lora_dropout[name], self.scaling[name], None
        if self.training and isinstance(drop, Dropout) and drop.p > 0:
            mask, scale = draw(x, drop.p), scale / (1 - drop.p)
        elif self.training and not isinstance(drop, (Dropout, torch.nn.Identity)):
            return self._apart(x)
        found: torch.Tensor = _Lora.apply(  # type: ignore[no-untyped-call]
            x, base.weight, base.bias, a, b, mask, scale
        )
        return found

    def _apart(self, x: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        found: torch.Tensor = super().forward(x, *args, **kwargs)
        return found


class _Lora(torch.autograd.Function):
    """x W' + bias + scale (mask x) A' B', of (..., in), (out, in), (out,), (r, in), (out, r)."""

    @staticmethod
    def forward(
        ctx: Any, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None,
        a: torch.Tensor, b: torch.Tensor, mask: torch.Tensor | None, scale: float,
    ) -> torch.Tensor:  # fmt: skip
        low = linear(x if mask is None else masked(x, mask), a).flatten(0, -2)
        found = linear(x, weight, bias)
        found.view(-1, len(weight)).addmm_(low, b.t(), alpha=scale)
        ctx.save_for_backward(x, weight, a, b, mask, low)
        ctx.scale = scale
        return found

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> Any:
        x, weight, a, b, mask, low = ctx.saved_tensors
        above = gradients[0].flatten(0, -2)
        of_low = (above @ b).mul_(ctx.scale)
        seen = x if mask is None else masked(x, mask)
        of_a, of_b = of_low.t() @ seen.flatten(0, -2), (above.t() @ low).mul_(ctx.scale)
        if not ctx.needs_input_grad[0]:
            return None, None, None, of_a, of_b, None, None
        if mask is None:
            of_x = (above @ weight).addmm_(of_low, a)
        else:
            of_x = (above @ weight).add_(masked((of_low @ a).view(x.shape), mask).flatten(0, -2))
        return of_x.view(x.shape), None, None, of_a, of_b, None, None


class FusedNorm(LlamaRMSNorm):  # type: ignore[misc]
    """A root-mean-square norm of 16-bit states with a frozen weight: computed in fp32 as Llama's
    is, of which nothing but a number for each token is kept."""

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """(..., d) to (..., d)."""
        x = hidden_states
        wide = x.element_size() != 2 or self.weight.dtype != x.dtype
        if x.device.type != "cpu" or wide or self.weight.requires_grad:
            whole: torch.Tensor = super().forward(x)
            return whole
        found: torch.Tensor = _Norm.apply(  # type: ignore[no-untyped-call]
            x, self.weight, self.variance_epsilon
        )
        return found


class _Norm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, weight: torch.Tensor, epsilon: float) -> torch.Tensor:
        length = torch.linalg.vector_norm(x, dim=-1, keepdim=True, dtype=torch.float32)
        inverse = length.square_().div_(x.shape[-1]).add_(epsilon).rsqrt_()
        ctx.save_for_backward(x, weight, inverse)
        found: torch.Tensor = (x * inverse).to(x.dtype).mul_(weight)
        return found

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> Any:
        x, weight, inverse = ctx.saved_tensors
        above = (gradients[0] * weight) * inverse
        along = (above * x).mean(-1, keepdim=True) * inverse.square()
        return above.sub_(x * along).to(x.dtype), None, None


def _like_llama(module: torch.nn.Module) -> bool:
    """Whether ``module`` computes what Llama's norm does: many families have a copy of its code
    under a name of their own."""
    own, known = (getattr(t.forward, "__code__", None) for t in (type(module), LlamaRMSNorm))
    return own is not None and all(
        getattr(own, part) == getattr(known, part) for part in ("co_code", "co_names", "co_consts")
    )
