import json
from collections import Counter
from dataclasses import replace

import pytest

from delia_ray import miniature
from delia_ray.ingest.parse import Job, parse_file
from delia_ray.ingest.pool import pool_key
from delia_ray.records import EXAMPLE, QUERY, content_id

from .helpers import CONTAINERS, FLAT, jsonl, write

LAYOUTS = {
    "messages": lambda q, a: {
        "messages": [{"role": "user", "content": q}, {"role": "assistant", "content": a}]
    },
    "alpaca": lambda q, a: {"instruction": q, "input": "", "output": a},
    "prompt_completion": lambda q, a: {"prompt": q, "completion": a},
}
PAIRS = [(f"question {i}", f"answer {i}") for i in range(20)]


def job(path="", format="auto", limit=None, answers=True, columns=None, **more):
    return Job("src", "file", path, format, columns or {}, limit, answers, **more)


@pytest.mark.parametrize("gz", [False, True])
@pytest.mark.parametrize(
    ("layout", "container"),
    # A cell of a flat table holds no list of messages.
    [(la, co) for la in LAYOUTS for co in CONTAINERS if la != "messages" or co not in FLAT],
)
def test_each_layout_in_each_container(layout, container, gz, tmp_path):
    rows = [LAYOUTS[layout](*pair) for pair in PAIRS]
    path = write(tmp_path, "x", CONTAINERS[container](rows), gz)
    for format in ("auto", layout):
        part = parse_file(job(path, format))
        assert part.read == len(part.records) == len(PAIRS)
        assert not len(part.rejects)
        records = part.records.to_pylist()
        assert [(r["prompt"][0]["content"], r["answer"]) for r in records] == PAIRS
        assert [r["row"] for r in records] == list(range(1, 21))
        assert records[0]["id"] == content_id(records[0]["prompt"], records[0]["answer"])
        assert part.records.schema.equals(EXAMPLE)


def test_layouts_may_mix_in_one_file(tmp_path):
    rows = [make(*PAIRS[0]) for make in LAYOUTS.values()]
    part = parse_file(job(write(tmp_path, "x", jsonl(rows))))
    assert len(set(part.records["id"].to_pylist())) == 1
    assert len(part.records) == 3


def test_rejects_say_where_and_why(tmp_path):
    lines = jsonl([{"prompt": "a", "completion": "b"}]) + b'oops\n{"prompt": "c"}\n{"q": 1}\n'
    part = parse_file(job(write(tmp_path, "x", lines)))
    rejects = part.rejects.to_pylist()
    assert part.read == 4
    assert len(part.records) == 1
    assert [(r["row"], r["kind"]) for r in rejects] == [
        (2, "not valid JSON"), (3, "no answer"), (4, "no known layout"),
    ]  # fmt: skip
    assert rejects[0]["reason"] == "not valid JSON: Expecting value at column 1"
    assert rejects[2]["reason"] == "no known layout: columns q"
    assert rejects[2]["excerpt"] == '{"q": 1}'
    assert rejects[2]["file"] == "file"


def test_queries_need_no_answer_and_get_a_key(tmp_path):
    path = write(tmp_path, "x", jsonl([{"prompt": "a"}, {"prompt": "b", "completion": "\n"}]))
    part = parse_file(job(path, answers=False, weight=2.0, seed=5))
    records = part.records.to_pylist()
    assert [r["answer"] for r in records] == [None, None]
    assert [r["key"] for r in records] == [pool_key(5, r["id"], 2.0) for r in records]
    assert part.records.schema.equals(QUERY)


def test_text_that_is_not_utf8_is_set_aside_only_where_it_is_used(tmp_path):
    lines = b'{"prompt": "a", "note": "\xff"}\n{"prompt": "\xff"}\n{"prompt": "\\ud800"}\n'
    part = parse_file(job(write(tmp_path, "x", lines), answers=False))
    assert len(part.records) == 1
    assert part.rejects["kind"].to_pylist() == ["not valid UTF-8"] * 2


def test_behind_the_limit_rows_are_only_counted(tmp_path):
    path = write(tmp_path, "x", b"[1]\n" + jsonl([{"prompt": c} for c in "abc"]) + b"[2]\n")
    part = parse_file(job(path, answers=False, limit=2))
    assert (part.read, len(part.records), len(part.rejects)) == (5, 2, 1)


def test_more_rows_than_a_batch(tmp_path):
    path = write(tmp_path, "x", jsonl([{"prompt": str(i)} for i in range(20000)]))
    part = parse_file(job(path, answers=False))
    assert part.records["row"].to_pylist() == list(range(1, 20001))
    assert len(parse_file(job(path, answers=False, limit=9000)).records) == 9000


@pytest.mark.parametrize("name", sorted(miniature.PARTS))
def test_every_part_of_the_miniature_world(name):
    one = replace(job("", "miniature", limit=50), source=name)
    part = parse_file(one)
    assert part.read == len(part.records) == 50, Counter(part.rejects["reason"].to_pylist())
    assert part.records.equals(parse_file(one).records)


def test_two_aligned_files(tmp_path):
    one = write(tmp_path, "news.is", "Halló\n\nHeimur\r\n".encode())
    two = write(tmp_path, "news.en", b"Hello\n\nWorld\n")
    part = parse_file(job(one, aligned=two))
    assert part.records["answer"].to_pylist() == ["Hello", "World"]
    assert part.records["row"].to_pylist() == [1, 3]
    assert part.rejects["kind"].to_pylist() == ["empty translation"]


def test_aligned_files_of_different_length_are_not_trusted(tmp_path):
    one = write(tmp_path, "news.is", b"a\nb\nc\n")
    two = write(tmp_path, "news.en", b"a\nc\n")
    part = parse_file(job(one, aligned=two))
    assert (part.read, len(part.records)) == (3, 0)
    assert set(part.rejects["reason"].to_pylist()) == {"the two files differ in lines: 3 against 2"}


def test_control_tokens_are_set_aside_or_taken_out(tmp_path):
    rows = [
        {"prompt": "a", "completion": "b<|end|>"},
        {"prompt": "<|user|>", "completion": "b"},
        {"prompt": "c", "completion": "<|e<|end|>nd|>d"},
        {"prompt": "c", "completion": "d"},
    ]
    path = write(tmp_path, "x", jsonl(rows))
    control = ("<|end|>", "<|user|>")
    part = parse_file(job(path, control=control))
    assert part.rejects["kind"].to_pylist() == ["a control token of the chat template"] * 3
    part = parse_file(job(path, control=control, strip_control=True))
    assert part.records["answer"].to_pylist() == ["b", "d", "d"]
    assert part.rejects["kind"].to_pylist() == ["empty prompt"]


def test_rows_of_ifeval(tmp_path):
    ids, kwargs = ["punctuation:no_comma"], [{"num_words": None}]
    rows = [
        {"key": 1, "prompt": "Say no.", "instruction_id_list": ids, "kwargs": kwargs},
        {"prompt": "x", "instruction_id_list": ["language:response_language"],
         "kwargs": [{"language": "vi"}]},
        {"prompt": "x", "instruction_id_list": ["keywords:new"], "kwargs": [{}]},
        {"prompt": "x", "instruction_id_list": ids},
        {"prompt": "", "instruction_id_list": ids, "kwargs": kwargs},
    ]  # fmt: skip
    path = write(tmp_path, "x", jsonl(rows))
    part = parse_file(job(path, "ifeval"))
    [record] = part.records.to_pylist()
    assert record["prompt"] == [{"role": "user", "content": "Say no."}]
    assert json.loads(record["answer"]) == {"instruction_id_list": ids, "kwargs": [{}]}
    assert part.rejects["kind"].to_pylist() == [
        "unsupported instruction language:response_language", "unknown instruction", "no kwargs",
        "empty prompt",
    ]  # fmt: skip
    assert "needs a language detector" in part.rejects["reason"][0].as_py()
    # Without the format's name the prompts are queries like any others.
    assert parse_file(job(path, answers=False)).records["answer"].null_count == 4
