"""Chat templates in the public styles, and tokenizers to go with them.

Written after the formats that the models' cards describe; the models' own files cannot be had
without a hub. Two kinds of tokenizers stand for all: byte-level (Llama 3, Qwen, Phi) and
with words that begin with a visible space (Llama 2, Mistral, Gemma).
"""

from typing import Any, NamedTuple

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast


class Style(NamedTuple):
    """One family's format."""

    template: str
    byte_level: bool
    specials: tuple[str, ...]
    """The first begins a text, the second ends a turn."""
    has_system: bool = True


_INST = (
    "{% if messages[0].role == 'system' %}{% set s = '<<SYS>>\\n' + messages[0].content + "
    "'\\n<</SYS>>\\n\\n' %}{% set messages = messages[1:] %}{% else %}{% set s = '' %}{% endif %}"
    "{% for m in messages %}{% if m.role == 'user' %}"
    "{{ bos_token + '[INST] ' + (s if loop.first else '') + m.content | trim + ' [/INST]' }}"
    "{% else %}{{ ' ' + m.content | trim + ' ' + eos_token }}{% endif %}{% endfor %}"
)
_HEADERS = (
    "{% for m in messages %}{{ (bos_token if loop.first else '') + '<|start_header_id|>' + m.role "
    "+ '<|end_header_id|>\\n\\n' + m.content | trim + '<|eot_id|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}"
    "{% endif %}"
)
_CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\\n' + m.content + '<|im_end|>\\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
CHATML_MARKED = (
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\\n' }}{% if m.role == 'assistant' %}"
    "{% generation %}{{ m.content + '<|im_end|>' }}{% endgeneration %}{% else %}"
    "{{ m.content + '<|im_end|>' }}{% endif %}{{ '\\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
_GEMMA = (
    "{{ bos_token }}{% if messages[0].role == 'system' %}"
    "{{ raise_exception('System role not supported') }}{% endif %}"
    "{% for m in messages %}{{ '<start_of_turn>' + ('model' if m.role == 'assistant' else m.role) "
    "+ '\\n' + m.content | trim + '<end_of_turn>\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<start_of_turn>model\\n' }}{% endif %}"
)
_MISTRAL = (
    "{{ bos_token }}{% for m in messages %}{% if m.role == 'user' %}"
    "{{ '[INST] ' + m.content + ' [/INST]' }}{% elif m.role == 'assistant' %}"
    "{{ ' ' + m.content + eos_token }}{% else %}"
    "{{ raise_exception('Only user and assistant roles are supported!') }}{% endif %}{% endfor %}"
)
_PHI = (
    "{% for m in messages %}{{ '<|' + m.role + '|>\\n' + m.content + '<|end|>\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>\\n' }}{% else %}{{ eos_token }}{% endif %}"
)

STYLES = {
    "llama-2": Style(_INST, False, ("<s>", "</s>")),
    "llama-3": Style(
        _HEADERS, True,
        ("<|begin_of_text|>", "<|eot_id|>", "<|start_header_id|>", "<|end_header_id|>"),
    ),
    "chatml": Style(_CHATML, True, ("<|endoftext|>", "<|im_end|>", "<|im_start|>")),
    "gemma": Style(_GEMMA, False, ("<bos>", "<end_of_turn>", "<start_of_turn>"), False),
    "mistral": Style(_MISTRAL, False, ("<s>", "</s>"), False),
    "phi": Style(
        _PHI, True, ("<|endoftext|>", "<|end|>", "<|user|>", "<|assistant|>", "<|system|>")
    ),
}  # fmt: skip
_TEXT = [
    "Name a colour. Blue, of course! Another? Red then.\n\nYou answer in one word. [INST] [/INST]"
]


_LINES = r" ?[^\s\p{L}\p{N}]+[\r\n]*|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}|\s*[\r\n]+|\s+(?!\S)|\s+"
"""Splits so that several line breaks, or a full stop and a line break, can be one token."""


def make_tokenizer(style: Style, merges_lines: bool = False) -> tuple[Any, set[int]]:
    """(tokenizer, ids that end a turn); of the byte-level ones, ``merges_lines`` has tokens of
    several line breaks, as Qwen's and Llama 3's have."""
    core = Tokenizer(models.BPE(byte_fallback=not style.byte_level, unk_token=None))
    if style.byte_level:
        core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        core.decoder = decoders.ByteLevel()
        if merges_lines:
            core.pre_tokenizer = pre_tokenizers.Sequence([
                pre_tokenizers.Split(Regex(_LINES), behavior="isolated"),
                pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
            ])  # fmt: skip
    else:
        core.normalizer = normalizers.Sequence(
            [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
        )
        core.decoder = decoders.Sequence(
            [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(),
             decoders.Strip(" ", 1, 0)]
        )  # fmt: skip
    bytes_ = [f"<0x{i:02X}>" for i in range(256)] if not style.byte_level else []
    alphabet = pre_tokenizers.ByteLevel.alphabet() if style.byte_level else []
    trainer = trainers.BpeTrainer(
        vocab_size=700, special_tokens=[*style.specials, *bytes_], initial_alphabet=alphabet,
        show_progress=False,
    )  # fmt: skip
    lines = ["one.\n\ntwo,\n\n\nthree!\n"] if merges_lines else []
    core.train_from_iterator((_TEXT + lines) * 20, trainer)
    bos, eos = style.specials[0], style.specials[1]
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core, bos_token=bos, eos_token=eos,
        additional_special_tokens=list(style.specials[2:]),
    )  # fmt: skip
    tokenizer.chat_template = style.template
    return tokenizer, {tokenizer.convert_tokens_to_ids(eos)}
