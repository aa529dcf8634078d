"""What the rows make impossible is said before anything is generated."""

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from delia_ray.artifacts import Folder
from delia_ray.config import RunConfig
from delia_ray.errors import UserError
from delia_ray.preflight import check_rows
from delia_ray.records import EXAMPLE, QUERY, conform
from tests.conftest import TEMPLATE

NO_SYSTEM = (
    "{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}"
    "{% endif %}" + TEMPLATE
)
THINKS = (
    "{% for m in messages %}<|{{ m['role'] }}|>{% if m['role'] == 'assistant' and "
    "'</think>' not in m['content'] %}<think>\n\n</think>\n\n{% endif %}{{ m['content'] }}<|end|>"
    "{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
User = tuple[str, str]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory, make_model: Callable[..., Path]) -> Path:
    folder = make_model(tmp_path_factory.mktemp("models") / "m")
    (folder / "chat_template.jinja").write_text(NO_SYSTEM)
    return folder


def _rows(texts: Sequence[User], system: str = "", **more: Any) -> list[dict[str, Any]]:
    before = [{"role": "system", "content": system}] if system else []
    return [
        {
            "id": str(i), "source": "s", "file": "f", "row": i, "answer": answer,
            "prompt": [*before, {"role": "user", "content": ask}], **more,
        }
        for i, (ask, answer) in enumerate(texts)
    ]  # fmt: skip


@pytest.fixture
def check(model: Path, tmp_path: Path) -> Callable[..., list[str]]:
    """Notes of a recipe whose stage ingest left these rows."""

    def make(
        rows: list[dict[str, Any]], corpus: list[dict[str, Any]] | None = None,
        suite: list[dict[str, Any]] | None = None, **more: Any,
    ) -> list[str]:  # fmt: skip
        folder, notes = Folder(str(tmp_path)), []
        query = [{**row, "key": 0.5} for row in corpus or _rows([("Say.", "so")])]
        folder.write_table("downstream.parquet", conform(rows, EXAMPLE))
        folder.write_table("corpus.parquet", conform(query, QUERY))
        folder.write_table("suite-held.parquet", conform(suite or rows, EXAMPLE))
        base: dict[str, Any] = {
            "model": str(model), "downstream": {"special_tokens": {}},
            "evaluate": {"suites": [{"name": "held", "path": "x"}], "max_tokens": 64},
            "mix": {"max_length": 64},
        }  # fmt: skip
        check_rows(RunConfig.model_validate(base | more), folder, notes.append)
        return notes

    return make


PLAIN = [("Name a colour.", "Blue"), ("Another?", "Red")]


def test_rows_that_fit(check: Callable[..., list[str]]) -> None:
    assert check(_rows(PLAIN)) == []


def test_system_turns_that_the_template_refuses(check: Callable[..., list[str]]) -> None:
    with pytest.raises(UserError, match=r"System role not supported.*downstream\.turns\.system"):
        check(_rows(PLAIN, "Be brief."), suite=_rows(PLAIN))
    (note,) = check(_rows(PLAIN) + _rows(PLAIN[:1], "Be brief."), suite=_rows(PLAIN))
    assert "1 of 3 rows" in note
    assert "set aside" in note
    with pytest.raises(UserError, match=r"corpus.*corpus\.turns\.system=drop"):
        check(_rows(PLAIN), corpus=_rows(PLAIN, "Be brief."))
    assert check(_rows(PLAIN), corpus=_rows(PLAIN, "Be brief."), arms=["common"]) == []
    with pytest.raises(UserError, match=r"evaluate\.suites, held"):
        check(_rows(PLAIN), suite=_rows(PLAIN, "Be brief."))


def test_a_token_that_no_row_holds(check: Callable[..., list[str]]) -> None:
    tokens = {"special_tokens": {"<sep>": "json", "<two>": "list"}}
    with pytest.raises(UserError, match="<two>") as error:
        check(_rows([*PLAIN, ("List <sep>", "x")]), downstream=tokens)
    assert "<sep>" not in str(error.value)
    assert check(_rows([("List <sep>", "x"), ("b", "<two>")]), downstream=tokens) == []


def test_rows_that_are_too_long(check: Callable[..., list[str]]) -> None:
    rows = _rows([*PLAIN, ("a" * 80, "b")])
    with pytest.raises(UserError, match=r"mix\.max_length=64: 1 of 3 .* has 85 tokens.*=85"):
        check(rows)
    assert check(rows, mix={"max_length": 85}) == [], "as advised"
    assert check(rows, mix={"max_length": 64, "overlong": "set_aside"}) == []
    with pytest.raises(
        UserError, match=r"2 of 2 .*set mix\.max_length=\d+, or mix\.overlong=split"
    ):
        check([rows[0], rows[2]], mix={"max_length": 16, "overlong": "set_aside"})


def test_thoughts_in_answers_are_told_of(
    check: Callable[..., list[str]], model: Path, tmp_path: Path
) -> None:
    rows = _rows([*PLAIN, ("A third?", "<think>\nhm\n</think>\n\nGreen")])
    assert check(rows) == [], "a template without thoughts"
    folder = tmp_path / "thinks"
    shutil.copytree(model, folder)
    (folder / "chat_template.jinja").write_text(THINKS)
    (note,) = check(rows, model=str(folder))
    assert "1 of 3 answers begin with thoughts" in note


def test_queries_longer_than_the_model(check: Callable[..., list[str]]) -> None:
    long = _rows([("a" * 300, "b")])
    with pytest.raises(UserError, match=r"1 of 1 queries are as long.*synthesize\.method=plain"):
        check(_rows(PLAIN), corpus=long)
    assert check(_rows(PLAIN), corpus=long, synthesize={"method": "plain"}) == [], "as advised"
    (note,) = check(_rows(PLAIN), corpus=long + _rows(PLAIN))
    assert "1 of 3 queries" in note


def test_suites_that_cannot_be_judged(check: Callable[..., list[str]]) -> None:
    suite = _rows(PLAIN)
    suite[1]["answer"] = None
    with pytest.raises(UserError, match=r"suite held: 1 of 2 rows .* have no reference answer"):
        check(_rows(PLAIN), suite=suite)


def test_prompts_without_room_for_an_answer(check: Callable[..., list[str]]) -> None:
    long = _rows([("a" * 480, "b"), ("c", "d")])
    (note,) = check(_rows(PLAIN), suite=long)
    assert "1 of 2 prompts of the suite held" in note
    with pytest.raises(UserError, match=r"evaluate\.max_tokens=64"):
        check(_rows(PLAIN), suite=long[:1])
