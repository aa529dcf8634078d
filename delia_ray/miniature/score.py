"""Greedy answers of a chat model to rows of the world, and how many are exactly right."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from delia_ray.miniature.world import (
    REWORD_PROMPT,
    Row,
    draw_rewording,
    read_instruction,
)

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

Messages = Sequence[dict[str, str]]


def answers(
    model: "PreTrainedModel", tokenizer: "PreTrainedTokenizerBase", prompts: Sequence[Messages],
    max_new_tokens: int = 64, batch_size: int = 128,
) -> list[str]:  # fmt: skip
    """Greedy answers, batched with padding on the left so that all prompts end together."""
    import torch

    texts = [
        tokenizer.apply_chat_template(list(p), tokenize=False, add_generation_prompt=True)
        for p in prompts
    ]
    out: list[str] = []
    for at in range(0, len(texts), batch_size):
        batch = tokenizer(
            texts[at : at + batch_size], return_tensors="pt", padding=True, padding_side="left",
            add_special_tokens=False,
        )  # fmt: skip
        with torch.inference_mode():
            ids = model.generate(
                input_ids=batch["input_ids"], attention_mask=batch["attention_mask"],
                do_sample=False, max_new_tokens=max_new_tokens,
                eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id,
            )  # fmt: skip
        out += read(tokenizer, ids[:, batch["input_ids"].shape[1] :])
    return out


def read(tokenizer: "PreTrainedTokenizerBase", ids: Sequence[Sequence[int]]) -> list[str]:
    """Decode up to the end token, keeping every other special token: it may be the mistake."""
    texts = tokenizer.batch_decode(ids, skip_special_tokens=False)
    return [text.split(tokenizer.eos_token)[0] for text in texts]


def exact_match(
    model: "PreTrainedModel", tokenizer: "PreTrainedTokenizerBase", samples: Sequence[Row]
) -> float:
    """The share of rows whose greedy answer equals the reference."""
    got = answers(model, tokenizer, [row["messages"][:-1] for row in samples])
    wanted = [str(row["messages"][-1]["content"]) for row in samples]
    return sum(g == w for g, w in zip(got, wanted, strict=True)) / len(samples)


def reword_validity(
    model: "PreTrainedModel", tokenizer: "PreTrainedTokenizerBase", n: int, seed: int = 0
) -> float:
    """The share of rewordings that state the same task and wish, unknown names kept."""
    import random

    rng = random.Random(f"reword_validity/{seed}")
    asked: list[str] = []
    prompts: list[Messages] = []
    while len(asked) < n:
        here = draw_rewording(rng, evaluation=True)[0]
        if read_instruction(here) is not None:  # tasks that mention a word are left aside
            asked.append(here)
            prompts.append(
                [{"role": "user", "content": REWORD_PROMPT.format(request=here, register="")}]
            )
    got = answers(model, tokenizer, prompts)
    pairs = zip(asked, got, strict=True)
    return sum(read_instruction(g) == read_instruction(a) for a, g in pairs) / n
