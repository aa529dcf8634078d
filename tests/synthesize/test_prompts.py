"""What the model is asked."""

from hypothesis import given
from hypothesis import strategies as st

from delia_ray.config import Reword
from delia_ray.miniature import REWORD_PROMPT
from delia_ray.synthesize.prompts import (
    reword,
    self_sample,
    split_instruction,
    with_instruction,
)

SYSTEM = {"role": "system", "content": "Be brief."}
QUERY = {"role": "user", "content": "Name a colour."}


def test_the_paper_asks_the_same_query_again() -> None:
    assert self_sample([SYSTEM, QUERY], "Blue.") == [
        SYSTEM, QUERY, {"role": "assistant", "content": "Blue."}, QUERY,
    ]  # fmt: skip


def test_without_a_reference_the_query_stands_alone() -> None:
    assert self_sample([QUERY], None) == [QUERY]
    assert self_sample([QUERY], "") == [QUERY]


def test_the_instruction_is_the_last_paragraph() -> None:
    text = "cat sun\n\nmore\n \nReverse the words.\nUse <sep>."
    assert split_instruction(text, "last_paragraph") == (
        "cat sun\n\nmore\n \n",
        "Reverse the words.\nUse <sep>.",
    )
    assert split_instruction(text, "all") == ("", text)
    assert split_instruction("one paragraph", "last_paragraph") == ("", "one paragraph")


@given(st.text(alphabet="ab \n", max_size=40), st.sampled_from(["all", "last_paragraph"]))
def test_nothing_is_lost_in_the_split(text: str, part: str) -> None:
    assert "".join(split_instruction(text, part)) == text


def test_only_the_instruction_changes() -> None:
    prompt = [SYSTEM, {"role": "user", "content": "cat sun\n\nReverse them."}]
    changed = with_instruction(prompt, "last_paragraph", "Turn them round.")
    assert changed[0] == SYSTEM
    assert changed[1]["content"] == "cat sun\n\nTurn them round."


def test_the_instruction_may_come_first() -> None:
    prompt = [SYSTEM, {"role": "user", "content": "cat sun\n\nReverse them."}]
    changed = with_instruction(prompt, "last_paragraph", "Turn them round.", "before")
    assert changed == [SYSTEM, {"role": "user", "content": "Turn them round.\n\ncat sun"}]
    alone = with_instruction([QUERY], "last_paragraph", "A colour?", "before")
    assert alone == [{"role": "user", "content": "A colour?"}]


def test_braces_in_a_request_are_text() -> None:
    told = reword(Reword(prompt="Say again.{register} {request}"), "use {register}", " Be brief.")
    assert told[0]["content"] == "Say again. Be brief. use {register}"


def test_the_miniature_knows_the_default_prompt() -> None:
    """Without a register it is the one that the model was trained on."""
    assert reword(Reword().for_model("miniature"), "x")[0]["content"] == REWORD_PROMPT.format(
        request="x", register=""
    )
