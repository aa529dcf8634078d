"""Chats to token ids, with the mask of the tokens that count in the loss."""

from collections.abc import Collection, Sequence
from typing import Any

from delia_ray.errors import UserError
from delia_ray.models import prompt_ids
from delia_ray.records import Message


def encode(
    tokenizer: Any, prompt: Sequence[Message], answer: str, ends: Collection[int]
) -> tuple[list[int], list[bool]]:
    """Ids of the whole chat, and whether each is supervised.

    Supervised are the tokens of the answer and the end-of-turn token after it: what the
    model has to produce itself. What the template writes after that (a line break, say) is
    cut off, since it would never be generated.

    Args:
        tokenizer: with a chat template.
        ends: ids that end an answer (``models.end_ids``).

    Raises:
        UserError: the template rewrites the prompt once an answer follows, or writes no end
            token after it; then nobody can say which tokens the model must learn.
    """
    head = prompt_ids(tokenizer, prompt)
    chat = [*prompt, {"role": "assistant", "content": answer}]
    encoded = tokenizer.apply_chat_template(chat, tokenize=True, return_dict=True)
    whole = list(encoded["input_ids"])
    if whole[: len(head)] != head:
        raise UserError(
            f"the chat template of {tokenizer.name_or_path} renders a prompt differently once an "
            "answer follows it, so the answer cannot be told apart; use a template whose "
            "generation prompt is a prefix of the whole chat"
        )
    end = next((i for i in range(len(head), len(whole)) if whole[i] in ends), None)
    if end is None:
        raise UserError(
            f"the chat template of {tokenizer.name_or_path} writes none of the end tokens "
            f"{sorted(ends)} after an answer, so the model could not learn to stop; add the "
            "template's end-of-turn token to eos_token_id in generation_config.json"
        )
    ids = whole[: end + 1]
    return ids, [i >= len(head) for i in range(len(ids))]
