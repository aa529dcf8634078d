"""Ollama's Modelfile: pieces that render as the model's own template, or a reason."""

import pytest

from delia_ray.export.modelfile import Pieces, modelfile, pieces
from delia_ray.models import load_tokenizer, locate

_TURNS = "{{ bos_token }}{% for m in messages %}"
CHATML = (
    "{% for m in messages %}{% if loop.first and m.role != 'system' %}<|im_start|>system\nBe good."
    "<|im_end|>\n{% endif %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
GEMMA = (
    _TURNS + "{% if m.role == 'system' %}{{ raise_exception('no system') }}{% endif %}"
    "<start_of_turn>{{ 'model' if m.role == 'assistant' else m.role }}\n{{ m.content }}"
    "<end_of_turn>\n{% endfor %}{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)
LLAMA2 = (
    "{% if messages[0].role == 'system' %}{% set sys = messages[0].content %}{% set rest = "
    "messages[1:] %}{% else %}{% set sys = none %}{% set rest = messages %}{% endif %}"
    "{% for m in rest %}{% if m.role == 'user' %}{{ bos_token }}[INST] {% if loop.first and sys is "
    "not none %}<<SYS>>\n{{ sys }}\n<</SYS>>\n\n{% endif %}{{ m.content }} [/INST]{% else %} "
    "{{ m.content }} {{ eos_token }}{% endif %}{% endfor %}"
)
LLAMA3 = (
    _TURNS + "<|start_header_id|>{{ m.role }}<|end_header_id|>\n\n{{ m.content }}<|eot_id|>"
    "{% endfor %}{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n"
    "{% endif %}"
)


@pytest.fixture
def tokenizer():
    return load_tokenizer(locate("miniature"))


def _of(tokenizer, template: str) -> Pieces | str:
    tokenizer.chat_template = template
    return pieces(tokenizer)


def test_chatml_with_a_default_system_message(tokenizer) -> None:
    found = _of(tokenizer, CHATML)
    assert isinstance(found, Pieces), found
    assert found.default == "Be good."
    assert found.user == ("<|im_start|>user\n", "<|im_end|>\n")
    assert found.assistant == ("<|im_start|>assistant\n", "<|im_end|>\n")
    assert found.system == ("<|im_start|>system\n", "<|im_end|>\n")
    assert found.template() == (
        '{{ range .Messages }}{{ if eq .Role "system" }}<|im_start|>system\n{{ .Content }}'
        '<|im_end|>\n{{ else if eq .Role "user" }}<|im_start|>user\n{{ .Content }}<|im_end|>\n'
        '{{ else if eq .Role "assistant" }}<|im_start|>assistant\n{{ .Content }}<|im_end|>\n'
        "{{ end }}{{ end }}<|im_start|>assistant\n"
    )


def test_gemma_takes_no_system_message(tokenizer) -> None:
    found = _of(tokenizer, GEMMA)
    assert isinstance(found, Pieces), found
    assert not found.takes_system
    assert found.assistant == ("<start_of_turn>model\n", "<end_of_turn>\n")
    assert "system" not in found.template()


def test_llama_2_has_its_system_message_inside(tokenizer) -> None:
    found = _of(tokenizer, LLAMA2)
    assert isinstance(found, Pieces), found
    assert found.inside
    chat = [{"role": r, "content": r[0]} for r in ("system", "user", "assistant", "user")]
    assert "<<SYS>>\ns\n<</SYS>>\n\nu [/INST] a " in found.render(chat)
    assert "{{ $opened = true }}" in found.template()


def test_llama_3_and_the_miniature(tokenizer) -> None:
    assert isinstance(pieces(tokenizer), Pieces)
    assert isinstance(_of(tokenizer, LLAMA3), Pieces)


@pytest.mark.parametrize(
    ("template", "reason"),
    [
        (CHATML.replace("m.content", "m.content | upper"), "depends"),
        (CHATML.replace("{{ m.role }}\n", "{{ m.role }} {{ loop.index }}\n"), "begin with a text"),
        (CHATML.replace("{{ m.content }}", "{{ m.content | replace('no', 'yes') }}"), "depends"),
        (CHATML.replace("Be good.", '"""'), "three quotes"),
        ("{{ raise_exception('never') }}", "ordinary chat"),
    ],
)
def test_what_is_more_than_texts_around_turns_is_refused(tokenizer, template, reason) -> None:
    found = _of(tokenizer, template)
    assert isinstance(found, str), found
    assert reason in found


def test_the_file_names_weights_ends_and_new_tokens(tokenizer) -> None:
    folder = locate("miniature")
    text = modelfile(tokenizer, folder, True, "miniature", {"<sep>": 'a "JSON"\nobject'})
    assert "\nFROM ./merged\n" in text
    assert "\nPARAMETER stop " in text
    assert '# new token "<sep>": "a \\"JSON\\"\\nobject"\n' in text
    apart = modelfile(tokenizer, folder, False, "me/base", {"<sep>": "x"})
    assert "\nFROM ./base\nADAPTER ./adapter\n" in apart
    assert "--merge" in apart


def test_a_template_that_cannot_be_said_is_said_so(tokenizer) -> None:
    tokenizer.chat_template = CHATML.replace("Be good.", '"""')
    text = modelfile(tokenizer, locate("miniature"), True, "m", {})
    assert "# no TEMPLATE, because" in text
    assert "\nTEMPLATE" not in text
