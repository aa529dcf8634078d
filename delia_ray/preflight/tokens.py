"""The tokenizer's special tokens, and those that a recipe declares."""

from collections.abc import Iterator

from delia_ray.models import published_tokenizer
from delia_ray.preflight.problem import Problem
from delia_ray.preflight.subject import Subject


def special_tokens(subject: Subject) -> Iterator[Problem]:
    """An end token must be there; a declared token must be one token, and is told of where the
    model has it already."""
    tokenizer = subject.tokenizer
    if not subject.ends:
        yield Problem(
            "neither its tokenizer nor generation_config.json names a token that ends an answer",
            f"model={subject.config.model}",
            "name the template's end of turn as eos_token in tokenizer_config.json of a copy of "
            "the model",
        )  # fmt: skip
    known = published_tokenizer(subject.path).get_vocab()
    for token in subject.config.downstream.special_tokens:
        setting = f"downstream.special_tokens={token!r}"
        if token != token.strip() or not token:
            yield Problem(
                "a token with space around it is not found again in a text", setting,
                f"declare {token.strip()!r}" if token.strip() else "leave it out",
            )  # fmt: skip
            continue
        ids = tokenizer(f"zqx {token} zqx", add_special_tokens=False)["input_ids"]
        if tokenizer.convert_tokens_to_ids(token) not in ids:
            yield Problem(
                f"the tokenizer makes {tokenizer.convert_ids_to_tokens(ids)} of it between words, "
                "so it is not one token", setting,
                "choose another spelling, which no other special token is a part of",
            )  # fmt: skip
        elif token in known:
            yield Problem(
                "the model has this token already; its row is trained on from what it is", setting,
                fatal=False,
            )  # fmt: skip
