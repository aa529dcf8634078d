"""Tables and JSON that is not in lines: every line, object and character is in some count."""

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from delia_ray.ingest.containers import read_rows
from delia_ray.ingest.rows import Bad, Damage, Facts, Reading

from .helpers import jsonl, write

ON_DISK = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
NAMES = frozenset({"prompt", "completion", "instruction", "output", "input", "question"})


def read(path, **reading):
    facts = Facts()
    name = path.rsplit("/", 1)[-1]
    found = list(read_rows(path, Reading(**{"name": name, "names": NAMES} | reading), facts))
    return found, facts


def rows(found):
    return [row for _, row in found if not isinstance(row, Bad)]


def reasons(found):
    return [(number, row.reason) for number, row in found if isinstance(row, Bad)]


A, B, C, D = ({"instruction": c, "output": str(i)} for i, c in enumerate("abcd"))


@pytest.mark.parametrize(
    "text",
    [
        json.dumps({"data": [A, B]}),
        json.dumps({"data": [A, B]}, indent=1),
        json.dumps({"canary": "do not train", "examples": [A, B]}),
        json.dumps({"version": 1.0, "rows": [A, B], "license": {"name": "x"}}) + "\n\n",
        json.dumps({"instruction": {"0": "a", "1": "b"}, "output": {"0": "0", "1": "1"}}),
        json.dumps({"instruction": {"7": "a", "3": "b"}, "output": {"7": "0", "3": "1"}}),
        json.dumps({"instruction": ["a", "b"], "output": ["0", "1"]}),
        json.dumps({"columns": list(A), "index": [0, 1], "data": [list(A.values()),
                                                                  list(B.values())]}),
        json.dumps({"first": A, "second": B}),
        json.dumps({"train": [A, B], "test": [C]}),
        json.dumps([A]) + "\n" + json.dumps([B]),
        json.dumps([A], indent=1) + "\n" + json.dumps([B], indent=1),
        json.dumps([A]) + json.dumps(B),
        json.dumps(A, indent=1) + "\n\ufeff" + json.dumps(B, indent=1),
        json.dumps([A]) + "\n\ufeff" + json.dumps([B]),
        json.dumps(A) + "\n\ufeff" + json.dumps(B) + "\n",
    ],
)  # fmt: skip
def test_rows_however_json_holds_them(text, tmp_path):
    found, facts = read(write(tmp_path, "x.json", text.encode()))
    assert rows(found) == [A, B]
    assert not reasons(found)
    assert facts.characters == facts.inside + facts.between + facts.broken


@pytest.mark.parametrize(
    "text",
    [
        json.dumps({"messages": [{"role": "user", "content": "q"}]}),
        json.dumps({"chosen": [{"role": "user", "content": "q"}], "rejected": []}),
        json.dumps({"question": "q", "choices": [{"text": "x"}, {"text": "y"}]}),
        json.dumps({"translation": {"is": "já", "en": "yes"}}),
        json.dumps({"instruction": "a", "output": "1"}, indent=1),
    ],
)
def test_one_row_alone_is_a_row(text, tmp_path):
    found, _ = read(write(tmp_path, "x.json", text.encode()))
    assert rows(found) == [json.loads(text)]


def test_several_lists_without_a_split_are_an_error_that_names_them(tmp_path):
    text = json.dumps({"easy": [A], "hard": [B]}).encode()
    path = write(tmp_path, "x.json", text)
    found, _ = read(path)
    assert "easy, hard; name one as split" in found[0][1].detail
    found, facts = read(path, split="hard")
    assert rows(found) == [B]
    assert facts.unread == {"list easy": "split=hard"}


def test_a_long_object_is_gone_through_without_holding_it(tmp_path):
    many = [{"instruction": f"{i} " + "x" * 9000, "output": "y"} for i in range(2_000)]
    for text in (json.dumps({"note": "n", "of": {"x": [1]}, "data": many, "end": [1]}),
                 json.dumps({"data": many, "more": [A]}, indent=1)):  # fmt: skip
        found, facts = read(write(tmp_path, "x.json", text.encode()))
        assert rows(found) == many
        assert facts.characters == len(text) == facts.inside + facts.between
    assert list(facts.unread) == ["list more"]
    one = {"prompt": "x" * 9_000_000, "completion": "y"}
    for text, more in ((json.dumps(one), []), (json.dumps(one, indent=1), []),
                       (json.dumps(one) + "\n" + json.dumps(A), [A])):  # fmt: skip
        found, _ = read(write(tmp_path, "x.json", text.encode()))
        assert rows(found) == [one, *more]


@pytest.mark.parametrize(
    ("text", "good", "bad"),
    [
        ('[{"instruction": "a", "output": "0"},\n{"instruction": "b" "output": "1"},\n'
         '{"output": "2", "instruction": "c"},\n{"output": "3", "instruction": "d"}]', "acd", 1),
        ('[{"instruction": "a", "output": "0"}]\n[{"instruction" "b"}, '
         '{"output": "2", "instruction": "c"}]', "ac", 1),
        ('[{"instruction": "a", "output": "0"}, rubbish {"output": "3", "instruction": "d"}]',
         "ad", 1),
        ('[{"output": , "instruction": "x", "input": [{"k": 1}]}, '
         '{"output": "3", "instruction": "d"}]', "d", 1),
    ],
)  # fmt: skip
def test_behind_a_fault_every_readable_object_is_a_row(text, good, bad, tmp_path):
    found, facts = read(write(tmp_path, "x.json", text.encode()))
    assert "".join(row["instruction"] for row in rows(found)) == good
    assert len(reasons(found)) == bad
    assert "characters" in next(row for _, row in found if isinstance(row, Bad)).detail
    assert facts.characters == facts.inside + facts.between + facts.broken


@pytest.mark.parametrize(
    "text",
    [
        json.dumps([A, B])[:-12],
        json.dumps([A, B])[:-1],
        json.dumps([A, B], indent=1)[:-20],
        json.dumps(A) + "\n" + json.dumps(B)[:-6],
        json.dumps({"data": [A, B]})[:-8],
        json.dumps(A, indent=1) + json.dumps(B, indent=1)[:-4],
    ],
)
def test_json_that_is_cut_off_is_damaged(text, tmp_path):
    found, facts = read(write(tmp_path, "x.json", text.encode()))
    assert isinstance(found[-1][1], Damage)
    assert facts.damaged == 1
    if "data" not in text:
        assert rows(found)[0] == A


PAIRS = 'Hann sagði „já" og fór.\tHe said "yes" and left.\n"Nei" var svarið.\t"No" was it.\n'
OPEN = '"Opin gæsalöpp\tAn open quote\nSíðasta línan.\tThe last line.\n'


@pytest.mark.parametrize("text", [PAIRS + OPEN, OPEN + PAIRS, PAIRS, OPEN + OPEN,
                                  '"a\tb\nc"\td\n', (PAIRS + OPEN) * 50])  # fmt: skip
@pytest.mark.parametrize("packed", ["", "gz"])
def test_a_tsv_that_quotes_nothing_keeps_its_quotes_and_lines(text, packed, tmp_path):
    found, facts = read(write(tmp_path, "x.tsv", text.encode(), packed), header=False)
    expected = [dict(zip("01", line.split("\t"), strict=True)) for line in text.splitlines()]
    assert rows(found) == expected
    assert facts.lines == len(expected)
    assert "quotation marks are text" in facts.dialect


@pytest.mark.parametrize(
    ("text", "cells"),
    [
        ('a\t"b ""c"" d"\n"x\ny"\tz\n', ['b "c" d', "z"]),
        ('"a"\t"b"\n"c"\t"d"\n', ["b", "d"]),
        ('a\t"b\tc"\nd\te\n', ["b\tc", "e"]),
    ],
)
def test_a_quoted_tsv_is_read_as_one(text, cells, tmp_path):
    path = write(tmp_path, "x.tsv", text.encode())
    found, _ = read(path, header=False)
    assert [row["1"] for row in rows(found)] == cells
    found, _ = read(path, header=False, quoting="none")
    assert len(found) == text.count("\n")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("sep=;\nprompt;completion\nq1;a1\n", {"prompt": "q1", "completion": "a1"}),
        ('"sep=;"\r\nprompt;completion\r\nq1;a1\r\n', {"prompt": "q1", "completion": "a1"}),
        ("\ufeffsep=\t\nprompt\tcompletion\nq1\ta1\n", {"prompt": "q1", "completion": "a1"}),
        ("sep=|\nprompt|completion\nq,1|a1\n", {"prompt": "q,1", "completion": "a1"}),
        ('prompt, completion\n"Why?", "Because, yes."\n',
         {"prompt": "Why?", "completion": "Because, yes."}),
        ('prompt,  completion\nWhy, "Because."\n', {"prompt": "Why", "completion": "Because."}),
        ("prompt, completion\nWhy, because\n", {"prompt": "Why", "completion": " because"}),
        ("Íslenska;English\nJá, takk;Yes, please\n",
         {"Íslenska": "Já, takk", "English": "Yes, please"}),
        ("prompt\tcompletion\na | b | c | d\te\n", {"prompt": "a | b | c | d", "completion": "e"}),
        ("a | b | c\td\nx\ty\nz\tw\n", {"a | b | c": "x", "d": "y"}),
    ],
)  # fmt: skip
def test_dialects(text, expected, tmp_path):
    found, facts = read(write(tmp_path, "x.csv", text.encode()))
    assert rows(found)[0] == expected
    assert facts.lines == facts.header_lines + facts.rows


def test_tables_that_were_put_together_have_their_header_counted_once_more(tmp_path):
    one = "\ufeffprompt,completion\nq,a\n"
    found, facts = read(write(tmp_path, "x.csv", (one + one).encode()))
    assert rows(found) == [{"prompt": "q", "completion": "a"}] * 2
    assert facts.header_lines == 2


@pytest.mark.parametrize(
    ("name", "text", "reason"),
    [
        ("x.txt", "User: What is 2+2?\nAssistant: 4\n", "chat log"),
        ("x.txt", "Q: Why?\nA: Because.\n\nQ: Really?\nA: Yes.\n", "chat log"),
        ("x.txt", "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\nHo<|im_end|>\n",
         "chat log"),
        ("x.txt", "<p>One</p>\n<p>Two</p>\n", "text with markup"),
        ("x.is", '<doc id="1">\n<seg>Já</seg>\n</doc>\n', "text with markup"),
        ("x.en", '<?xml version="1.0"?>\n<doc/>\n', "web page or XML"),
    ],
)  # fmt: skip
def test_text_that_is_plainly_no_query_a_line(name, text, reason, tmp_path):
    path = write(tmp_path, name, text.encode())
    [(_, bad)], _ = read(path)
    assert bad.reason == f"no rows but a {reason}"
    found, facts = read(path, container="lines")
    assert len(found) == facts.lines == text.count("\n")


@pytest.mark.parametrize("name", ["isl_Latn.dev", "eng_Latn.devtest", "news.is", "queries.txt"])
def test_plain_text_is_a_query_a_line(name, tmp_path):
    text = "Í gær, eftir hádegi, fór hann.\nHún svaraði: já.\n"
    found, _ = read(write(tmp_path, name, text.encode()))
    assert [row["prompt"] for row in rows(found)] == text.splitlines()


LINES = st.lists(
    st.sampled_from(
        ['{"prompt": "q"}', "", "  ", '{"prompt": ', "[1]", "7", "\ufeff" + '{"prompt": "m"}',
         "prompt,completion", "a,b", '"a\nb",c', 'open "quote', '"never closed', "a,b,c", '"a"b,c',
         "a\tb", '"a\tb', "þ", "\ufeff"]
    ),
    max_size=12,
)  # fmt: skip


@ON_DISK
@given(lines=LINES, end=st.sampled_from(["", "\n", "\r\n"]), name=st.sampled_from(
    ["x.jsonl", "x.csv", "x.tsv", "x.txt"]), packed=st.sampled_from(["", "gz"]))  # fmt: skip
def test_every_line_is_in_some_count(lines, end, name, packed, tmp_path):
    text = "\n".join(lines) + end
    kind = {"x.txt": "lines"}.get(name, name[2:])
    found, f = read(write(tmp_path, name, text.encode(), packed), container=kind)
    own = text.removeprefix("\ufeff")
    if not own and text:
        return
    assert f.lines == own.count("\n") + (not own.endswith("\n") and bool(own))
    assert f.lines == f.blank + f.header_lines + f.continued + f.rows + f.faults + f.damaged
    assert f.rows + f.faults + f.damaged == len(found)


PARTS = st.lists(
    st.sampled_from([json.dumps(A), json.dumps(B), "[", "]", ",", " ", "\n", "{", "}", '"',
                     "\ufeff", "null", "x", json.dumps([C, D]), '{"instruction": "broken" "x"}']),
    max_size=14,
)  # fmt: skip


@ON_DISK
@given(parts=PARTS, kind=st.sampled_from(["array", "objects"]))
def test_every_character_is_in_some_count(parts, kind, tmp_path):
    text = "".join(parts)
    found, f = read(write(tmp_path, "x.json", text.encode()), container=kind)
    assert f.characters == len(text.removeprefix("\ufeff"))
    assert f.characters == f.inside + f.between + f.broken
    assert f.rows + f.faults + f.damaged == len(found)


@ON_DISK
@given(good=st.lists(st.integers(0, 9), min_size=2, max_size=8), at=st.integers(0, 7))
def test_one_broken_row_costs_one_row(good, at, tmp_path):
    parts = [json.dumps({"output": "o", "instruction": str(i)}) for i in good]
    parts.insert(min(at, len(parts) - 1), '{"output": "x" "instruction": "broken"}')
    found, _ = read(write(tmp_path, "x.json", f"[{', '.join(parts)}]".encode()))
    assert [row["instruction"] for row in rows(found)] == list(map(str, good))
    assert len(reasons(found)) == 1


def test_nan_is_missing_and_infinity_a_number(tmp_path):
    path = write(tmp_path, "x", b'{"a": NaN, "b": -Infinity}\n' + jsonl([A]))
    assert rows(read(path)[0]) == [{"a": None, "b": float("-inf")}, A]
