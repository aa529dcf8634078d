"""The rows of new special tokens in the embedding matrices, and their first values.

The paper's public code re-initialises the embedding's padding rows instead of the token's own,
and trains the whole matrix.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import torch

from delia_ray.errors import UserError
from delia_ray.models import load_tokenizer
from delia_ray.records import digest

PAD_TO = 64  # rows of an embedding that has to grow; a multiple that GPUs like
_AT_ONCE = 64
"""Columns of a matrix that are looked at."""
NOISE = 0.1
"""Of ``description_noise``, in standard deviations of the existing rows."""


def sides(model: Any) -> list[torch.Tensor]:
    """The embedding matrices: one where input and output are tied, else both."""
    inner, head = model.get_input_embeddings().weight, model.get_output_embeddings().weight
    return [inner] if head is inner else [inner, head]


def grow(model: Any, tokenizer: Any) -> None:
    """Give the embedding rows for all tokens, where it has not enough spare ones left.

    Rows that it gains hold the mean of the old ones: the same at every load, and never likely. So
    do those of further tables by token that a family has (Gemma's per-layer embeddings).
    """
    old = model.get_input_embeddings().num_embeddings
    if len(tokenizer) <= old:
        return
    before = {n: m.num_embeddings for n, m in _tables(model).items()}
    model.resize_token_embeddings(len(tokenizer), pad_to_multiple_of=PAD_TO, mean_resizing=False)
    with torch.no_grad():
        for side in sides(model):
            side[old:] = torch.cat([b.mean(0) for b in _columns(side[:old])]).to(side.dtype)
        for name, table in _tables(model).items():
            rows = before.get(name, table.num_embeddings)
            table.weight[rows:] = table.weight[:rows].float().mean(0).to(table.weight.dtype)


def _columns(matrix: torch.Tensor, rows: list[int] | None = None) -> Iterator[torch.Tensor]:
    """``matrix`` (or some of its rows) in fp32, some columns at a time: a whole copy would be
    among the largest things in memory."""
    for begin in range(0, matrix.shape[1], _AT_ONCE):
        part = matrix[:, begin : begin + _AT_ONCE]
        yield (part if rows is None else part[rows]).float()


def _tables(model: Any) -> dict[str, torch.nn.Embedding]:
    return {n: m for n, m in model.named_modules() if isinstance(m, torch.nn.Embedding)}


def token_ids(tokenizer: Any, special_tokens: Mapping[str, str]) -> list[int]:
    """The ids of the declared tokens, in the order of their declaration."""
    return [tokenizer.convert_tokens_to_ids(t) for t in special_tokens]


def initialise_rows(
    model: Any, path: str, tokenizer: Any, special_tokens: Mapping[str, str], how: str, seed: int
) -> None:
    """Give the row of each token that is new to the model in ``path`` its first value.

    ``random``: normal, with the mean and spread that the existing rows have in each
    dimension; ``mean``: their mean; ``description``: the mean over the rows of the tokens
    of its description; ``description_noise``: that, and normal noise of ``NOISE`` times the
    spread, so that tokens with equal descriptions can part. A declared token that the model
    already has keeps its row.

    Raises:
        UserError: a description is asked for and a token has none.
    """
    known = load_tokenizer(path).get_vocab()
    old = sorted(known.values())
    for token in (t for t in special_tokens if t not in known):
        words = tokenizer(special_tokens[token], add_special_tokens=False)["input_ids"]
        described = how.startswith("description")
        if described and not words:
            raise UserError(
                f"finetune.token_init={how}, but downstream.special_tokens gives {token} "
                "no description; describe it there, or choose random or mean"
            )
        draw = torch.Generator().manual_seed(int(digest([seed, token], 12), 16))
        for weight in sides(model):
            with torch.no_grad():
                both = [(part.mean(0), part.std(0)) for part in _columns(weight, old)]
                mean, deviation = (torch.cat(parts) for parts in zip(*both, strict=True))
                value = weight[words].float().mean(0) if described else mean
                if how in ("random", "description_noise"):
                    spread = deviation * (1.0 if how == "random" else NOISE)
                    value = value + spread * torch.randn(len(mean), generator=draw)
                weight[tokenizer.convert_tokens_to_ids(token)] = value.to(weight.dtype)
