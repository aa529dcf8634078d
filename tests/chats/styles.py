"""More public manners of chat templates, beside those of ``tests.mix.templates``."""

from tests.mix.templates import STYLES, Style

_HEAD = "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
_CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\\n' + m.content + '<|im_end|>\\n' }}"
    "{% endfor %}" + _HEAD
)
_QWEN = ("<|endoftext|>", "<|im_end|>", "<|im_start|>")
_LAST_USER = (
    "{% set ns = namespace(last=-1) %}{% for m in messages %}{% if m.role == 'user' %}"
    "{% set ns.last = loop.index0 %}{% endif %}{% endfor %}"
)
# Writes an empty thought before the last answer and takes thoughts out of earlier ones.
THINKS = (
    _LAST_USER + "{% for m in messages %}{% if m.role == 'assistant' %}{% set body = m.content %}"
    "{% set thought = '' %}{% if '</think>' in body %}"
    "{% set thought = body.split('</think>')[0].split('<think>')[-1].strip('\\n') %}"
    "{% set body = body.split('</think>')[-1].lstrip('\\n') %}{% endif %}"
    "{{ '<|im_start|>assistant\\n' }}{% if loop.index0 > ns.last %}"
    "{{ '<think>\\n' + thought + '\\n</think>\\n\\n' + body.lstrip('\\n') }}{% else %}{{ body }}"
    "{% endif %}{{ '<|im_end|>\\n' }}{% else %}"
    "{{ '<|im_start|>' + m.role + '\\n' + m.content + '<|im_end|>\\n' }}{% endif %}{% endfor %}"
    + _HEAD
)
# The same, and a switch that writes the empty thought into the generation prompt.
SWITCHES = THINKS + (
    "{% if add_generation_prompt and enable_thinking is defined and enable_thinking is false %}"
    "{{ '<think>\\n\\n</think>\\n\\n' }}{% endif %}"
)
# The generation prompt opens a thought that the answered chat closes.
OPENS_AND_CLOSES = THINKS + "{% if add_generation_prompt %}{{ '<think>\\n' }}{% endif %}"
# The generation prompt opens a thought that the answered chat does not hold.
OPENS = (
    "{% for m in messages %}{% if m.role == 'user' %}{{ '<|im_start|>user\\n' + m.content }}"
    "{% elif m.role == 'assistant' %}{{ '<|im_start|>' + m.content.split('</think>')[-1] + "
    "'<|im_end|>' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|><think>\\n' }}{% endif %}"
)
PARTS = (
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\\n' }}{% for p in m.content %}"
    "{% if p.type == 'text' %}{{ p.text }}{% endif %}{% endfor %}{{ '<|im_end|>\\n' }}{% endfor %}"
    + _HEAD
)
NEXT_MARKER = (
    "{% for m in messages %}{{ '<|' + m.role + '|>\\n' + m.content }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)
END_AT_THE_END = (
    "{% for m in messages %}{% if m.role == 'user' %}{{ 'USER:\\n' + m.content + '\\n' }}"
    "{% else %}{{ 'ASSISTANT:\\n' + m.content + ('\\n' if not loop.last else '') }}{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}{{ 'ASSISTANT:\\n' }}{% else %}{{ eos_token }}"
    "{% endif %}"
)
_DEFAULT_SYSTEM = (
    "{% if messages[0].role != 'system' %}"
    "{{ '<|im_start|>system\\nYou are helpful.<|im_end|>\\n' }}"
    "{% endif %}" + _CHATML
)
_ZEPHYR = (
    "{% for m in messages %}{{ '<|' + m.role + '|>\\n' + m.content + eos_token + '\\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>\\n' }}{% endif %}"
)
_VICUNA = (
    "{{ bos_token + 'A chat. ' }}{% for m in messages %}{% if m.role == 'user' %}"
    "{{ 'USER: ' + m.content + ' ' }}{% elif m.role == 'assistant' %}"
    "{{ 'ASSISTANT: ' + m.content + eos_token }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'ASSISTANT:' }}{% endif %}"
)
_ALPACA = (
    "{% for m in messages %}{% if m.role == 'user' %}"
    "{{ '### Instruction:\\n' + m.content + '\\n\\n' }}"
    "{% elif m.role == 'assistant' %}{{ '### Response:\\n' + m.content + '\\n\\n' + eos_token }}"
    "{% endif %}{% endfor %}{% if add_generation_prompt %}{{ '### Response:\\n' }}{% endif %}"
)
_GRANITE = (
    "{% for m in messages %}{{ '<|start_of_role|>' + m.role + '<|end_of_role|>' + m.content + "
    "'<|end_of_text|>\\n' }}{% endfor %}{% if add_generation_prompt %}"
    "{{ '<|start_of_role|>assistant<|end_of_role|>' }}{% endif %}"
)
# A closing mark that is not an end token, then one.
_CLOSED_TWICE = _ZEPHYR.replace("m.content + eos", "m.content + '\\n[done]' + eos")

MORE = {
    "thinks": Style(THINKS, True, _QWEN),
    "switches": Style(SWITCHES, True, _QWEN),
    "opens and closes": Style(OPENS_AND_CLOSES, True, _QWEN),
    "parts": Style(PARTS, True, _QWEN),
    "next marker": Style(NEXT_MARKER, True, ("<|endoftext|>", "<|user|>", "<|assistant|>")),
    "end at the end": Style(END_AT_THE_END, True, _QWEN),
    "default system": Style(_DEFAULT_SYSTEM, True, _QWEN),
    "zephyr": Style(_ZEPHYR, True, ("<s>", "</s>")),
    "vicuna": Style(_VICUNA, False, ("<s>", "</s>"), False),
    "alpaca": Style(_ALPACA, True, ("<s>", "</s>"), False),
    "granite": Style(
        _GRANITE, True,
        ("<|pad|>", "<|end_of_text|>", "<|start_of_role|>", "<|end_of_role|>"),
    ),
    "closed twice": Style(_CLOSED_TWICE, True, ("<s>", "</s>")),
}  # fmt: skip
ALL = STYLES | MORE
