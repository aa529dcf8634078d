"""Hidden states after each layer, at chosen tokens of prompts."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from delia_ray.evaluate.probes.batches import batches, padded

Floats = npt.NDArray[np.floating[Any]]


@torch.no_grad()
def states_at(
    model: Any, prompts: Sequence[Sequence[int]], places: Sequence[Sequence[int]]
) -> list[torch.Tensor]:
    """(layers + 1, places, hidden) states of each prompt at its ``places``, fp32 on the CPU.

    State 0 is the embedding's, state l is what block l gives. The last one has been through
    the final norm too, as in transformers' ``output_hidden_states``.

    Args:
        model: a causal language model of transformers, in evaluation mode.
        prompts: token ids of each.
        places: 0-based places of tokens in each prompt.
    """
    found: list[torch.Tensor] = [torch.empty(0)] * len(prompts)
    for own in batches(model, [len(p) for p in prompts]):
        inputs = padded([prompts[i] for i in own], model.device)
        # The decoder alone: nobody asks for logits.
        layers = model.get_decoder()(**inputs, output_hidden_states=True).hidden_states
        for line, i in enumerate(own):
            found[i] = torch.stack([s[line, list(places[i])] for s in layers]).float().cpu()
    return found


def last_states(model: Any, prompts: Sequence[Sequence[int]]) -> Floats:
    """(layers + 1, prompts, hidden) states at the last token of each prompt, see ``states_at``."""
    found = states_at(model, prompts, [[len(p) - 1] for p in prompts])
    return np.asarray(torch.cat(found, 1).numpy())
