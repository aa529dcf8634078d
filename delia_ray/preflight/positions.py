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
    longest = subject.config.evaluate.max_tokens
    if longest >= limit and subject.config.evaluate.suites:
        yield Problem(
            f"the model has positions for {limit:,} tokens, question and answer together",
            f"evaluate.max_tokens={longest}", f"set it below {limit}",
        )  # fmt: skip
    sampling = subject.config.synthesize.sampling
    diverse = any(subject.config.arm_ratio(name) > 0 for name in subject.config.arms)
    if diverse and sampling.max_tokens >= limit and not subject.config.synthesize.model:
        yield Problem(
            f"the model has positions for {limit:,} tokens, so answers end before that",
            f"synthesize.sampling.max_tokens={sampling.max_tokens}", f"set it below {limit}",
            fatal=False,
        )  # fmt: skip


def positions(subject: Subject) -> int | None:
    """Tokens that the base model was made for, as its configuration says; None where it names
    no limit."""
    for name in ("max_position_embeddings", "n_positions", "max_seq_len"):
        found = getattr(subject.text_config, name, None)
        if isinstance(found, int) and found > 0:
            return found
    return None
