"""Sentences that only name a token are not shown to the model, and stand in every wording."""

import pytest

from delia_ray.config import Reword
from delia_ray.rewording import put_back, reword
from delia_ray.token_apart import Apart, apart, frames, request_of

from .test_rewordings import REAL, _completions, _row, _work

TOKENS = ["<sep>"]


@pytest.mark.parametrize(
    ("instruction", "wanted"),
    [
        ("List the towns. Use the <sep> format.",
         Apart("List the towns.", "Use the <sep> format.", False)),
        ("Follow <sep>. Where is it? Say why.",
         Apart("Where is it? Say why.", "Follow <sep>.", True)),
        ("List the towns in the <sep> format.", None),
        ("List the towns.", None),
        ("Use <sep>. List the towns. Mind <sep>.", None),
        ("", None),
    ],
)  # fmt: skip
def test_what_is_asked_stands_apart(instruction: str, wanted: Apart | None) -> None:
    assert apart(instruction, TOKENS) == wanted
    if wanted is not None:
        assert wanted.joined(wanted.request) == instruction
        assert request_of(instruction, TOKENS) == wanted.request


def test_frames_are_those_that_say_nothing_of_a_task() -> None:
    found = frames(
        ["List the towns. Use the <sep> format.", "Name rivers. Respond in the <sep> format.",
         "Name lakes. Judge their depth by <sep>.", "List the hills. Use the <sep> format."],
        TOKENS,
    )  # fmt: skip
    assert found == ["Use the <sep> format.", "Respond in the <sep> format."]


def test_the_model_sees_no_token_and_no_example_with_one() -> None:
    settings = Reword().for_model("another")
    chat = reword(settings, "List the towns. Use the <sep> format.", "", TOKENS)
    assert chat[-1]["content"].endswith("List the towns.")
    assert len(chat) > 4, "examples are left"
    assert not any("Zeta" in turn["content"] or "{token}" in turn["content"] for turn in chat)
    beside = reword(settings, "List the towns in the <sep> format.", "", TOKENS)
    assert "Zeta" in beside[-1]["content"]


@pytest.mark.parametrize(
    ("said", "wanted"),
    [
        ("Name all towns.", "Name all towns. Use the <sep> format."),
        ("Name all towns in the Zeta format.", "Name all towns in the <sep> format."),
        ("", ""),
    ],
)
def test_the_frame_is_put_back_once(said: str, wanted: str) -> None:
    settings = Reword().for_model("another")
    assert put_back(said, settings, "List the towns. Use the <sep> format.", TOKENS) == wanted


def test_a_frame_alone_is_no_wording_and_others_frames_are_dealt() -> None:
    rows = [_row(f"{n}\n\nList the towns of the text. {frame}", f"answer {n}") for n, frame in
            enumerate(["Use the <sep> format.", "Respond in the <sep> format."] * 6)]  # fmt: skip
    work = _work(rows, 1, candidates=1, **REAL)
    keys = [r.key for r in work.requests()]
    texts = [f"Please list all towns in this text{'!' * n}." for n in range(11)]
    kept, aside, counts = work.judge(
        _completions(keys, [*texts, "This, answer in the Zeta format."])
    )
    said = [r["prompt"][-1]["content"].rsplit(". ", 1)[1] for r in kept.to_pylist()]
    assert set(said) == {"Use the <sep> format.", "Respond in the <sep> format."}
    assert aside["reason"].to_pylist() == ["lost what is asked about"]
    assert counts["kept"] == 11
