"""Classes by their names, and other things that only typed tables have."""

import io
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from delia_ray.ingest.labels import class_names
from delia_ray.ingest.parse import Job, parse_file

from .helpers import write

NAMES = {"names": ["neg", "pos"], "_type": "ClassLabel"}


def schema_of(features: object, **columns: pa.DataType) -> pa.Schema:
    meta = {"huggingface": json.dumps({"info": {"features": features}})}
    return pa.schema(list(columns.items()), metadata=meta)


def packed(table: pa.Table, container: str) -> bytes:
    sink = io.BytesIO()
    if container == "parquet":
        pq.write_table(table, sink)
    else:
        opener = {"stream": pa.ipc.new_stream, "file": pa.ipc.new_file}[container]
        with opener(sink, table.schema) as writer:
            writer.write_table(table)
    return sink.getvalue()


def parse(table, folder, container="parquet"):
    path = write(folder, "x", packed(table, container))
    return parse_file(Job("s", "x", path, "auto", {}, None, False))


@pytest.mark.parametrize("container", ["parquet", "stream", "file"])
def test_classes_are_answers_by_their_names(container, tmp_path):
    schema = schema_of({"answer": NAMES}, question=pa.string(), answer=pa.int64())
    rows = [{"question": f"q{i}", "answer": i} for i in (0, 1, -1, 2)]
    part = parse(pa.Table.from_pylist(rows, schema), tmp_path, container)
    assert part.records["answer"].to_pylist() == ["neg", "pos", None, None]


def test_the_letter_of_an_option_by_its_name(tmp_path):
    letters = {"names": ["A", "B"], "_type": "ClassLabel"}
    schema = schema_of(
        {"answer": letters},
        question=pa.string(),
        choices=pa.list_(pa.string()),
        answer=pa.int64(),
    )
    rows = [{"question": "Which?", "choices": ["blue", "seven"], "answer": 1}]
    [record] = parse(pa.Table.from_pylist(rows, schema), tmp_path).records.to_pylist()
    assert record["prompt"][0]["content"] == "Which?\n\nA. blue\nB. seven"
    assert record["answer"] == "B"


@pytest.mark.parametrize(
    "features",
    [{"answer": {"_type": "Value", "dtype": "int64"}}, {"answer": {**NAMES, "names": [1]}},
     {"answer": {"_type": "ClassLabel"}}, {"answer": 3}, [], "x", None],
)  # fmt: skip
def test_features_that_name_no_classes(features):
    assert class_names(schema_of(features, answer=pa.int64())) == {}


def test_metadata_that_is_no_json():
    for text in (b"{", b"[" * 100_000, b"[]", b"{}"):
        assert class_names(pa.schema([("a", pa.int64())], metadata={b"huggingface": text})) == {}


def test_maps_are_objects(tmp_path):
    turn = pa.map_(pa.string(), pa.string())
    chat = [[("role", "user"), ("content", "q")], [("role", "assistant"), ("content", "a")]]
    table = pa.table({"messages": pa.array([chat], pa.list_(turn))})
    [record] = parse(table, tmp_path).records.to_pylist()
    assert (record["prompt"][0]["content"], record["answer"]) == ("q", "a")
    pair = pa.array([[("is", "Halló"), ("en", "Hello")]], turn)
    [record] = parse(pa.table({"translation": pair}), tmp_path).records.to_pylist()
    assert record["answer"] == "Hello"
    same = pa.array([[("role", "user"), ("role", "user")]], turn)
    assert len(parse(pa.table({"note": same}), tmp_path).rejects) == 1


def test_a_struct_of_lists_is_a_list_of_turns(tmp_path):
    rows = [{"conversations": {"from": ["human", "gpt"], "value": ["hi", "ho"]}},
            {"conversations": {"from": ["human", "gpt"], "value": ["hi"]}}]  # fmt: skip
    part = parse(pa.Table.from_pylist(rows), tmp_path)
    assert part.records["answer"].to_pylist() == ["ho"]
    assert part.rejects["kind"].to_pylist() == ["messages is not a list"]
