"""The tokens whose rows in the embedding are nearest to a token's own."""

from typing import Any

import torch

Neighbours = list[tuple[str, float]]
"""(text of a token, cosine similarity to it), the nearest first."""


@torch.no_grad()
def neighbours(model: Any, tokenizer: Any, token: int, count: int = 10) -> dict[str, Neighbours]:
    """The ``count`` nearest tokens by cosine, on each side of the model.

    Returns:
        ``input``, and ``output`` where the output embedding is a matrix of its own. Rows that
        stand for no token of the vocabulary are left out.
    """
    inner, head = model.get_input_embeddings().weight, model.get_output_embeddings().weight
    sides = {"input": inner} if head is inner else {"input": inner, "output": head}
    known = sorted(set(tokenizer.get_vocab().values()) - {token})
    found = {}
    for side, weight in sides.items():
        rows = weight[known].float()
        similar = torch.nn.functional.cosine_similarity(rows, weight[token].float()[None])
        best = similar.topk(min(count, len(known)))
        found[side] = [
            (text_of(tokenizer, known[at]), value)
            for at, value in zip(best.indices.tolist(), best.values.tolist(), strict=True)
        ]
    return found


def text_of(tokenizer: Any, token: int) -> str:
    """The token as text; its name in the vocabulary where it is a part of a character."""
    text: str = tokenizer.decode([token])
    return tokenizer.convert_ids_to_tokens(token) if "\ufffd" in text or not text else text
