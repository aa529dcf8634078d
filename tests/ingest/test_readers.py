import contextlib
import json
import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from delia_ray.config import Parallel, Source, Turns
from delia_ray.ingest import layouts
from delia_ray.ingest.columns import is_empty
from delia_ray.ingest.layouts import Options
from delia_ray.ingest.readers import LAYOUTS, Reader, RowError, candidates, rename
from delia_ray.ingest.rules import split_turns
from delia_ray.ingest.turns import Turn

USER = {"role": "user", "content": "hi"}
ASSISTANT = {"role": "assistant", "content": "hello"}
SYSTEM = {"role": "system", "content": "be short"}


def read(row: dict[str, Any], format: str = "auto", columns: dict[str, str] | None = None) -> Any:
    return Reader(candidates(format, columns or {}), columns).read(row)[:2]


def test_every_format_of_the_config_has_a_layout():
    formats = set(Source.model_fields["format"].annotation.__args__)
    assert formats == set(LAYOUTS) | {"auto"}


@pytest.mark.parametrize(
    ("row", "prompt", "answer"),
    [
        ({"messages": [USER, ASSISTANT]}, [USER], "hello"),
        ({"messages": [USER]}, [USER], None),
        ({"messages": [SYSTEM, USER, ASSISTANT]}, [SYSTEM, USER], "hello"),
        ({"messages": [USER, ASSISTANT, USER]}, [USER, ASSISTANT, USER], None),
        ({"messages": [USER, ASSISTANT] * 2}, [USER, ASSISTANT, USER], "hello"),
        ({"messages": [USER, {"role": "assistant", "content": None}]}, [USER], None),
        ({"messages": [USER, ASSISTANT], "prompt": "unused"}, [USER], "hello"),
        (
            {
                "conversations": [
                    {"from": "human", "value": "hi"},
                    {"from": "gpt", "value": "hello"},
                ]
            },
            [USER],
            "hello",
        ),
        ({"conversations": [USER, ASSISTANT], "messages": None}, [USER], "hello"),
        ({"instruction": "hi", "input": "", "output": "hello"}, [USER], "hello"),
        ({"instruction": "hi", "input": None, "output": " \n"}, [USER], None),
        ({"instruction": "hi"}, [USER], None),
        (
            {"instruction": "add", "input": "1 2", "output": "3", "text": "ready made"},
            [{"role": "user", "content": "add\n\n1 2"}],
            "3",
        ),
        ({"prompt": "hi", "completion": "hello", "id": 7}, [USER], "hello"),
        ({"prompt": "hi"}, [USER], None),
        ({"question": "hi", "answer": "hello"}, [USER], "hello"),
        ({"user_query": "hi", "chatgpt_response": "hello"}, [USER], "hello"),
        ({"input": "hi", "output": "hello"}, [USER], "hello"),
        ({"query": "hi"}, [USER], None),
        ({"prompt": [USER], "completion": [ASSISTANT]}, [USER], "hello"),
        ({"prompt": "hi", "chosen": "hello", "rejected": "go away"}, [USER], "hello"),
        ({"instruction": "hi", "context": "", "response": "hello"}, [USER], "hello"),
        ({"instruction": "hi", "instances": [{"input": "", "output": "hello"}]}, [USER], "hello"),
        ({"messages": json.dumps([USER, ASSISTANT])}, [USER], "hello"),
        ({"conversation": [{"role": "Human", "value": "hi"}, {"role": "BOT", "text": "hello"}]},
         [USER], "hello"),
        ({"conversations": [{"from": "human", "value": "hi"}, {"from": "gpt", "value": "hello"}],
          "system": "be short"}, [SYSTEM, USER], "hello"),
        ({"messages": [{"role": "user", "content": [{"type": "text", "text": "hi"}]}]},
         [USER], None),
        ({"messages": [{"role": "developer", "content": "be short"}, USER]}, [SYSTEM, USER], None),
    ],
)  # fmt: skip
def test_layouts(row, prompt, answer):
    assert read(row) == (prompt, answer)


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"messages": []}, "no user turn"),
        ({"messages": [SYSTEM]}, "no user turn"),
        ({"messages": "hi"}, "messages is not a list"),
        ({"messages": [3]}, "a turn is not an object"),
        ({"messages": [{"content": "hi"}]}, "unknown role"),
        ({"messages": [{"role": ["user"], "content": "hi"}]}, "unknown role"),
        ({"messages": [USER, {"role": "tool", "content": "3"}, ASSISTANT]}, "calls a tool"),
        ({"messages": [{"role": "user", "content": ["hi"]}]}, "a turn's content is not text"),
        ({"messages": [{"role": "user", "content": None}]}, "a turn's content is not text"),
        ({"messages": [USER, USER]}, "user and assistant do not alternate"),
        ({"messages": [USER, SYSTEM]}, "user and assistant do not alternate"),
        ({"messages": [{"role": "user", "content": " "}]}, "empty prompt"),
        ({"instruction": "", "input": " ", "output": "x"}, "empty prompt"),
        ({"instruction": [3]}, "instruction is not text"),
        ({"prompt": "hi", "completion": {"a": 42}}, "completion is not text"),
        ({"prompt": "a lone \ud800"}, "not valid UTF-8"),
        ({"frage": "hi"}, "no known layout"),
        ({"messages": '[{"role": '}, "messages is not a list"),
        ({"prompt": "a \0 b"}, "zero bytes in the text"),
        ({"instruction": "x", "instances": [{"output": "1"}, {"output": "2"}]}, "not one instance"),
        ({"translation": {"is": "já", "en": " "}}, "empty translation"),
        ({"translation": {"is": "já"}}, "no known layout"),
        ({"is": "já", "en": 4}, "no known layout"),
        ({"messages": [USER, {"role": "assistant", "tool_calls": [{}]}]}, "calls a tool"),
        ({}, "no known layout"),
    ],
)
def test_what_is_set_aside(row, reason):
    with pytest.raises(RowError) as error:
        read(row)
    assert error.value.reason == reason


def test_a_named_format_is_not_guessed():
    with pytest.raises(RowError, match="no prompt: keys messages"):
        read({"messages": [USER]}, "prompt_completion")


def test_columns_rename_and_nested_names():
    row = {"question": "hi", "t": {"is": "hello"}, "prompt": "not this"}
    columns = {"prompt": "question", "completion": "t.is"}
    assert read(row, columns=columns) == ([USER], "hello")


def test_a_missing_column_is_not_replaced_by_another():
    assert rename({"prompt": "x"}, {"prompt": "question"}) == {"prompt": None}


def test_columns_choose_the_layout_that_knows_them():
    row = {"messages": [USER], "q": "the one asked for"}
    assert read(row, columns={"prompt": "q"})[0][0]["content"] == "the one asked for"


CHAT = [SYSTEM, USER, ASSISTANT, USER, {"role": "assistant", "content": "again"}]


@pytest.mark.parametrize(
    ("rules", "chat", "prompt", "answer"),
    [
        ({"system": "drop"}, CHAT, [USER, ASSISTANT, USER], "again"),
        ({"several": "first"}, CHAT, [SYSTEM, USER], "hello"),
        ({"system": "drop", "several": "first"}, CHAT, [USER], "hello"),
        ({"system": "set_aside"}, CHAT, None, "a system turn"),
        ({"several": "set_aside"}, CHAT, None, "several turns"),
        ({"several": "set_aside"}, CHAT[:3], [SYSTEM, USER], "hello"),
        ({"empty": "set_aside"}, [USER, {"role": "assistant", "content": " "}, USER], None,
         "an empty turn"),
        ({"empty": "set_aside"}, [USER, {"role": "assistant", "content": ""}], [USER], None),
    ],
)  # fmt: skip
def test_rules_for_turns(rules, chat, prompt, answer):
    known = candidates("auto", {}, Options(turns=Turns(**rules)))
    if prompt is None:
        with pytest.raises(RowError, match=f"^{answer}$"):
            Reader(known).read({"messages": chat})
    else:
        assert Reader(known).read({"messages": chat})[:2] == (prompt, answer)


PAIR = {"is": "Halló heimur", "en": "Hello world"}


@pytest.mark.parametrize(
    ("row", "settings", "asked", "answer"),
    [
        ({"translation": PAIR}, {}, "Icelandic>English: Halló heimur", "Hello world"),
        (PAIR, {}, "Icelandic>English: Halló heimur", "Hello world"),
        (PAIR, {"reverse": True}, "English>Icelandic: Hello world", "Halló heimur"),
        (PAIR, {"source": "en"}, "English>Icelandic: Hello world", "Halló heimur"),
        ({**PAIR, "de": "Hallo Welt"}, {"source": "de", "target": "is"},
         "German>Icelandic: Hallo Welt", "Halló heimur"),
        ({"eng_Latn": "Hello", "isl_Latn": "Halló"}, {}, "English>Icelandic: Hello", "Halló"),
        ({"0": "Hallo", "1": "Hello"}, {"source": "de", "target": "en"},
         "German>English: Hallo", "Hello"),
    ],
)  # fmt: skip
def test_parallel_text(row, settings, asked, answer):
    parallel = Parallel(templates=["{source}>{target}: {text}"], **settings)
    known = candidates("parallel", {}, Options(parallel=parallel))
    prompt, translation, _ = Reader(known).read(row)
    assert (prompt[0]["content"], translation) == (asked, answer)


def test_templates_differ_by_content_and_not_by_place():
    rows = [{"is": f"orð {i}", "en": f"word {i}"} for i in range(60)]
    first = [read(row)[0][0]["content"] for row in rows]
    assert first == [read(row)[0][0]["content"] for row in rows]
    shapes = {text.replace(f"orð {i}", "") for i, text in enumerate(first)}
    assert len(shapes) == len(Parallel().templates)


def test_a_template_needs_the_text():
    with pytest.raises(ValidationError, match=r"has no \{text\}"):
        Parallel(templates=["Translate."])


def test_control_tokens_are_refused():
    control = re.compile(re.escape("<|im_end|>"))
    with pytest.raises(RowError) as error:
        Reader(candidates("auto", {}), control=control).read({"prompt": "hi<|im_end|>"})
    assert str(error.value) == "a control token of the chat template: <|im_end|>"


@pytest.mark.parametrize(
    ("format", "columns"),
    [
        ("auto", {"promt": "x"}),
        ("alpaca", {"prompt": "x"}),
        ("auto", {"prompt": "x", "input": "y"}),
    ],
)
def test_columns_that_no_layout_reads(format, columns):
    with pytest.raises(LookupError, match="no layout reads"):
        candidates(format, columns)


ROLES = st.sampled_from(["system", "user", "assistant"])
TURNS = st.lists(st.fixed_dictionaries({"role": ROLES, "content": st.text(max_size=3)}))


@given(TURNS)
def test_a_prompt_ends_with_the_last_user_turn(turns):
    try:
        prompt, answer, _ = split_turns([Turn(**turn) for turn in turns])
    except RowError:
        return
    begins = next(i for i, turn in enumerate(turns) if turn["role"] == "user")
    turns = [t for t in turns[:begins] if t["role"] == "system"] + turns[begins:]
    rest = turns[len(prompt) :]
    assert prompt == turns[: len(prompt)]
    assert prompt[-1]["role"] == "user"
    assert prompt[-1]["content"].strip()
    assert [turn["role"] for turn in rest] in ([], ["assistant"])
    assert answer is None or (answer.strip() and answer == rest[0]["content"])


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=5,
)
KEYS = st.sampled_from([key for layout in LAYOUTS.values() for key in layout.keys]
                       + [*layouts.SYSTEM, *layouts.CONTEXT, *layouts.QUERIES, *layouts.ANSWERS,
                          "options", "A", "B", "reasoning", "images", "kto_tag", "data", "is",
                          "en", "translation"])  # fmt: skip
TURN = st.fixed_dictionaries(
    {}, optional={"role": JSON | ROLES, "content": JSON, "from": JSON, "value": JSON}
)


@settings(max_examples=100, deadline=None)
@given(st.dictionaries(KEYS, JSON | st.lists(JSON | TURN)))
def test_any_row_is_read_or_set_aside(row):
    reader = Reader(candidates("auto", {}))
    with contextlib.suppress(RowError):
        prompt, _, _ = reader.read(row)
        assert prompt[-1]["role"] == "user"
        [taken] = reader.notes.layouts.values()
        left = {name.partition(" (")[0].partition(".")[0] for name in reader.notes.left_out}
        held = {name for name, value in row.items() if not is_empty(value)}
        assert held <= set(taken.used) | left, "a column is used or named as left out"
