"""SFTMix: interpolate between examples that the model is sure of and ones that it is not.

(Xiao et al. 2024, arXiv 2410.05248.) The paper sorts the examples once, by how a reference
model's confidence went over a training of its own. Here they are sorted in each pass, by the
loss that the model itself has on them at that moment, so that no second training is needed.
"""

from collections.abc import Callable

import torch

ALPHA = 0.5
"""Of the Beta distribution that the weights are drawn from."""
WEIGHT = 0.2
"""Of the regularisation beside the loss."""


def mixup(
    states: torch.Tensor,
    target: torch.Tensor,
    losses: torch.Tensor,
    documents: torch.Tensor,
    losses_of: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
) -> torch.Tensor:
    """The weighted sum of the interpolated tokens' losses; zero for fewer than two documents.

    The surest document is paired with the least sure, and so on; the k-th supervised tokens
    of the two are interpolated, as far as the shorter one goes.

    Args:
        states: (n, d) last hidden states of the supervised tokens.
        target: (n,) their next tokens.
        losses: (n,) the loss of each, detached.
        documents: (n,) ascending; the document of each.
        losses_of: (states, target) to losses.
    """
    _, number, counts = torch.unique_consecutive(documents, return_inverse=True, return_counts=True)
    if len(counts) < 2:
        return states.sum() * 0.0  # the same graph on all ranks
    means = torch.zeros(len(counts), device=losses.device).index_add(0, number, losses.float())
    order = (means / counts).argsort()
    starts = counts.cumsum(0) - counts
    sure: list[torch.Tensor] = []
    unsure: list[torch.Tensor] = []
    weight: list[torch.Tensor] = []
    for one, other in zip(order, order.flip(0), strict=True):
        if len(sure) == len(counts) // 2:
            break
        along = torch.arange(int(torch.minimum(counts[one], counts[other])), device=states.device)
        share = torch.distributions.Beta(ALPHA, ALPHA).sample()
        sure.append(starts[one] + along)
        unsure.append(starts[other] + along)
        weight.append(share.expand(len(along)))
    first, second = torch.cat(sure), torch.cat(unsure)
    share = torch.cat(weight).to(states.device)
    mixed = share[:, None].to(states.dtype) * states[first]
    mixed = mixed + (1 - share)[:, None].to(states.dtype) * states[second]
    own = share * losses_of(mixed, target[first]) + (1 - share) * losses_of(mixed, target[second])
    return WEIGHT * own.sum()
