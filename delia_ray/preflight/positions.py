"""Rows and answers longer than the model has positions."""

from collections.abc import Iterator

from delia_ray.preflight.problem import Problem
from delia_ray.preflight.subject import Subject


def longest_rows(subject: Subject) -> Iterator[Problem]:
    """``mix.max_length`` and the lengths of answers against the model's positions."""
    limit = positions(subject)
    if limit is None:
        return
    mix = subject.config.mix
    if subject.trains and mix.max_length > limit:
        yield Problem(
            f"the model has positions for {limit:,} tokens", f"mix.max_length={mix.max_length}",
            f"set mix.max_length={limit} or less",
        )  # fmt: skip


def positions(subject: Subject) -> int | None:
    """Tokens that the base model was made for, as its configuration says; None where it names
    no limit."""
    for name in ("max_position_embeddings", "n_positions", "max_seq_len"):
        found = getattr(subject.text_config, name, None)
        if isinstance(found, int) and found > 0:
            return found
    return None
