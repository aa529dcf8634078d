"""Teacher-forced loss of answers, by row and by source."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import torch
from torch.nn.functional import cross_entropy

from delia_ray.chats import encode as chats
from delia_ray.chats.texts import Refused
from delia_ray.evaluate.probes.batches import Row, batches, padded


def encode(
    tokenizer: Any, rows: Sequence[Mapping[str, Any]], ends: Collection[int]
) -> list[Row | Refused]:
    """Chats as tokens, of which those of the answers and the end tokens after them count: the
    same tokens that training counts. Rows that training would set aside are refused.

    Args:
        rows: each with ``prompt`` (messages) and ``answer``.
    """
    found = chats.encode(tokenizer, [(r["prompt"], r["answer"]) for r in rows], ends)
    return [r if isinstance(r, Refused) else Row(r.ids, r.supervised.tolist()) for r in found]


def end_ids(model: Any, tokenizer: Any) -> frozenset[int]:
    """Ids that end an answer, of a loaded model; see ``models.end_ids``."""
    own = model.generation_config.eos_token_id
    ids = [tokenizer.eos_token_id, *(own if isinstance(own, list) else [own])]
    return frozenset(i for i in ids if i is not None)


def summed_losses(model: Any, rows: Sequence[Row]) -> torch.Tensor:
    """(rows,) sum of the cross-entropy over each row's supervised tokens, in one pass, fp32."""
    inputs = padded([r.ids for r in rows], model.device)
    target = torch.full_like(inputs["input_ids"], -100)
    for line, row in enumerate(rows):
        counted = torch.as_tensor(row.supervised, device=target.device)
        target[line, : len(row.ids)][counted] = inputs["input_ids"][line, : len(row.ids)][counted]
    logits = model(**inputs).logits[:, :-1].float()
    losses = cross_entropy(logits.transpose(1, 2), target[:, 1:], reduction="none")
    return losses.sum(1)


@torch.no_grad()
def row_losses(model: Any, rows: Sequence[Row]) -> list[float]:
    """Mean cross-entropy in nats of each row's supervised tokens.

    Raises:
        ValueError: a row has no supervised token.
    """
    if empty := [i for i, row in enumerate(rows) if not supervised(row)]:
        raise ValueError(f"rows {empty[:5]} have no supervised token")
    found = [0.0] * len(rows)
    for own in batches(model, [len(r.ids) for r in rows]):
        sums = summed_losses(model, [rows[i] for i in own]).tolist()
        for i, total in zip(own, sums, strict=True):
            found[i] = total / supervised(rows[i])
    return found


def supervised(row: Row) -> int:
    """Tokens of ``row`` that count in its loss."""
    return sum(map(bool, row.supervised[1:]))


def loss_by_source(
    losses: Sequence[float], counts: Sequence[int], sources: Sequence[str]
) -> dict[str, dict[str, float]]:
    """Source -> ``loss`` (mean over its supervised tokens), ``rows``, ``supervised_tokens``.

    Args:
        losses: mean of each row.
        counts: supervised tokens of each row.
        sources: of each row.
    """
    found: dict[str, dict[str, float]] = {}
    for loss, count, source in zip(losses, counts, sources, strict=True):
        own = found.setdefault(source, {"loss": 0.0, "rows": 0, "supervised_tokens": 0})
        own["loss"] += loss * count
        own["rows"] += 1
        own["supervised_tokens"] += count
    for own in found.values():
        own["loss"] /= own["supervised_tokens"]
    return found


def answer_losses(model: Any, tokenizer: Any, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """See ``probes.retention``."""
    ends = end_ids(model, tokenizer)
    both = list(zip(rows, encode(tokenizer, rows, ends), strict=True))
    rows = [row for row, own in both if isinstance(own, Row)]
    encoded = [own for _, own in both if isinstance(own, Row)]
    losses, counts = row_losses(model, encoded), [supervised(r) for r in encoded]
    whole = loss_by_source(losses, counts, [""] * len(rows)).get("", {"loss": None})
    return {
        "loss": whole["loss"],
        "rows": losses,
        "supervised_tokens": counts,
        "sources": loss_by_source(losses, counts, [r.get("source", "") for r in rows]),
        "left_out": len(both) - len(rows),
    }
