# ruff: noqa: E501
"""A chat template of a stranger ends, and makes no more than a chat needs."""

from collections.abc import Callable
from pathlib import Path

import jinja2
import pytest
from jinja2.sandbox import ImmutableSandboxedEnvironment

from delia_ray import sandbox
from delia_ray.models import load_tokenizer
from delia_ray.sandbox import BoundedEnvironment, TemplateTooLarge
from tests.cpu import cpu_limit

OPTIONS = {"trim_blocks": True, "lstrip_blocks": True, "extensions": ["jinja2.ext.loopcontrols"]}
CHAT = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "What is 2 + 2?"},
    {"role": "assistant", "content": "<think>\neasy\n</think>\n\n4"},
    {"role": "user", "content": "And 3 * 3? " * 400},
]

EVIL = [
    "{% for i in range(10**9) %}x{% endfor %}",
    "{% for i in range(99999) %}{% for j in range(99999) %}{% set x=i %}{% endfor %}{% endfor %}",
    "{{ 'a' * 10**9 }}",
    "{{ 'a' * 1000000000 }}",
    "{% macro f(n) %}{{ f(n-1) }}{{ f(n-1) }}{% endmacro %}{{ f(60) }}",
    "{% set ns=namespace(s='aaaaaaaaaa') %}{% for i in range(60) %}{% set ns.s = ns.s ~ ns.s %}{% endfor %}{{ ns.s }}",
    "{% set ns=namespace(s='aaaaaaaaaa') %}{% for i in range(60) %}{% set ns.s = ns.s + ns.s %}{% endfor %}",
    "{% set ns=namespace(s=[1]) %}{% for i in range(60) %}{% set ns.s = ns.s + ns.s %}{% endfor %}",
    "{{ '%1000000000d' % 1 }}",
    "{{ '{:1000000000}'.format(1) }}",
    "{{ 'a'.ljust(1000000000) }}",
    "{{ 'a'|center(1000000000) }}",
    "{{ 'a'|indent(1000000000, true) }}",
    "{% set s = 'a' * 10000000 %}{{ s.replace('a', s) }}",
    "{% set s = 'a' * 10000000 %}{{ s|replace('a', s) }}",
    "{% set s = 'a' * 1000000 %}{{ s.join(s|list) }}",
    "{% set s = 'a' * 1000000 %}{{ (s|list)|join(s) }}",
    "{% for i in range(100000) %}{{ 'a' * 1000000 }}{% endfor %}",
    "{% set ns=namespace(n=3) %}{% for i in range(100) %}{% set ns.n = ns.n * ns.n %}{% endfor %}",
    "{{ [1]*1000000000 }}",
    "{{ messages|tojson(indent=1000000000) }}",
    "{{ '\t'.expandtabs(1000000000) }}",
    "{{ 'a'.zfill(1000000000) }}",
    "{% for x in messages recursive %}{{ loop(messages) }}{% endfor %}",
    "{{ '%*d' % (1000000000, 1) }}",
    "{{ '{:{w}}'.format(1, w=1000000000) }}",
    "{% set x %}{% for i in range(100000) %}{{ 'a'*10000 }}{% endfor %}{% endset %}",
    "{{ (range(100000)|list) * 100000 }}",
    "{% set ns=namespace(s='aaaaaaaaaa') %}{% for i in range(60) %}{% set ns.s = [ns.s, ns.s]|join %}{% endfor %}",
    "{% set ns=namespace(s='aaaaaaaaaa') %}{% for i in range(60) %}{% set ns.s = '%s%s' % (ns.s, ns.s) %}{% endfor %}",
    "{% set ns=namespace(s='aaaaaaaaaa') %}{% for i in range(60) %}{% set ns.s = '{}{}'.format(ns.s, ns.s) %}{% endfor %}",
    "{% set ns=namespace(s='aaaaaaaaaa') %}{% for i in range(60) %}{% set ns.s %}{{ ns.s }}{{ ns.s }}{% endset %}{% endfor %}",
    "{% for i in range(100000) %}{% set x = range(100000)|list %}{% endfor %}",
    "{% for i in range(100000) %}{% set x = range(100000)|sum %}{% endfor %}",
    "{{ 10 ** 99999999 }}",
    "{{ 7 ** (2 ** 30) }}",
    "{% macro f(n) %}{% if n > 0 %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(60) }}",
]


@pytest.mark.parametrize("template", EVIL)
def test_a_template_that_would_not_end_is_refused(
    template: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sandbox, "SECONDS", 0.5)
    monkeypatch.setattr(sandbox, "SIZE", 2_000_000)
    with cpu_limit(10, template), pytest.raises(TemplateTooLarge, match="for one chat"):
        BoundedEnvironment(**OPTIONS).from_string(template).render(messages=CHAT)


@pytest.mark.parametrize("name", ["lipsum(n=1000)", "'a'|wordwrap(1)", "'a'|urlize"])
def test_what_only_web_pages_need_is_not_there(name: str) -> None:
    with pytest.raises(jinja2.TemplateError):
        BoundedEnvironment(**OPTIONS).from_string("{{ " + name + " }}").render()


ORDINARY = [
    "{% for m in messages %}<|{{ m.role }}|>{{ m['content'] | trim }}{{ '\n' }}{% endfor %}",
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>' + '\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}",
    "{% set ns = namespace(found=false) %}{% for m in messages %}{% if m.role == 'assistant' %}"
    "{% set c = m.content.split('</think>')[-1].lstrip('\n') %}{% set ns.found = true %}{{ c ~ 1 ~ '.' }}"
    "{% endif %}{% endfor %}{{ ns.found }}",
    "{% macro turn(m) %}[{{ m.role|upper }}] {{ m.content|replace('+', 'plus') }}{% endmacro %}"
    "{% for m in messages %}{{ turn(m) }}{% if not loop.last %}{{ '-' * 20 }}{% endif %}{% endfor %}",
    "{{ messages|map(attribute='role')|join(', ') }} {{ messages|length }} {{ messages[1:]|tojson }}",
    "{% for m in messages[::-1] %}{% if loop.index0 > 1 %}{% break %}{% endif %}{{ m.content|indent(4) }}"
    "{% endfor %}{{ '%s-%d' % ('a', 3) }} {{ '{:>5}'.format('x') }} {{ 2 ** 10 }} {{ range(3)|list }}",
    "{% set parts %}{% for m in messages %}{{ m.role }}{% endfor %}{% endset %}{{ parts|trim }}"
    "{% for a, b in {'x': 1, 'y': 2}.items() %}{{ a ~ b }}{% endfor %}",
]


@pytest.mark.parametrize("template", ORDINARY)
def test_ordinary_templates_say_the_same_as_in_the_plain_sandbox(template: str) -> None:
    plain = ImmutableSandboxedEnvironment(**OPTIONS).from_string(template)
    ours = BoundedEnvironment(**OPTIONS).from_string(template)
    for chat in (CHAT, CHAT[1:2], CHAT * 50):
        given = {"messages": chat, "add_generation_prompt": True}
        assert ours.render(given) == plain.render(given)


def test_every_chat_is_counted_from_the_beginning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandbox, "STEPS", 100)
    template = BoundedEnvironment(**OPTIONS).from_string(ORDINARY[0])
    for _ in range(200):
        assert template.render(messages=CHAT)


def test_models_are_rendered_in_the_bounded_sandbox(
    make_model: Callable[..., Path], tmp_path: Path
) -> None:
    tokenizer = load_tokenizer(str(make_model(tmp_path / "model")))
    tokenizer.chat_template = "{% generation %}{{ 'a' * 10**10 }}{% endgeneration %}"
    for options in (
        {"tokenize": False},
        {"return_assistant_tokens_mask": True, "return_dict": True},
    ):
        with (
            cpu_limit(5, "template"),
            pytest.raises(TemplateTooLarge, match=r"chat_template\.jinja"),
        ):
            tokenizer.apply_chat_template([CHAT], **options)
