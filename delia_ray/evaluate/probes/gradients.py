"""Gradients of groups of rows, compared: how diverse rows buffer the downstream gradient."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from delia_ray.evaluate.probes.batches import Row, batches
from delia_ray.evaluate.probes.loss import summed_losses, supervised

Gradient = dict[str, torch.Tensor]
"""Parameter name -> gradient, fp32."""


def attention_projections(name: str) -> bool:
    """Whether a parameter is of the attention's q, k, v or o projections, which DELIA adapts."""
    return any(f".{part}_proj." in name for part in "qkvo")


def gradient(
    model: Any, rows: Sequence[Row], wanted: Callable[[str], bool] = attention_projections
) -> Gradient:
    """The gradient of the mean loss over the supervised tokens of ``rows``.

    Nothing of the model is changed: not ``.grad``, nor what is trainable, nor its mode.

    Args:
        model: a causal language model of transformers; dropout is off meanwhile.
        wanted: says by its name whether a parameter takes part.

    Raises:
        ValueError: no parameter is wanted, or no token is supervised.
    """
    parameters = dict(model.named_parameters())
    names = [n for n in parameters if wanted(n)]
    total = sum(map(supervised, rows))
    if not names or not total:
        lacks = "supervised token" if names else f"wanted parameter among {list(parameters)[:5]}..."
        raise ValueError(f"no {lacks} to take a gradient of")
    chosen = [parameters[n] for n in names]
    found = [torch.zeros_like(p, dtype=torch.float32) for p in chosen]
    trainable = {n: p.requires_grad for n, p in parameters.items()}
    was_training = model.training
    try:
        model.eval()
        for name, parameter in parameters.items():
            parameter.requires_grad_(wanted(name))
        with torch.enable_grad():
            for own in batches(model, [len(r.ids) for r in rows]):
                loss = summed_losses(model, [rows[i] for i in own]).sum() / total
                parts = torch.autograd.grad(loss, chosen, allow_unused=True)
                for whole, part in zip(found, parts, strict=True):
                    if part is not None:
                        whole += part
    finally:
        model.train(was_training)
        for name, parameter in parameters.items():
            parameter.requires_grad_(trainable[name])
    return dict(zip(names, found, strict=True))


def compare(gradients: Mapping[str, Gradient]) -> dict[str, Any]:
    """Lengths of the groups' gradients and the angles between them.

    Returns:
        ``norm``: group -> L2 norm; ``cosine``: group -> other group -> cosine;
        ``projection``: group -> other group -> length of the group's gradient along the
        other's, negative where they are opposed. Cosine and projection are None where a
        gradient they need is zero.
    """
    norm = {group: _dot(own, own) ** 0.5 for group, own in gradients.items()}
    cosine: dict[str, dict[str, float | None]] = {group: {} for group in gradients}
    projection: dict[str, dict[str, float | None]] = {group: {} for group in gradients}
    for group, own in gradients.items():
        for other, theirs in gradients.items():
            if group == other:
                continue
            dot = _dot(own, theirs)
            along = dot / norm[other] if norm[other] else None
            projection[group][other] = along
            both = norm[group] * norm[other]
            cosine[group][other] = max(-1.0, min(1.0, dot / both)) if both else None
    return {"norm": norm, "cosine": cosine, "projection": projection}


def gradient_angles(
    model: Any,
    groups: Mapping[str, Sequence[Row]],
    wanted: Callable[[str], bool] = attention_projections,
) -> dict[str, Any]:
    """``compare`` for the gradients of ``groups``, such as ``downstream`` and ``diverse``.

    All of their gradients are held at once, each as large as the wanted parameters in fp32.
    """
    return compare({group: gradient(model, rows, wanted) for group, rows in groups.items()})


def _dot(one: Gradient, other: Gradient) -> float:
    # Over parameters in fp64: there may be billions of numbers.
    return sum(float((one[n] * other[n]).sum(dtype=torch.float64)) for n in one)
