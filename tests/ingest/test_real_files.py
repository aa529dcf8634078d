"""Published files as people have them; skipped where the folder beside the tree is missing."""

from pathlib import Path

import pytest

from delia_ray.ingest.parse import Job, parse_file

DATA = Path(__file__).parents[3] / "shared" / "data"
pytestmark = pytest.mark.skipif(not DATA.is_dir(), reason=f"no real data in {DATA}")
GSM8K = {"prompt": "question", "completion": "answer"}


def parse(name, columns=None, answers=False):
    return parse_file(Job(name, name, str(DATA / name), "auto", columns or {}, None, answers))


@pytest.mark.parametrize(
    ("name", "columns", "records", "rejects", "without_answer"),
    [
        ("native/delia/train_dataset.jsonl", {}, 100, {}, 0),  # no newline at the end
        ("native/delia/train_dataset.parquet", {}, 100, {}, 0),
        ("native/alpaca/alpaca_data_first500.json", {}, 500, {}, 1),
        ("native/alpaca/alpaca_tiny_with_text.json", {}, 100, {}, 0),
        ("native/gsm8k/train_first1000.jsonl", GSM8K, 1000, {}, 0),
        ("native/awesome_prompts/prompts.csv", {"prompt": "prompt"}, 210,
         {"wrong number of columns": 1}, 210),
        ("native/wmt21/newsdev2021.is-en.csv", {"prompt": "is", "completion": "en"}, 2004, {}, 0),
        ("native/wmt21/newsdev2021.is-en.parquet",
         {"prompt": "translation.is", "completion": "translation.en"}, 2004, {}, 0),
        ("native/halueval/general_data.public.json",  # JSONL under another name, CRLF
         {"prompt": "user_query", "completion": "chatgpt_response"}, 3000, {}, 0),
        ("native/instruction_wild/user_2.jsonl", {}, 246, {"not valid JSON": 2}, 246),
        ("native/sharegpt/dummy_conversation.json", {}, 500, {}, 0),
        ("native/sharegpt/glaive_toolcall_en_demo.json", {}, 147, {"unknown role": 153}, 0),
        ("native/p3_prompt_completion/common_gen_Put_together.jsonl", {}, 200, {}, 0),
        ("native/ifeval/input_data.public.jsonl", {}, 300, {}, 300),
        ("native/alpaca_zh/alpaca_data-0-3252-zh.json", {}, 3247, {}, 4),
    ],
)  # fmt: skip
def test_native_files(name, columns, records, rejects, without_answer):
    part = parse(name, columns)
    kinds = part.rejects["kind"].to_pylist()
    assert len(part.records) == records
    assert {kind: kinds.count(kind) for kind in kinds} == rejects
    assert part.read == records + len(kinds)
    assert part.records["answer"].null_count == without_answer


def test_alpaca_is_the_same_in_every_layout_and_container():
    names = ["native/alpaca/alpaca_data.json.gz", "native/alpaca/alpaca.parquet",
             "messages/alpaca_52k.jsonl.gz"]  # fmt: skip
    parts = [parse(name) for name in names]
    for part in parts:
        assert part.read == len(part.records) == 52_002
        assert part.records["answer"].null_count == 28
        assert part.records["id"].equals(parts[0].records["id"])


def test_uniform_files():
    files = sorted((DATA / "messages").glob("*.jsonl*"))
    assert len(files) == 20
    for file in files:
        if "alpaca_52k" not in file.name:
            part = parse(f"messages/{file.name}")
            assert part.read == len(part.records) > 10
            assert not len(part.rejects)


def test_a_query_without_an_answer_is_no_downstream_row():
    part = parse("native/ifeval/input_data.public.jsonl", answers=True)
    assert not len(part.records)
    assert set(part.rejects["kind"].to_pylist()) == {"no answer"}


def test_constraints_of_ifeval():
    name = "native/ifeval/input_data.public.jsonl"
    part = parse_file(Job(name, name, str(DATA / name), "ifeval", {}, None, True))
    assert len(part.records) == 286
    assert part.rejects["kind"].to_pylist() == [
        "unsupported instruction language:response_language"
    ] * 14  # fmt: skip
