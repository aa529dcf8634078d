"""A column of the type that Ray unpickles is read as bytes or refused, by everything that reads
tables, and nothing in it is executed."""

import base64
import io
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import ray.data  # noqa: F401  -- registers the types

from delia_ray.artifacts import Folder, open_storage
from delia_ray.errors import DeliaError
from delia_ray.ingest.containers import read_rows
from delia_ray.records import COMPLETION, SEQUENCE, TABLES, TOKENS
from delia_ray.store import Store, file_name, write_index
from delia_ray.synthesize.cache import Cache
from delia_ray.tables import extensions, open_arrow, open_arrow_stream, open_parquet

NAMES = ("ray.data.arrow_pickled_object", "ray.data.arrow_tensor", "ray.data.arrow_tensor_v2")


class Evil:
    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return (open, (str(self.mark), "w"))


@pytest.fixture
def evil(tmp_path: Path) -> bytes:
    return pickle.dumps(Evil(tmp_path / "MARK"))


@pytest.fixture(autouse=True)
def nothing_is_executed(tmp_path: Path) -> Any:
    yield
    assert not (tmp_path / "MARK").exists()


def _field(name: str, kind: pa.DataType, called: str = NAMES[0], said: bytes = b"") -> pa.Field:
    meta = {b"ARROW:extension:name": called.encode(), b"ARROW:extension:metadata": said}
    return pa.field(name, kind, metadata=meta)


def top(evil: bytes) -> pa.Table:
    return pa.table(
        [pa.array([evil], pa.large_binary())], pa.schema([_field("x", pa.large_binary())])
    )


def in_list(evil: bytes) -> pa.Table:
    kind = pa.list_(_field("item", pa.large_binary()))
    return pa.table([pa.array([[evil]], kind)], pa.schema([pa.field("x", kind)]))


def in_struct(evil: bytes) -> pa.Table:
    kind = pa.struct([_field("a", pa.large_binary())])
    return pa.table([pa.array([{"a": evil}], kind)], pa.schema([pa.field("x", kind)]))


def in_map(evil: bytes) -> pa.Table:
    kind = pa.map_(pa.string(), _field("value", pa.large_binary()))
    return pa.table([pa.array([[("k", evil)]], kind)], pa.schema([pa.field("x", kind)]))


def in_dictionary(evil: bytes) -> pa.Table:
    column = pa.array([evil], pa.large_binary()).dictionary_encode()
    return pa.table([column], pa.schema([_field("x", column.type)]))


def described_by_a_pickle(evil: bytes) -> pa.Table:
    """What some versions of Ray unpickle while the schema is read."""
    kind = pa.list_(pa.int64())
    return pa.table([pa.array([[1]], kind)], pa.schema([_field("x", kind, NAMES[1], evil)]))


SHAPES = [top, in_list, in_struct, in_map, in_dictionary, described_by_a_pickle]


def parquet(table: pa.Table) -> bytes:
    sink = io.BytesIO()
    pq.write_table(table, sink)
    return sink.getvalue()


def arrow(table: pa.Table, opener: Callable[..., Any] = pa.ipc.new_file) -> bytes:
    sink = io.BytesIO()
    with opener(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue()


@pytest.mark.parametrize("shape", SHAPES)
def test_each_kind_of_file_gives_storage(shape: Callable[[bytes], pa.Table], evil: bytes) -> None:
    table = shape(evil)
    file, stream = arrow(table), arrow(table, pa.ipc.new_stream)
    readers = [open_arrow(io.BytesIO(file)), open_arrow_stream(io.BytesIO(stream))]
    for reader in readers:
        found = reader.read_all()
        assert list(extensions(found.schema)) == ["x"]
        assert len(found.to_pylist()) == 1
    found = open_parquet(io.BytesIO(parquet(table))).read()
    assert len(found.to_pylist()) == 1
    assert not any(isinstance(f.type, pa.BaseExtensionType) for f in found.schema)


def test_pyarrow_alone_would_execute_it(tmp_path: Path, evil: bytes) -> None:
    pq.read_table(io.BytesIO(parquet(top(evil)))).to_pylist()
    assert (tmp_path / "MARK").exists()
    (tmp_path / "MARK").unlink()


@pytest.mark.parametrize("change", ["twice", "not base64", "long header"])
def test_a_schema_that_hides_its_names_is_not_taken(change: str, evil: bytes) -> None:
    data = parquet(top(evil))
    size = int.from_bytes(data[-8:-4], "little")
    footer, key = data[-8 - size : -8], b"\x18\x0cARROW:schema\x18"
    at = footer.index(key)
    if change == "twice":
        footer = footer[:at] + footer[at:].replace(b"ARROW:schema", b"ARROW:schema", 1)
        footer = footer.replace(b"parquet-cpp", b"ARROW:schema"[:11], 1)
    elif change == "not base64":  # a decoder that passes over what it does not know
        value = at + len(key) + 2
        footer = footer[:value] + b"!" + footer[value + 1 :]
    else:  # the same field with its number written out
        footer = footer[:at] + b"\x08\x02\x0c" + footer[at + 2 :]
    data = data[: -8 - size] + footer + len(footer).to_bytes(4, "little") + b"PAR1"
    try:
        found = open_parquet(io.BytesIO(data)).read()
    except (pa.ArrowException, OSError):
        return
    assert not any(isinstance(f.type, pa.BaseExtensionType) for f in found.schema)
    found.to_pylist()


@pytest.mark.parametrize("container", ["parquet", "arrow", "stream"])
def test_a_corpus_with_such_a_column_is_read_without_it(
    container: str, evil: bytes, tmp_path: Path
) -> None:
    text = pa.table({"prompt": ["Why?"], "completion": ["So."]})
    table = text.append_column(_field("x", pa.large_binary()), top(evil).column(0))
    data = {"parquet": parquet, "arrow": arrow,
            "stream": lambda t: arrow(t, pa.ipc.new_stream)}[container](table)  # fmt: skip
    file = tmp_path / "rows"
    file.write_bytes(data)
    rows = [row for _, row in read_rows(str(file))]
    assert [(row["prompt"], row["completion"]) for row in rows] == [("Why?", "So.")]


@pytest.mark.parametrize("name", sorted(TABLES))
def test_no_table_of_a_stage_may_have_one(name: str, evil: bytes, tmp_path: Path) -> None:
    schema = TABLES[name]
    file = tmp_path / f"{name}.parquet"
    nulls = pa.Table.from_arrays(
        [pa.nulls(1, f.type) for f in schema], schema=pa.schema([(f.name, f.type) for f in schema])
    )
    more = nulls.append_column(_field("x", pa.large_binary()), top(evil).column(0))
    first = schema.names[0]
    instead = nulls.set_column(0, _field(first, pa.large_binary()), top(evil).column(0))
    folder = open_storage(str(tmp_path))
    for table in (more, instead):
        pq.write_table(table, file)
        for read in (
            lambda: folder.read_table(file.name).to_pylist(),
            lambda: folder.read_table(file.name, [first]).to_pylist(),
            lambda: folder.read_first(file.name, [first], 1).to_pylist(),
        ):
            with pytest.raises(DeliaError, match="arrow_pickled_object"):
                read()


def test_the_cache_and_parts_of_an_evaluation_refuse_it(evil: bytes, tmp_path: Path) -> None:
    row = {f.name: "k" if pa.types.is_string(f.type) else 0 for f in COMPLETION}
    one = pa.Table.from_pylist([row], COMPLETION)
    table = one.set_column(1, _field("text", pa.large_binary()), top(evil).column(0))
    pq.write_table(table, tmp_path / "part-1.parquet")
    cache = Cache(Folder(str(tmp_path)))
    for read in (cache.keys, lambda: cache.read(["k"])):
        with pytest.raises(DeliaError, match="arrow_pickled_object"):
            read()
    with pytest.raises(DeliaError, match="arrow_pickled_object"):
        Folder(str(tmp_path)).read_table("part-1.parquet", schema=COMPLETION)


def test_the_store_of_tokens_refuses_it(evil: bytes, tmp_path: Path) -> None:
    folder = open_storage(str(tmp_path))
    write_index(folder, "sequences", [1])
    rows = pa.table([pa.array([[1]], TOKENS.field(0).type)], names=["input_ids"])
    table = rows.append_column(_field("supervised", pa.large_binary()), top(evil).column(0))
    (tmp_path / file_name("sequences", 0)).write_bytes(arrow(table))
    with pytest.raises(DeliaError, match="supervised"):
        Store(folder, "sequences").row(0)
    assert SEQUENCE.names  # the table beside it is in TABLES


def test_other_text_of_the_same_words_stays() -> None:
    text = "ARROW:extension:name and ARROW:schema"
    table = pa.table({"prompt": [text] * 3})
    encoded = base64.b64encode(b"ARROW:extension:name").decode()
    table = table.append_column("b", pa.array([encoded] * 3))
    for found in (
        open_parquet(io.BytesIO(parquet(table))).read(),
        open_arrow(io.BytesIO(arrow(table))).read_all(),
        open_arrow_stream(arrow(table, pa.ipc.new_stream)).read_all(),
    ):
        assert found.to_pylist() == [{"prompt": text, "b": encoded}] * 3
