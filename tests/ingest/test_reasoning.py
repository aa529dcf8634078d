"""What a chat template writes around reasoning."""

import json

import pytest

from delia_ray.ingest.reasoning import marks_in, marks_of

BEGIN = "{% for m in messages %}<|{{ m.role }}|>"
END = "<|end|>{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
THINKS = (
    BEGIN + "{% set thought = m.reasoning_content or '' %}{% set text = m.content %}"
    "{% if '</think>' in text %}{% set thought = text.split('</think>')[0].split('<think>')[-1] %}"
    "{% set text = text.split('</think>')[-1].lstrip('\n') %}{% endif %}"
    "{% if thought %}<think>\n{{ thought.strip('\n') }}\n</think>\n\n{% endif %}{{ text }}" + END
)
OPENS = THINKS.replace("<|assistant|>{% endif", "<|assistant|><think>\n{% endif")
WRITES_ONLY = (
    BEGIN + "{% if m.reasoning_content %}[{{ m.reasoning_content }}]{% endif %}"
    "{{ m.content | replace('[', '(') }}" + END
)
REFUSES = BEGIN + "{% if m.reasoning_content %}{{ raise_exception('no') }}{% endif %}" + END
PLAIN = BEGIN + "{{ m.content }}" + END


@pytest.fixture(scope="module")
def model(tmp_path_factory, make_model):
    return make_model(tmp_path_factory.mktemp("thinks") / "m")


@pytest.mark.parametrize(
    ("template", "marks"),
    [
        (THINKS, ("<think>\n", "\n</think>\n\n")),
        # The generation prompt opens the thought, so the answer begins within it.
        (OPENS, ("", "\n</think>\n\n")),
        (PLAIN, None),
        (WRITES_ONLY, None),
        (REFUSES, None),
    ],
)
def test_marks_of_a_template(template, marks, model):
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model)
    tokenizer.chat_template = template
    assert marks_in(tokenizer) == marks
    if marks:
        said = f"{marks[0]}why{marks[1]}because"
        apart = {"role": "assistant", "content": "because", "reasoning_content": "why"}
        chats = [
            [{"role": "user", "content": "q"}, turn]
            for turn in (apart, {"role": "assistant", "content": said})
        ]
        one, two = tokenizer.apply_chat_template(chats, tokenize=False)
        assert one == two


def test_marks_of_a_model_s_folder(model):
    assert marks_of(str(model)) is None
    (model / "chat_template.jinja").write_text(THINKS)
    config = json.loads((model / "tokenizer_config.json").read_text())
    config.pop("chat_template", None)
    (model / "tokenizer_config.json").write_text(json.dumps(config))
    assert marks_of(str(model)) == ("<think>\n", "\n</think>\n\n")
