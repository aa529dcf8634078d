import gzip
import io
import json

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from delia_ray.ingest.containers import container, read_rows
from delia_ray.ingest.rows import Bad, Reading

from .helpers import CONTAINERS, TEXT, array, jsonl, table, write

ROWS = [
    {"prompt": "plain", "completion": "x"},
    {"prompt": 'quotes " , and\ttabs', "completion": "two\nlines"},
    {"prompt": "þæð 你好 \u2028 😀", "completion": ""},
]


def read(path):
    return list(read_rows(path))


def faults(path):
    return [(number, row.reason) for number, row in read_rows(path) if isinstance(row, Bad)]


@pytest.mark.parametrize("packed", ["", "gz", "zst"])
@pytest.mark.parametrize("name", CONTAINERS)
def test_every_container_whatever_its_name(name, packed, tmp_path):
    path = write(tmp_path, "data.bin", CONTAINERS[name](ROWS), packed)
    assert read(path) == list(enumerate(ROWS, 1))


@pytest.mark.parametrize("name", TEXT)
def test_byte_order_mark(name, tmp_path):
    path = write(tmp_path, "x.jsonl", b"\xef\xbb\xbf" + CONTAINERS[name](ROWS))
    assert [row for _, row in read(path)] == ROWS


def test_jsonl_with_crlf_blank_lines_and_no_last_newline(tmp_path):
    path = write(tmp_path, "x", b'{"a": 1}\r\n\r\n  \r\n{"a": 2}')
    assert read(path) == [(1, {"a": 1}), (4, {"a": 2})]


def test_broken_lines_keep_their_numbers(tmp_path):
    lines = [b'{"a": 1}', b'{"a": ', b"[1]", b'"text"', b"null", b'{"a": 2}', b"\xff\xfe"]
    path = write(tmp_path, "x", b"\n".join(lines))
    rows = read(path)
    assert [row for _, row in rows if not isinstance(row, Bad)] == [{"a": 1}, {"a": 2}]
    assert faults(path) == [
        (2, "not valid JSON"), (3, "not an object"), (4, "not an object"),
        (5, "not an object"), (7, "not valid JSON"),
    ]  # fmt: skip
    assert rows[1][1].detail == "Expecting value at column 6"
    assert rows[1][1].excerpt == '{"a":'


@pytest.mark.parametrize("first", [b"[1, 2]", b"oops", b'"text"'])
def test_jsonl_is_known_behind_a_broken_first_line(first, tmp_path):
    path = write(tmp_path, "x", first + b"\n" + jsonl(ROWS))
    assert len(faults(path)) == 1
    assert [row for _, row in read(path)][1:] == ROWS


def test_array_on_one_line_and_empty(tmp_path):
    path = write(tmp_path, "x.jsonl", json.dumps(ROWS).encode() + b"\n")
    assert [row for _, row in read(path)] == ROWS
    assert read(write(tmp_path, "y", b" [ ] \n")) == []
    assert read(write(tmp_path, "z", b"")) == []


@pytest.mark.parametrize(
    ("text", "good", "number"),
    [
        (b'[{"a": 1}, {"a": ]', 1, 2),
        (b'[{"a": 1}, {"a": 2}', 2, 3),
        (b'[{"a": 1}] oops', 1, 2),
        (b'[{"a": 1}, 3]', 1, 2),
        (b"[", 0, 1),
    ],
)
def test_a_broken_array_keeps_what_stands_before(text, good, number, tmp_path):
    rows = read(write(tmp_path, "x", text))
    assert [row for _, row in rows[:good]] == [{"a": i + 1} for i in range(good)]
    assert rows[good][0] == number
    assert isinstance(rows[good][1], Bad)
    assert len(rows) == good + 1


@pytest.mark.parametrize(
    ("text", "rows", "bad"),
    [
        ('[{"a": 1} {"a": 2}]', [1, 2], []),  # a comma is missing
        ('[{"a": 1}, {"a": }, {"a": 3}]', [1, 3], [2]),
        ('[{"a": }, {"a": [}, {"a": 3}]', [3], [1, 2]),
        ('[\n {"a": 1},\n {"a": "x},\n {"a": 3}\n]', [1, 3], [2]),
        ('[{"a": 1} oops {"a": 3}]', [1, 3], [2]),
        ('[{"a": 1}, "{\\"a\\": 2}", {"a": 3}, 4', [1, 3], [2, 4, 5]),
    ],
)
def test_an_array_goes_on_behind_a_fault(text, rows, bad, tmp_path):
    found = read(write(tmp_path, "x", text.encode()))
    assert [row["a"] for _, row in found if not isinstance(row, Bad)] == rows
    assert [number for number, row in found if isinstance(row, Bad)] == bad


def test_csv_with_a_malformed_row(tmp_path):
    path = write(tmp_path, "x", b'a,b\r\n1,"two\r\nlines"\r\n1,2,3\r\n\r\n5,6\r\n')
    assert faults(path) == [(2, "wrong number of columns")]
    assert dict(read(path))[2].detail == "3 instead of 2 on line 4"
    assert dict(read(path))[3] == {"a": "5", "b": "6"}


def test_an_open_quote_does_not_swallow_the_rest_silently(tmp_path):
    path = write(tmp_path, "x", b'a,b\n1,2\n3,"four\n5,6\n7,8\n')
    assert faults(path) == [(2, "a quote is never closed")]
    assert dict(read(path))[2].detail == "from line 3 on"
    assert [row["a"] for _, row in read(path) if not isinstance(row, Bad)] == ["1", "5", "7"]


def test_carriage_returns_alone_end_lines(tmp_path):
    assert read(write(tmp_path, "x", b"a,b\r1,2\r")) == [(1, {"a": "1", "b": "2"})]


def test_semicolons_and_one_column(tmp_path):
    assert read(write(tmp_path, "x", b"a;b\n1,5;2\n")) == [(1, {"a": "1,5", "b": "2"})]
    assert read(write(tmp_path, "y", b"prompt\nhello there\n")) == [(1, {"prompt": "hello there"})]


@pytest.mark.parametrize("name", ["jsonl", "parquet"])
def test_a_cut_off_file_is_said_to_be_damaged(name, tmp_path):
    whole = gzip.compress(CONTAINERS[name](ROWS * 5000))
    path = write(tmp_path, "x.gz", whole[: len(whole) // 2])
    assert faults(path)[-1][1] in ("the file is damaged from here on", "not valid JSON")
    path = write(tmp_path, "y.parquet", CONTAINERS["parquet"](ROWS)[:-9])
    assert faults(path) == [(1, "the file is damaged from here on")]


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32"])
@pytest.mark.parametrize("name", TEXT)
def test_utf16_is_read(name, encoding, tmp_path):
    text = CONTAINERS[name](ROWS).decode()
    path = write(tmp_path, "x", text.encode(encoding))
    if encoding == "utf-16-be" and name == "array":
        text = text.lstrip()
    assert [row for _, row in read(path)] == ROWS


@pytest.mark.parametrize(
    ("start", "reason"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 9\n",
         "no rows but a git-lfs pointer"),
        (b"<!DOCTYPE html>\n<html><body>404</body></html>",
         "no rows but a web page or XML"),
        (b"PK\x03\x04rest", "the file is damaged from here on"),
        (bytes(5000), "no rows but a run of zero bytes"),
    ],
)  # fmt: skip
def test_what_is_no_data_is_named(start, reason, tmp_path):
    assert faults(write(tmp_path, "x.jsonl", start)) == [(1, reason)]


def test_plain_lines_by_name_and_by_setting(tmp_path):
    path = write(tmp_path, "news.en", b"One, two.\r\n\r\nThree.")
    assert [row["prompt"] for _, row in read(path)] == ["One, two.", "", "Three."]
    other = write(tmp_path, "news", b"One.\nTwo.\n")
    assert list(read_rows(other, Reading(container="lines")))[1] == (2, {"prompt": "Two."})


def test_a_named_encoding(tmp_path):
    path = write(tmp_path, "x.csv", "prompt\ncafé\n".encode("cp1252"))
    assert read(path)[0][1]["prompt"] == "caf\udce9"  # kept, and set aside where it is used
    assert list(read_rows(path, Reading(encoding="cp1252"))) == [(1, {"prompt": "café"})]


def test_objects_over_several_lines_and_a_wrapped_list(tmp_path):
    text = "\n".join(json.dumps(row, indent=2) for row in ROWS).encode()
    assert [row for _, row in read(write(tmp_path, "x.jsonl", text))] == ROWS
    wrapped = json.dumps({"data": ROWS}, indent=1).encode()
    assert [row for _, row in read(write(tmp_path, "y.json", wrapped))] == ROWS


def test_a_table_without_a_header(tmp_path):
    path = write(tmp_path, "x.tsv", b"ein Haus\ta house\nein Hund\ta dog\n")
    reading = Reading(header=None, names=frozenset({"de", "en"}))
    assert list(read_rows(path, reading))[1] == (2, {"0": "ein Hund", "1": "a dog"})
    path = write(tmp_path, "y.tsv", b"de\ten\nein Haus\ta house\n")
    assert list(read_rows(path, reading)) == [(1, {"de": "ein Haus", "en": "a house"})]


def test_one_bad_cell_of_a_binary_table(tmp_path):
    column = pa.array([0, 2**62], pa.timestamp("s"))
    sink = io.BytesIO()
    table = pa.table({"prompt": ["a", "b"], "when": column})
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    rows = read(write(tmp_path, "x.arrow", sink.getvalue()))
    assert rows[0][1]["prompt"] == "a"
    assert rows[1][1].reason == "a cell cannot be read"


def test_array_of_a_single_long_line_is_no_jsonl():
    assert container(array(ROWS * 1000)[: 64 * 1024]) == "array"


CELLS = st.text(st.characters(codec="utf-8", exclude_characters="\x00\r"), min_size=1)
SOME_ROWS = st.lists(
    st.fixed_dictionaries({"prompt": CELLS, "completion": CELLS}), min_size=1, max_size=5
)
ON_DISK = settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@pytest.mark.parametrize("name", CONTAINERS)
@ON_DISK
@given(rows=SOME_ROWS)
def test_what_was_written_is_read(name, rows, tmp_path):
    path = write(tmp_path, "x", CONTAINERS[name](rows))
    assert [row for _, row in read(path)] == rows


@ON_DISK
@given(data=st.binary(max_size=200))
def test_any_bytes_are_read_or_set_aside(data, tmp_path):
    for prefix in (b"", b"[", b"{", b"PAR1", b"\x1f\x8b", b"a,b\n", b'{"a": 1}\n'):
        numbers = [number for number, _ in read(write(tmp_path, "x", prefix + data))]
        assert numbers == sorted(set(numbers))
        assert all(number > 0 for number in numbers)


def test_tabs_win_over_commas_in_cells(tmp_path):
    rows = [{"prompt": "a, b, c", "completion": "d"}]
    assert read(write(tmp_path, "x.csv", table(rows, "\t"))) == [(1, rows[0])]


def test_what_only_looks_like_an_array_is_set_aside(tmp_path):
    """A vertical tab is space to Python, not to JSON."""
    path = write(tmp_path, "x", b"\x0b[1]")
    assert faults(path) == [(1, "not valid JSON")]
