"""Which tokens count in the loss."""

from pathlib import Path

import pytest

from delia_ray.errors import UserError
from delia_ray.mix.tokenize import encode
from delia_ray.models import end_ids, load_tokenizer

CHAT = [
    {"role": "system", "content": "S"},
    {"role": "user", "content": "one"},
    {"role": "assistant", "content": "first"},
    {"role": "user", "content": "two"},
]


@pytest.fixture
def tokenizer(tmp_path: Path, make_model):
    return load_tokenizer(str(make_model(tmp_path / "m")))


def test_the_answer_and_its_end_are_supervised(tokenizer) -> None:
    ids, counted = encode(tokenizer, CHAT, "the answer", {0})
    kept = [i for i, c in zip(ids, counted, strict=True) if c]
    assert tokenizer.decode(kept) == "the answer<|end|>"
    rest = [i for i, c in zip(ids, counted, strict=True) if not c]
    assert tokenizer.decode(rest).endswith("<|user|>two<|end|><|assistant|>")


def test_what_follows_the_end_is_cut_off(tokenizer) -> None:
    tokenizer.chat_template = tokenizer.chat_template.replace("<|end|>{%", "<|end|>\n\n{%")
    ids, counted = encode(tokenizer, CHAT[1:2], "x", {0})
    assert tokenizer.decode(ids).endswith("<|assistant|>x<|end|>")
    assert counted[-1]


def test_templates_that_cannot_be_masked_are_refused(tokenizer) -> None:
    good = tokenizer.chat_template
    tokenizer.chat_template = good + "{{ messages|length }}"
    tokenizer.chat_template = "{{ messages|length }}" + good
    with pytest.raises(UserError, match="renders a prompt differently"):
        encode(tokenizer, CHAT[1:2], "x", {0})
    tokenizer.chat_template = good.replace("<|end|>", "\n")
    with pytest.raises(UserError, match="none of the end tokens"):
        encode(tokenizer, CHAT[1:2], "x", {0})


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
