"""What counts in the loss is each answer with its end token, whatever the template."""

from functools import cache
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from delia_ray.chats.encode import Encoded, encode
from delia_ray.chats.format import adapt
from delia_ray.chats.texts import DIFFERS, JOINED, OWN_THOUGHT, Refused
from delia_ray.models import prompts_ids
from tests.chats.styles import ALL, OPENS
from tests.mix.templates import Style, make_tokenizer

REWRITE_EARLIER = ("thinks", "switches", "opens and closes")
"""Styles that write an earlier answer otherwise than its prompt, so no turn before the last."""


@cache
def _made(style: str) -> tuple[Any, set[int]]:
    tokenizer, ends = make_tokenizer(ALL[style], merges_lines=True)
    adapt(tokenizer)
    return tokenizer, ends


def _stretches(tokenizer: Any, encoded: Encoded) -> list[str]:
    """The supervised text, one string for each run of supervised tokens."""
    edges = np.flatnonzero(np.diff(np.r_[False, encoded.supervised, False].astype(int)))
    return [
        tokenizer.decode(
            encoded.ids[a:b], skip_special_tokens=False, clean_up_tokenization_spaces=False
        )
        for a, b in zip(edges[::2], edges[1::2], strict=True)
    ]


def _chat(*said: str) -> list[dict[str, str]]:
    roles = ("user", "assistant")
    return [{"role": roles[i % 2], "content": text} for i, text in enumerate(said)]


TEXT = st.text(st.sampled_from("aB .,!\n\t7é蓝🙂"), min_size=1, max_size=12).filter(str.strip)


@pytest.mark.parametrize("style", ALL)
@settings(max_examples=25, deadline=None, derandomize=True)
@given(
    st.lists(TEXT, min_size=2, max_size=6).filter(lambda s: len(s) % 2 == 0),
    st.sampled_from(["last", "all"]),
)
def test_each_answer_and_its_end_is_supervised_and_nothing_else(
    style: str, said: list[str], turns: str
) -> None:
    tokenizer, ends = _made(style)
    (found,) = encode(tokenizer, [(_chat(*said[:-1]), said[-1])], ends, turns)
    answers = said[1::2] if turns == "all" else said[-1:]
    if isinstance(found, Refused):
        several = style in REWRITE_EARLIER and len(answers) > 1 and found.reason == DIFFERS
        # Words with a space put before each cannot be tokenised in pieces.
        assert several or (found.reason == JOINED and not ALL[style].byte_level)
        return
    prompt = list(prompts_ids(tokenizer, [_chat(*said[:-1])])[0])
    runs = np.flatnonzero(np.diff(np.r_[False, found.supervised].astype(int)) == 1)
    assert turns == "all" or found.ids[: runs[-1]] == prompt, "as generation begins"
    (end,) = (tokenizer.convert_ids_to_tokens(i) for i in ends)
    stretches = _stretches(tokenizer, found)
    assert len(stretches) == len(answers)
    for number, (stretch, answer) in enumerate(zip(stretches, answers, strict=True)):
        if style != "end at the end" or number == len(answers) - 1:
            assert stretch.endswith(end)
            stretch = stretch.removesuffix(end).removesuffix("[done]")
        assert stretch.strip() == answer.strip()


@pytest.mark.parametrize("style", ALL)
@pytest.mark.parametrize("begin", ["\n", "\n\n", " \n", "\t"])
def test_an_answer_may_begin_with_a_line_break(style: str, begin: str) -> None:
    """Its row alone is set aside where nothing can be done; the others are as without it."""
    tokenizer, ends = _made(style)
    chats = [(_chat(f"Name {i}"), f"{begin if i == 1 else ''}Blue") for i in range(4)]
    found = encode(tokenizer, chats, ends)
    alone = [encode(tokenizer, [chat], ends)[0] for chat in chats]
    for number in (0, 2, 3):
        assert isinstance(found[number], Encoded)
        assert found[number].ids == alone[number].ids
    if isinstance(odd := found[1], Refused):
        assert odd == Refused(JOINED)
        assert not ALL[style].byte_level
    else:
        assert _stretches(tokenizer, odd)[0].strip().startswith("Blue")


def test_the_prompt_of_a_joined_row_is_that_of_generation() -> None:
    tokenizer, ends = _made("chatml")
    assert len(tokenizer("\n\n")["input_ids"]) == 1
    (row,) = encode(tokenizer, [(_chat("Name a colour"), "\nBlue")], ends)
    assert isinstance(row, Encoded)
    prompt = tokenizer.apply_chat_template(
        _chat("Name a colour"), add_generation_prompt=True, return_dict=True
    )["input_ids"]
    assert row.ids[: len(prompt)] == prompt
    assert not row.supervised[: len(prompt)].any()
    assert _stretches(tokenizer, row) == ["\nBlue<|im_end|>"]


def test_earlier_answers_without_an_end_are_stretches_of_their_own() -> None:
    tokenizer, ends = _made("end at the end")
    chat = _chat("one", "first", "two", "second", "three")
    (found,) = encode(tokenizer, [(chat, "third")], ends, "all")
    assert _stretches(tokenizer, found) == ["first", "second", "third<|im_end|>"]


def test_the_next_marker_ends_an_answer_that_the_template_does_not_end() -> None:
    tokenizer, ends = _made("next marker")
    chat = _chat("one", "first", "two")
    (found,) = encode(tokenizer, [(chat, "second")], ends, "all")
    assert _stretches(tokenizer, found) == ["\nfirst<|user|>", "\nsecond<|user|>"]


@pytest.mark.parametrize("style", ["thinks", "switches", "opens and closes"])
def test_an_empty_thought_is_prompt_and_a_thought_of_ones_own_is_learned(style: str) -> None:
    tokenizer, ends = _made(style)
    ask = _chat("Name a colour")
    plain, own = encode(tokenizer, [(ask, "Blue"), (ask, "<think>\nhm\n</think>\n\nBlue")], ends)
    assert _stretches(tokenizer, plain) == ["Blue<|im_end|>"]
    prompt = tokenizer.apply_chat_template(ask, tokenize=False, add_generation_prompt=True)
    assert prompt.endswith("<|im_start|>assistant\n<think>\n\n</think>\n\n")
    assert _stretches(tokenizer, own) == ["<think>\nhm\n</think>\n\nBlue<|im_end|>"]
    assert tokenizer.decode(own.ids).startswith("<|im_start|>user\nName a colour<|im_end|>\n")
    # One that takes thoughts out loses no more than such rows.
    tokenizer, ends = make_tokenizer(ALL["chatml"])
    tokenizer.chat_template = tokenizer.chat_template.replace(
        "m.content +", "m.content.split('</think>')[-1] +"
    )
    plain, own = encode(tokenizer, [(ask, "Blue"), (ask, "<think>\nhm\n</think>Blue")], ends)
    assert _stretches(tokenizer, plain) == ["Blue<|im_end|>"]
    assert own == Refused(OWN_THOUGHT)


def test_a_template_that_is_switched_off_can_be_switched_on() -> None:
    tokenizer, _ = make_tokenizer(ALL["switches"])
    before = tokenizer.apply_chat_template(
        _chat("one"), tokenize=False, add_generation_prompt=True, enable_thinking=True
    )
    assert len(adapt(tokenizer)) == 1
    after = tokenizer.apply_chat_template(
        _chat("one"), tokenize=False, add_generation_prompt=True, enable_thinking=True
    )
    assert before == after
    assert adapt(tokenizer) == [], "once is enough"


def test_parts_are_given_and_still_taken() -> None:
    tokenizer, _ = _made("parts")
    parted = [{"role": "user", "content": [{"type": "text", "text": "one"}]}]
    plain = tokenizer.apply_chat_template(_chat("one"), tokenize=False)
    assert plain == tokenizer.apply_chat_template(parted, tokenize=False)
    assert "one" in plain


@pytest.mark.parametrize("style", ["chatml", "llama-2", "llama-3", "gemma", "mistral", "phi"])
def test_templates_that_fit_stay_as_they_are(style: str) -> None:
    tokenizer, _ = make_tokenizer(ALL[style])
    before = tokenizer.chat_template
    assert adapt(tokenizer) == []
    assert tokenizer.chat_template is before


def test_a_prompt_that_opens_a_thought_is_refused() -> None:
    tokenizer, ends = make_tokenizer(Style(OPENS, True, ALL["thinks"].specials))
    assert adapt(tokenizer) == []
    assert encode(tokenizer, [(_chat("one"), "Blue")], ends) == [Refused(DIFFERS)]
