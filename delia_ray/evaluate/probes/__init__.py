"""Probes: looks inside a model, as pure functions on a loaded transformers model.

============  ====================================================================
module        what it measures
============  ====================================================================
states        hidden states by layer, the ground of the next two
distance      state after a prompt with a token, and with its description
patching      the next token, with the description's state in the token's place
neighbours    the tokens whose embedding rows are nearest to a token's
gradients     norms and angles of the gradients of groups of rows
loss          teacher-forced loss of answers: what was retained
forgetting    right answers that became wrong, from scores (no model)
============  ====================================================================

Importing the package loads no torch; calling its functions does.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from delia_ray.models import prompts_ids
from delia_ray.records import Message


def probe(
    model: Any,
    tokenizer: Any,
    prompts: Sequence[Sequence[Message]],
    token: str,
    description: str,
    seed: int,
) -> dict[str, Any]:
    """Whether ``token`` has taken the meaning of its ``description``, seen from inside.

    The untrained control is the same call on the model before training, with the token added.

    Args:
        model: a causal language model of transformers; put into evaluation mode.
        tokenizer: its own, with a chat template.
        prompts: chats that end in a user's turn; those without the token are passed over.
        token: as it stands in the prompts, such as ``<sep>``.
        description: what it stands for; may be empty.
        seed: of the random tokens that serve as controls.

    Returns:
        Only what JSON can say:

        - ``token``, ``description``; ``prompts``: how many hold the token;
        - ``distance``: see ``distance.token_distance``. By layer, the embedding's first. At
          the embedding all prompts end in the same token, so the distance is 0 there and CKA
          None;
        - ``patching``: see ``patching.token_patching``;
        - ``neighbours``: ``input`` and, where untied, ``output``: [text, cosine] of the ten
          nearest tokens.

        A part that could not be measured is ``{"skipped": reason}``.
    """
    from delia_ray.evaluate.probes.distance import token_distance
    from delia_ray.evaluate.probes.neighbours import neighbours
    from delia_ray.evaluate.probes.patching import token_patching

    model.eval()
    found: dict[str, Any] = {"token": token, "description": description, "prompts": 0}
    number = tokenizer.get_vocab().get(token)
    if number is None or number >= model.get_input_embeddings().num_embeddings:
        skipped = {"skipped": f"{token} is no token of this model"}
        return {**found, "distance": skipped, "patching": skipped, "neighbours": skipped}
    near = neighbours(model, tokenizer, number)
    found["neighbours"] = {side: [list(pair) for pair in own] for side, own in near.items()}

    ids = [own for own in prompts_ids(tokenizer, prompts) if number in own] if prompts else []
    found["prompts"] = len(ids)
    words = list(tokenizer(description, add_special_tokens=False)["input_ids"])
    if not words or not ids:
        why = f"no prompt holds {token}" if words else f"{token} has no description"
        return {**found, "distance": {"skipped": why}, "patching": {"skipped": why}}
    found["distance"] = token_distance(model, tokenizer, ids, number, words, seed)
    found["patching"] = token_patching(model, tokenizer, ids, number, words, seed)
    return found


def retention(model: Any, tokenizer: Any, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """How well the model still says what it used to: its loss on answers, word by word.

    Meant for held-out rows that the base model answered itself; the difference to the base's
    own loss is what was lost.

    Args:
        model: a causal language model of transformers; put into evaluation mode.
        tokenizer: its own, with a chat template.
        rows: each with ``prompt`` (messages), ``answer`` and, if known, ``source``.

    Returns:
        ``loss``: mean over all supervised tokens, in nats (None without rows); ``rows``: mean
        of each row; ``supervised_tokens``: of each row; ``sources``: source -> ``loss`` (mean
        over its tokens), ``rows`` and ``supervised_tokens`` (counts); ``left_out``: rows that
        are in none of these, since the chat template does not let their answer be told from
        its prompt.
    """
    from delia_ray.evaluate.probes.loss import answer_losses

    model.eval()
    return answer_losses(model, tokenizer, rows)


__all__ = ["probe", "retention"]
