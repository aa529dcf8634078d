"""What a chat template, a tokenizer or a metric makes impossible, and that the advice helps."""

import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from delia_ray.chats import format as chat_format
from delia_ray.config import RunConfig
from delia_ray.models import load_tokenizer, locate, prompts_ids
from delia_ray.preflight import CHECKS, Problem, examine
from tests.conftest import TEMPLATE

_USER = "{% for m in messages %}{% if m['role'] == 'user' %}<|user|>{{ m['content'] }}"
_HEAD = "{% if add_generation_prompt %}<|assistant|>{% endif %}"
OPENS = (
    _USER + "{% else %}<|assistant|>{{ m['content'].split('</think>')[-1] }}<|end|>{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}<|assistant|><think>\n{% endif %}"
)
NO_END = _USER + "{% else %}<|assistant|>{{ m['content'] }}{% endif %}{% endfor %}" + _HEAD
NEXT_MARKER = NO_END
THINKS = (
    _USER + "<|end|>{% else %}<|assistant|>{% if loop.last %}<think>\n\n</think>\n\n{% endif %}"
    "{{ m['content'] }}<|end|>{% endif %}{% endfor %}" + _HEAD
)
ONE = "chat template"


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory, make_model: Callable[..., Path]) -> Path:
    return make_model(tmp_path_factory.mktemp("models") / "plain")


@pytest.fixture
def with_template(plain: Path, tmp_path: Path) -> Callable[[str], Path]:
    """A copy of the model with another template."""

    def make(template: str) -> Path:
        folder = tmp_path / f"m{len(list(tmp_path.iterdir()))}"
        shutil.copytree(plain, folder)
        (folder / "chat_template.jinja").write_text(template)
        return folder

    return make


def _config(model: Path, **more: Any) -> RunConfig:
    more.setdefault("mix", {"max_length": 64})
    return RunConfig(model=str(model), downstream={"special_tokens": {}}, **more)


def _found(config: RunConfig, *names: str) -> list[Problem]:
    return examine(config, {name: CHECKS[name] for name in names or (ONE,)})


def _fatal(config: RunConfig, *names: str) -> list[Problem]:
    return [p for p in _found(config, *names) if p.fatal]


def test_a_plain_template_has_no_problem(plain: Path) -> None:
    config = _config(plain, synthesize={"sampling": {"max_tokens": 100}})
    assert _found(config, ONE, "special tokens", "longest rows", "metrics") == []


def test_a_prompt_that_opens_a_thought(with_template: Callable[[str], Path]) -> None:
    (problem,) = _fatal(_config(with_template(OPENS)))
    assert repr("<think>\n") in problem.what
    assert "chat_template.jinja" in problem.advice
    # As advised: a copy whose generation prompt leaves it out.
    mended = OPENS.replace("<|assistant|><think>\n{% endif %}", "<|assistant|>{% endif %}")
    assert _found(_config(with_template(mended))) == []


def test_nothing_is_asked_of_a_template_that_only_generates(
    with_template: Callable[[str], Path],
) -> None:
    assert _fatal(_config(with_template(OPENS), arms={})) == []


def test_a_template_without_an_end(with_template: Callable[[str], Path]) -> None:
    (problem,) = _fatal(_config(with_template(NO_END)))
    assert "no end token after the answer" in problem.what
    mended = NO_END.replace("{{ m['content'] }}{% endif %}{% endfor",
                            "{{ m['content'] }}{{ eos_token }}{% endif %}{% endfor")  # fmt: skip
    assert _found(_config(with_template(mended))) == []


def test_the_next_marker_may_end_an_answer(with_template: Callable[[str], Path]) -> None:
    folder = with_template(NEXT_MARKER)
    settings = (folder / "generation_config.json").read_text()
    (folder / "generation_config.json").write_text(
        settings.replace('"eos_token_id": 0', '"eos_token_id": [0, 1]')
    )
    (note,) = _found(_config(folder))
    assert not note.fatal
    assert "'<|user|>', ends it" in note.what


def test_an_empty_thought_is_told_of_and_closes_the_prompt(
    with_template: Callable[[str], Path],
) -> None:
    folder = with_template(THINKS)
    (note,) = _found(_config(folder))
    assert not note.fatal
    assert repr("<think>\n\n</think>\n\n") in note.what
    tokenizer = load_tokenizer(locate(str(folder)))
    (ids,) = prompts_ids(tokenizer, [[{"role": "user", "content": "one"}]])
    assert tokenizer.decode(ids) == "<|user|>one<|end|><|assistant|><think>\n\n</think>\n\n"
    (problem,) = _fatal(_config(folder, mix={"turns": "all", "max_length": 64}))
    assert (problem.setting, problem.advice) == ("mix.turns=all", "set mix.turns=last")


@pytest.mark.parametrize(
    ("template", "said"),
    [
        (TEMPLATE.replace("{{ m['content'] }}", ""), "does not write the question"),
        (TEMPLATE.replace("{{ m['content'] }}",
                          "{% if m['role'] == 'user' %}{{ m['content'] }}{% endif %}"),
         "does not write the answer"),
        ("{{ raise_exception('not today') }}", "not today"),
        ("{{ messages[0].content.nothing() }}", "refuses a question"),
        ("{{ messages | length }}" + TEMPLATE, "differently once an answer follows"),
        ("{% for i in range(90000) %}xxxxxxxxxxxxxxxxxxxx{% endfor %}" + TEMPLATE,
         "characters for one exchange"),
    ],
)  # fmt: skip
def test_templates_that_cannot_be_trained(
    with_template: Callable[[str], Path], template: str, said: str
) -> None:
    (problem,) = _fatal(_config(with_template(template)))
    assert said in problem.what
    assert problem.advice


def test_an_endless_template_is_left_in_time(
    with_template: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chat_format, "SECONDS", 0.3)
    # Long enough to be over the limit, short enough to end with the tests.
    loops = "{% for i in range(3000) %}{% for j in range(700) %}{% endfor %}{% endfor %}"
    began = time.monotonic()
    (problem,) = _fatal(_config(with_template(loops + TEMPLATE)))
    assert "not done with one exchange" in problem.what
    assert time.monotonic() - began < 20


@pytest.mark.parametrize(
    ("template", "said"),
    [
        ("{% if messages[0]['role'] != 'system' %}<|system|>Be kind.<|end|>{% endif %}" + TEMPLATE,
         "<|system|>Be kind.<|end|>"),
        ("{{ eos_token }}{{ eos_token }}" + TEMPLATE, "twice"),
        (TEMPLATE.replace("<|end|>", "[done]<|end|>"), "[done]"),
    ],
)  # fmt: skip
def test_what_is_only_told(with_template: Callable[[str], Path], template: str, said: str) -> None:
    folder = with_template(template)
    text = (folder / "tokenizer_config.json").read_text()
    (folder / "tokenizer_config.json").write_text(
        text.replace('"eos_token"', '"bos_token": "<|end|>", "eos_token"')
    )
    (note,) = _found(_config(folder))
    assert not note.fatal
    assert said in note.what


def test_rows_longer_than_the_model(plain: Path) -> None:
    (problem,) = _fatal(_config(plain, mix={"max_length": 1024}), "longest rows")
    assert str(problem) == (
        "mix.max_length=1024: the model has positions for 512 tokens; set mix.max_length=512 or "
        "less"
    )
    assert _fatal(_config(plain, mix={"max_length": 512}), "longest rows") == []
    assert _fatal(_config(plain, mix={"max_length": 1024}, arms={}), "longest rows") == []
    (problem,) = _fatal(_config(plain, evaluate={"max_tokens": 512}), "longest rows")
    assert problem.setting == "evaluate.max_tokens=512"


def test_metrics_that_cannot_be_computed(plain: Path, tmp_path: Path) -> None:
    metrics = [
        {"name": "exact_match"}, {"name": "bleu"}, {"name": "bleu", "tokenize": "ja-mecab"},
        {"name": "comet", "checkpoint": str(tmp_path / "none.ckpt")},
        {"name": "accuracy"}, {"name": "f1"}, {"name": "format_validity"},
    ]  # fmt: skip
    evaluate = {"suites": [{"name": "own", "path": "x", "metrics": metrics}], "summary": []}
    found = _fatal(_config(plain, evaluate=evaluate), "metrics")
    assert [p.what.split(":")[0] for p in found] == ["bleu", "comet"]
    assert all(p.setting == "evaluate.suites, own" for p in found)


@pytest.mark.parametrize(
    ("token", "fatal", "said"),
    [
        ("<sep>", None, ""),
        ("<|user|>", False, "already"),
        (" <sep>", True, "space around"),
        ("x<|user|>x", None, ""),
    ],
)
def test_declared_tokens(plain: Path, token: str, fatal: bool | None, said: str) -> None:
    config = RunConfig(model=str(plain), downstream={"special_tokens": {token: "json"}})
    found = _found(config, "special tokens")
    assert [p.fatal for p in found] == ([] if fatal is None else [fatal])
    assert all(said in p.what for p in found)


def test_a_model_that_ends_nothing(plain: Path, tmp_path: Path) -> None:
    folder = tmp_path / "endless"
    shutil.copytree(plain, folder)
    for name in ("tokenizer_config.json", "generation_config.json"):
        text = (folder / name).read_text()
        for old in ('"eos_token": "<|end|>",', '"eos_token_id": 0,'):
            text = text.replace(old, "")
        (folder / name).write_text(text)
    assert any(
        "names a token that ends" in p.what for p in _fatal(_config(folder), "special tokens")
    )
