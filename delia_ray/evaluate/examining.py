"""Looking into the models: the body of a Ray task for each."""

import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from delia_ray.artifacts import Folder
from delia_ray.records import Message

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Subject:
    """What every model is looked into with."""

    tokens: Mapping[str, str]
    """``downstream.special_tokens``."""
    prompts: Sequence[Sequence[Message]]
    """Held-out ones that hold a token."""
    downstream: Sequence[Row] = field(default_factory=list)
    """``prompt`` and ``answer``: rows that arms were trained on."""
    held_out: Sequence[Row] = field(default_factory=list)
    """The same and ``source``: self-sampled rows that no arm was trained on."""
    token_init: str = "random"
    seed: int = 0


def examine(model: str, finetuned: Folder | None, subject: Subject) -> dict[str, Any]:
    """Load one plain model and look into it.

    Args:
        model: the base model's folder, or the model's folder inside ``finetuned``.
        finetuned: None for the base, which gets the tokens with the rows that training begins
            with: the untrained control.

    Returns:
        ``probes`` (token -> ``probes.probe``), ``retention`` (``probes.retention``; empty
        without held-out rows) and ``gradients`` (``probes.gradients.gradient_angles`` of
        downstream and held-out rows; empty where one is missing).
    """
    path = finetuned.download(model) if finetuned else model
    try:
        return _examine(path, finetuned is None, subject)
    finally:
        if finetuned and not finetuned.is_local:
            shutil.rmtree(os.path.dirname(path), ignore_errors=True)


def _examine(path: str, untrained: bool, subject: Subject) -> dict[str, Any]:
    import torch

    from delia_ray.causal_models import load_causal
    from delia_ray.chats.texts import Refused
    from delia_ray.evaluate.probes import probe, retention
    from delia_ray.evaluate.probes.gradients import gradient_angles
    from delia_ray.evaluate.probes.loss import encode, end_ids
    from delia_ray.models import load_tokenizer
    from delia_ray.token_rows import grow, initialise_rows

    tokenizer = load_tokenizer(path, subject.tokens if untrained else {})
    model = load_causal(path, dtype="auto")
    if untrained and subject.tokens:
        grow(model, tokenizer)
        initialise_rows(model, path, tokenizer, subject.tokens, subject.token_init, subject.seed)
    model = model.to("cuda" if torch.cuda.is_available() else "cpu").eval()
    found: dict[str, Any] = {
        "probes": {
            token: probe(model, tokenizer, subject.prompts, token, text, subject.seed)
            for token, text in subject.tokens.items()
        },
        "retention": retention(model, tokenizer, subject.held_out) if subject.held_out else {},
        "gradients": {},
    }
    sides = {"downstream": subject.downstream, "diverse": subject.held_out}
    if all(sides.values()):
        ends = end_ids(model, tokenizer)
        rows = {
            name: [r for r in encode(tokenizer, own, ends) if not isinstance(r, Refused)]
            for name, own in sides.items()
        }
        if all(rows.values()):
            found["gradients"] = gradient_angles(model, rows)
    return found


def prompts_with(
    tokens: Mapping[str, str], suites: Mapping[str, Sequence[Row]], count: int
) -> list[Sequence[Message]]:
    """Up to ``count`` prompts that hold one of ``tokens``, taken from the suites in turn."""
    found = [
        [r["prompt"] for r in rows if any(t in m["content"] for m in r["prompt"] for t in tokens)]
        for rows in suites.values()
    ]
    longest = max((len(own) for own in found), default=0)
    turns = [own[i] for i in range(longest) for own in found if i < len(own)]
    return turns[:count]
