"""Which tokens count in the loss."""

from pathlib import Path

import numpy as np
import pytest

from delia_ray.chats.texts import DIFFERS, MARKERS, NO_END, REWRITES, Refused
from delia_ray.errors import UserError
from delia_ray.mix.tokenize import Encoded, encode, split
from delia_ray.models import end_ids, load_tokenizer
from tests.mix.templates import CHATML_MARKED, STYLES, make_tokenizer

CHAT = [
    {"role": "system", "content": "S"},
    {"role": "user", "content": "one"},
    {"role": "assistant", "content": "first"},
    {"role": "user", "content": "two"},
]
GOLDEN = Path(__file__).parent / "golden_masks.txt"


@pytest.fixture
def tokenizer(tmp_path: Path, make_model):
    return load_tokenizer(str(make_model(tmp_path / "m")))


def _one(tokenizer, prompt, answer, ends, turns="last") -> Encoded:
    (found,) = encode(tokenizer, [(prompt, answer)], ends, turns)
    assert isinstance(found, Encoded)
    return found


def _plain(encoded: Encoded) -> tuple[list[int], list[bool]]:
    return encoded.ids, encoded.supervised.tolist()


def _shown(tokenizer, encoded: Encoded) -> str:
    """The text, with what is supervised in «»."""
    parts, marked = [], False
    for start in range(len(encoded.ids)):
        if encoded.supervised[start] != marked:
            parts.append("«" if encoded.supervised[start] else "»")
            marked = encoded.supervised[start]
        piece = tokenizer.convert_ids_to_tokens(encoded.ids[start])
        parts.append(piece.replace("Ġ", " ").replace("▁", " ").replace("Ċ", "\n"))
    text = "".join(parts) + ("»" if marked else "")
    return text.replace("<0x0A>", "\n").replace("\n", "⏎")


@pytest.mark.parametrize("style", STYLES)
def test_masks_of_the_public_styles(style: str) -> None:
    """Against a golden file that people can read."""
    tokenizer, ends = make_tokenizer(STYLES[style])
    chat = [
        {"role": "user", "content": "Name a colour."},
        {"role": "assistant", "content": "Blue, of course!"},
        {"role": "user", "content": "Another?"},
    ]
    if STYLES[style].has_system:
        chat = [{"role": "system", "content": "You answer in one word."}, *chat]
    found = "".join(
        f"{style} {turns}\n{_shown(tokenizer, _one(tokenizer, chat, 'Red then.', ends, turns))}\n"
        for turns in ("last", "all")
    )
    assert found in GOLDEN.read_text(), f"\n{found}"


@pytest.mark.parametrize("style", STYLES)
def test_many_chats_are_as_one_by_one(style: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("delia_ray.chats.encode._BATCH", 20)
    tokenizer, ends = make_tokenizer(STYLES[style])
    quoted = ["", *tokenizer.all_special_tokens]  # some rows write a special token themselves
    chats = [
        ([{"role": "user", "content": f"{'x' * n}{quoted[n % len(quoted)]} blue"}], "Red " * n)
        for n in range(1, 50)
    ]
    alone = [_plain(_one(tokenizer, *chat, ends)) for chat in chats]
    assert [_plain(e) for e in encode(tokenizer, chats, ends)] == alone


def test_a_chat_that_the_template_refuses_is_alone() -> None:
    tokenizer, ends = make_tokenizer(STYLES["gemma"])
    good, bad = ([CHAT[1]], "x"), ([CHAT[0], CHAT[1]], "x")
    found = encode(tokenizer, [good, bad, good], ends)
    assert [type(f) for f in found] == [Encoded, Refused, Encoded]
    assert "System role not supported" in found[1].reason


def test_the_answer_and_its_end_are_supervised(tokenizer) -> None:
    ids, counted = _one(tokenizer, CHAT, "the answer", {0})
    kept = [i for i, c in zip(ids, counted, strict=True) if c]
    assert tokenizer.decode(kept) == "the answer<|end|>"
    rest = [i for i, c in zip(ids, counted, strict=True) if not c]
    assert tokenizer.decode(rest).endswith("<|user|>two<|end|><|assistant|>")


def test_what_follows_the_end_is_cut_off(tokenizer) -> None:
    tokenizer.chat_template = tokenizer.chat_template.replace("<|end|>{%", "<|end|>\n\n{%")
    ids, counted = _one(tokenizer, CHAT[1:2], "x", {0})
    assert tokenizer.decode(ids).endswith("<|assistant|>x<|end|>")
    assert counted[-1]


def test_chats_that_cannot_be_masked_are_refused(tokenizer) -> None:
    good = tokenizer.chat_template
    tokenizer.chat_template = "{{ messages|length }}" + good
    assert encode(tokenizer, [(CHAT[1:2], "x")], {0}) == [Refused(DIFFERS)]
    tokenizer.chat_template = good.replace("<|end|>", "\n")
    assert encode(tokenizer, [(CHAT[1:2], "x")], {0}) == [Refused(NO_END)]
    tokenizer.chat_template = good.replace("m['content']", "m['content'] | replace('b', 'c')")
    found = encode(tokenizer, [(CHAT[1:2], "x"), (CHAT[1:2], "abc")], {0})
    assert [type(f) for f in found] == [Encoded, Refused], "only the row that is changed"
    assert found[1] == Refused(REWRITES)


def test_generation_markers_must_agree_with_the_prefix() -> None:
    tokenizer, ends = make_tokenizer(STYLES["chatml"])
    kinds = ("last", "all")
    plain = [_plain(_one(tokenizer, CHAT, "Red.", ends, turns)) for turns in kinds]
    tokenizer.chat_template = CHATML_MARKED
    assert [_plain(_one(tokenizer, CHAT, "Red.", ends, turns)) for turns in kinds] == plain
    # Some templates enclose the line break after the turn, or leave its end token out.
    wide = CHATML_MARKED.replace("'<|im_end|>' }}{% endgen", "'<|im_end|>\\n' }}{% endgen")
    tokenizer.chat_template = wide.replace("{{ '\\n' }}{% endfor", "{% endfor").replace(
        "{% else %}{{ m.content + '<|im_end|>' }}", "{% else %}{{ m.content + '<|im_end|>\\n' }}"
    )
    assert _plain(_one(tokenizer, CHAT, "Red.", ends)) == plain[0]
    narrow = "{% endgeneration %}{{ '<|im_end|>' }}{% else %}"
    tokenizer.chat_template = CHATML_MARKED.replace(
        "m.content + '<|im_end|>' }}{% endgeneration %}{% else %}", "m.content }}" + narrow
    )
    assert _plain(_one(tokenizer, CHAT, "Red.", ends)) == plain[0]
    tokenizer.chat_template = CHATML_MARKED.replace("m.role == 'assistant'", "m.role == 'user'")
    assert encode(tokenizer, [(CHAT, "Red.")], ends) == [Refused(MARKERS)]


def test_long_chats_are_split_without_loss_of_what_is_supervised() -> None:
    chat = Encoded(list(range(25)), np.arange(25) >= 12)
    pieces = split(chat, 10)
    assert [p.ids for p in pieces] == [list(range(10, 20)), list(range(20, 25))]
    assert [sum(p.supervised) for p in pieces] == [8, 4], "a piece's first token is a start"
    (whole,) = split(Encoded([1, 2, 3], np.array([False, True, True])), 10)
    assert (whole.ids, whole.supervised.tolist()) == ([1, 2, 3], [False, True, True])


def test_a_model_without_a_template_is_refused(tmp_path: Path, make_model) -> None:
    folder = make_model(tmp_path / "m")
    for file in folder.glob("chat_template*"):
        file.unlink()
    with pytest.raises(UserError, match="has no chat template"):
        load_tokenizer(str(folder))


def test_all_ends_of_a_model_are_known(tmp_path: Path, make_model) -> None:
    folder = make_model(tmp_path / "m")
    text = (folder / "generation_config.json").read_text()
    (folder / "generation_config.json").write_text(
        text.replace('"eos_token_id": 0', '"eos_token_id": [0, 7]')
    )
    assert end_ids(str(folder)) == {0, 7}


def test_turns_that_are_never_supervised(tokenizer) -> None:
    chat = [*CHAT, {"role": "assistant", "content": "second"}, {"role": "user", "content": "three"}]
    several = [(chat, "third")] * 3
    found = encode(tokenizer, several, {0}, "all", [(2,), (2, 4), ()])
    texts = []
    for one in found:
        assert isinstance(one, Encoded)
        texts.append(tokenizer.decode([i for i, c in zip(*one, strict=True) if c]))
    assert texts == [
        "second<|end|>third<|end|>", "third<|end|>", "first<|end|>second<|end|>third<|end|>"
    ]  # fmt: skip
    last = encode(tokenizer, several[:1], {0}, "last", [(2,)])
    assert _plain(last[0]) == _plain(_one(tokenizer, chat, "third", {0}))
