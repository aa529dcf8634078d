"""What the base model makes of each sequence: its loss, and a vector for its prompt."""

import functools
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from delia_ray.causal_models import load_causal
from delia_ray.mix.build import STORE, Job, run_parts
from delia_ray.models import load_tokenizer, locate
from delia_ray.store import Store

SIZE = 64
"""Numbers of a vector: hidden states are projected at random (Johnson-Lindenstrauss)."""
_TOKENS_AT_ONCE = 16_384


def score_all(job: Job, rows: list[int]) -> Iterator[tuple[int, pa.Table]]:
    """(part, table of ``loss`` and ``vector`` of each sequence in it), as they are done.

    Args:
        rows: sequences in each part of the store.
    """
    work = functools.partial(_score, job=job, rows=rows)
    return run_parts(job, work, model=True)


def _score(part: int, job: Job, rows: list[int]) -> pa.Table:
    import torch

    model, projection = _model(job.model, job.special_tokens)
    store, first = Store(job.out, STORE), sum(rows[:part])
    found = store.rows(range(first, first + rows[part]))
    losses = np.zeros(len(found), np.float32)
    vectors = np.zeros((len(found), SIZE), np.float32)
    for own in _batches([len(r["input_ids"]) for r in found]):
        longest = max(len(found[i]["input_ids"]) for i in own)
        ids = np.zeros((len(own), longest), np.int64)
        counts, real = np.zeros(ids.shape, bool), np.zeros(ids.shape, bool)
        for line, i in enumerate(own):
            tokens = found[i]["input_ids"]
            ids[line, : len(tokens)], real[line, : len(tokens)] = tokens, True
            counts[line, : len(tokens)] = found[i]["supervised"]
        put = functools.partial(torch.as_tensor, device=model.device)
        with torch.inference_mode():
            out = model(
                input_ids=put(ids), attention_mask=put(real.astype(np.int64)),
                output_hidden_states=True, use_cache=False,
            )  # fmt: skip
            target = put(np.where(counts, ids, -100))[:, 1:]
            loss = torch.nn.functional.cross_entropy(
                out.logits[:, :-1].float().transpose(1, 2), target, reduction="none"
            ).sum(1) / (target != -100).sum(1).clamp(min=1)
            asked = put(real & ~counts)[..., None]
            mean = (out.hidden_states[-1].float() * asked).sum(1) / asked.sum(1).clamp(min=1)
            losses[own] = loss.cpu().numpy()
            vectors[own] = (mean @ projection).cpu().numpy()
    return pa.table({"loss": losses, "vector": list(vectors)})


def _batches(lengths: list[int]) -> Iterator[list[int]]:
    """Rows of like length, few enough for one forward pass."""
    batch: list[int] = []
    for i in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        if batch and (len(batch) + 1) * lengths[batch[0]] > _TOKENS_AT_ONCE:
            yield batch
            batch = []
        batch.append(i)
    if batch:
        yield batch


@functools.cache
def _model(name: str, special_tokens: tuple[str, ...]) -> tuple[Any, Any]:
    """(the base model, (hidden, SIZE) projection)."""
    import torch

    path = locate(name)
    tokenizer = load_tokenizer(path, special_tokens)
    model: Any = load_causal(path, dtype="auto")
    if len(tokenizer) > model.get_input_embeddings().num_embeddings:
        model.resize_token_embeddings(len(tokenizer))  # a row may hold a new token
    model.to("cuda" if torch.cuda.is_available() else "cpu").eval()
    random: npt.NDArray[Any] = np.random.default_rng(0).normal(
        size=(model.config.get_text_config().hidden_size, SIZE)
    )
    projection = torch.as_tensor(random / np.sqrt(SIZE), dtype=torch.float32, device=model.device)
    return model, projection
