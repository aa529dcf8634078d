"""What the next token would be, if a token's state were that of its description.

Activation patching: one run's hidden state replaces another run's at one layer and place, and
what follows is computed from there (Vig et al. 2020, arXiv 2004.12265; Meng et al. 2022, arXiv
2202.05262). A description may have several tokens and the token is one. The state at the
description's *last* token goes into the token's place, since only there has the model read
all of it; the other way, the token's state replaces that of the description's last token, and
the description's earlier tokens stay as they are.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch.nn.functional import kl_div

from delia_ray.evaluate.probes.batches import batches, padded
from delia_ray.evaluate.probes.distance import random_tokens
from delia_ray.evaluate.probes.states import states_at
from delia_ray.models import described


class Patch(NamedTuple):
    """States to put into one prompt."""

    places: Sequence[int]
    """0-based places of tokens."""
    states: torch.Tensor
    """(places, hidden)."""


@torch.no_grad()
def log_probs(
    model: Any,
    prompts: Sequence[Sequence[int]],
    layer: int = 0,
    patches: Sequence[Patch] | None = None,
) -> torch.Tensor:
    """(prompts, vocabulary) log-probabilities of the token after each prompt, fp32 on the CPU.

    Args:
        model: a causal language model of transformers, in evaluation mode.
        prompts: token ids of each.
        layer: whose states are replaced, from 0: state l is what goes into block l, as
            ``states.states_at`` counts. After the last block there is nothing to patch: no
            other token would read it.
        patches: one for each prompt; None leaves all as it is.
    """
    found: list[torch.Tensor] = [torch.empty(0)] * len(prompts)
    for own in batches(model, [len(p) for p in prompts]):
        with _replacing(model, layer, [patches[i] for i in own] if patches else []):
            logits = model(**padded([prompts[i] for i in own], model.device)).logits
        for line, i in enumerate(own):
            found[i] = logits[line, len(prompts[i]) - 1].float().log_softmax(-1).cpu()
    return torch.stack(found)


def divergence(true: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """(prompts,) Kullback-Leibler divergence KL(true || other) in nats of (prompts, vocabulary)
    log-probabilities."""
    return kl_div(other, true, reduction="none", log_target=True).sum(-1).clamp(min=0)


def token_patching(
    model: Any,
    tokenizer: Any,
    prompts: Sequence[Sequence[int]],
    token: int,
    words: Sequence[int],
    seed: int,
) -> dict[str, Any]:
    """How the description's state in the token's place changes the next token, and the reverse.

    All figures are KL(description || ...) in nats: how far the next token's distribution is
    from that after the prompts with the description.

    Args:
        prompts: token ids, each with ``token`` in it; every occurrence is patched.
        token: id.
        words: ids of its description.

    Returns:
        Means over prompts: ``token`` (the prompts with the token, unpatched) and ``random``
        (with a random token, unpatched); by layer (``layers`` of them): ``token_patched`` (the
        token's prompts with the description's state), ``description_patched`` (the
        description's prompts with the token's state) and its control ``description_random``
        (with the random token's state: 0 where nothing reads that place). ``rows``: ``token``
        of each prompt, for intervals.
    """
    [other] = random_tokens(tokenizer, [token, *words], 1, seed)
    with_token = [list(p) for p in prompts]
    with_words = [described(p, {token: words}) for p in prompts]
    with_other = [described(p, {token: [other]}) for p in prompts]
    at = [[i for i, own in enumerate(p) if own == token] for p in prompts]
    # Every description before has moved its place by all but one of its tokens.
    at_words = [[i + (k + 1) * (len(words) - 1) for k, i in enumerate(own)] for own in at]
    of_token, of_other = states_at(model, with_token, at), states_at(model, with_other, at)
    of_words = states_at(model, with_words, at_words)

    true = log_probs(model, with_words)
    rows = divergence(true, log_probs(model, with_token))

    def patched(
        into: Sequence[Sequence[int]], places: list[list[int]], states: list[torch.Tensor]
    ) -> list[float]:
        found = []
        for layer in range(len(blocks(model))):
            patches = [Patch(p, s[layer]) for p, s in zip(places, states, strict=True)]
            after = log_probs(model, into, layer, patches)
            found.append(float(divergence(true, after).mean()))
        return found

    return {
        "layers": len(blocks(model)),
        "token": float(rows.mean()),
        "random": float(divergence(true, log_probs(model, with_other)).mean()),
        "token_patched": patched(with_token, at, of_words),
        "description_patched": patched(with_words, at_words, of_token),
        "description_random": patched(with_words, at_words, of_other),
        "rows": {"token": rows.tolist()},
    }


def blocks(model: Any) -> Sequence[Any]:
    """The model's blocks in order, whatever its family calls the list.

    Raises:
        NotImplementedError: no list of modules is as long as the model is deep.
    """
    depth = model.config.get_text_config().num_hidden_layers
    for module in model.get_decoder().modules():
        if isinstance(module, torch.nn.ModuleList) and len(module) == depth:
            return list(module)
    raise NotImplementedError(f"{type(model).__name__} keeps its {depth} blocks in no list")


@contextmanager
def _replacing(model: Any, layer: int, patches: Sequence[Patch]) -> Iterator[None]:
    """The states that go into block ``layer`` are replaced, line by line."""
    if not patches:
        yield
        return

    def replace(module: Any, args: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        states = args[0].clone()
        for line, patch in enumerate(patches):
            states[line, list(patch.places)] = patch.states.to(states)
        return (states, *args[1:])

    hook = blocks(model)[layer].register_forward_pre_hook(replace)
    try:
        yield
    finally:
        hook.remove()
