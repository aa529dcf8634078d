"""How far the state after a prompt with a token is from that after its description.

A distance alone says little: all states of a model may be near one another. So it stands
beside that of random tokens in the token's place, and beside the untrained model's (the same
functions on that model).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from delia_ray.evaluate.probes.neighbours import text_of
from delia_ray.evaluate.probes.states import Floats, last_states
from delia_ray.models import described


@dataclass(frozen=True)
class Distance:
    """Between two sets of states, layer by layer."""

    l2: Floats
    """(layers + 1, prompts)."""
    cosine: Floats
    """(layers + 1, prompts): 1 - cosine similarity; 0 to 2."""
    cka: list[float | None]
    """(layers + 1,) similarity, 0 to 1; None where the states do not differ between prompts."""


def distances(one: Floats, other: Floats) -> Distance:
    """Distances of states (layers + 1, prompts, hidden) of the same prompts in both."""
    a, b = one.astype(np.float64), other.astype(np.float64)
    scale = np.linalg.norm(a, axis=-1) * np.linalg.norm(b, axis=-1)
    similarity = (a * b).sum(-1) / np.maximum(scale, np.finfo(np.float64).tiny)
    cka = [linear_cka(x, y) for x, y in zip(a, b, strict=True)]
    return Distance(np.linalg.norm(a - b, axis=-1), 1 - np.clip(similarity, -1, 1), cka)


def linear_cka(one: Floats, other: Floats) -> float | None:
    """Linear centred kernel alignment (Kornblith et al. 2019, arXiv 1905.00414, section 3).

    1 for states that are equal up to a rotation, a shift and one scale; 0 for states without
    any linear relation. Few prompts beside many dimensions raise it, so it means something
    only beside a control with as many prompts.

    Args:
        one, other: (prompts, hidden) each; the hidden sizes may differ.

    Returns:
        None where either is the same for every prompt: then it is not defined.
    """
    grams = []
    for states in (one.astype(np.float64), other.astype(np.float64)):
        centred = states - states.mean(0)
        # Relative, since subtracting the mean of equal states leaves their rounding.
        if np.linalg.norm(centred) <= 1e-6 * np.linalg.norm(states):
            return None
        grams.append(centred @ centred.T)
    norms = np.linalg.norm(grams[0]) * np.linalg.norm(grams[1])
    return float(min(1.0, (grams[0] * grams[1]).sum() / norms))


def random_tokens(tokenizer: Any, avoid: Sequence[int], count: int, seed: int) -> list[int]:
    """``count`` different ordinary tokens of the vocabulary, none of ``avoid``."""
    added = set(tokenizer.get_added_vocab().values()) | set(tokenizer.all_special_ids)
    ordinary = sorted(set(tokenizer.get_vocab().values()) - added - set(avoid))
    drawn = np.random.default_rng(seed).choice(len(ordinary), min(count, len(ordinary)), False)
    return [ordinary[int(i)] for i in drawn]


def token_distance(
    model: Any,
    tokenizer: Any,
    prompts: Sequence[Sequence[int]],
    token: int,
    words: Sequence[int],
    seed: int,
    draws: int = 8,
) -> dict[str, Any]:
    """The token's distance to its description, and that of random tokens.

    Args:
        model: in evaluation mode.
        prompts: token ids, each with ``token`` in it.
        token: id.
        words: ids of its description.
        draws: random tokens; each stands in all prompts, as the token does.

    Returns:
        ``l2``, ``cosine`` and ``cka``: each layer's, as means over prompts (see ``Distance``);
        ``last``: ``l2`` and ``cosine`` of each prompt at the last layer, for intervals;
        ``random``: ``l2``, ``cosine`` and ``cka`` as means over the draws, and ``draws``: the
        ``token`` of each, with its own ``l2``, ``cosine`` and ``cka`` at the last layer.
    """
    meant = last_states(model, [described(p, {token: words}) for p in prompts])
    own = distances(last_states(model, prompts), meant)
    others = random_tokens(tokenizer, [token, *words], draws, seed)
    drawn = [
        distances(last_states(model, [described(p, {token: [o]}) for p in prompts]), meant)
        for o in others
    ]
    return {
        **_means([own]),
        "last": {"l2": own.l2[-1].tolist(), "cosine": own.cosine[-1].tolist()},
        "random": {
            **_means(drawn),
            "draws": [
                {
                    "token": text_of(tokenizer, other),
                    "l2": float(found.l2[-1].mean()),
                    "cosine": float(found.cosine[-1].mean()),
                    "cka": found.cka[-1],
                }
                for other, found in zip(others, drawn, strict=True)
            ],
        },
    }


def _means(found: Sequence[Distance]) -> dict[str, list[Any]]:
    """Each layer's mean over prompts and over ``found``."""
    by_layer = zip(*(f.cka for f in found), strict=True)
    cka = [[c for c in layer if c is not None] for layer in by_layer]
    return {
        "l2": np.mean([f.l2.mean(1) for f in found], 0).tolist(),
        "cosine": np.mean([f.cosine.mean(1) for f in found], 0).tolist(),
        "cka": [math.fsum(layer) / len(layer) if layer else None for layer in cka],
    }
