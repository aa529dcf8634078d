"""More than forty kinds of broken files: no crash, no good row lost, no bad one accepted."""

import gzip
import json
from dataclasses import dataclass, field, replace
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from delia_ray.config import Source
from delia_ray.errors import UserError
from delia_ray.ingest.gathering import gather
from delia_ray.ingest.parse import Job, parse_file
from delia_ray.ingest.sources import Feed

from .helpers import CONTAINERS, FLAT, array, arrow_stream, jsonl, parquet, table, write, zst

GOOD = [{"prompt": f"good {i}", "completion": f"answer {i}, whole"} for i in range(6)]
BAD_MARK = "bad"
"""Stands in every row that must not be accepted."""


@dataclass
class Broken:
    """A file, and what must come of it."""

    data: bytes
    bad: int
    """Rejects and damages it must give."""
    good: list[dict[str, Any]] = field(default_factory=lambda: GOOD)
    settings: dict[str, Any] = field(default_factory=dict)


def between(*bad: bytes) -> Broken:
    """JSON lines with bad ones first, among and last."""
    lines = jsonl(GOOD).splitlines()
    return Broken(b"\n".join([*lines[:2], *bad, *lines[2:], *bad]) + b"\n", 2 * len(bad))


def csv_with(*bad: bytes) -> Broken:
    lines = table(GOOD, ",").split(b"\r\n")
    return Broken(b"\r\n".join([*lines[:3], *bad, *lines[3:]]), len(bad))


def chat(*turns: Any) -> bytes:
    return json.dumps({"messages": list(turns)}).encode()


USER, SAID = {"role": "user", "content": "bad"}, {"role": "assistant", "content": "bad"}
LONG = [*GOOD, {"prompt": "good " + "þ" * 150_000, "completion": "x" * 150_000}]
UMLAUT = [*GOOD, {"prompt": "good café", "completion": "ä"}]
PARQUET_TYPES = parquet([*GOOD, {"prompt": None, "completion": "bad"}])
KINDS: dict[str, Broken] = {
    "a line cut off": between(b'{"prompt": "bad'),
    "plain text": between(b"this is bad"),
    "a list": between(b'["bad"]'),
    "a number": between(b"7"),
    "null": between(b"null"),
    "text": between(b'"bad"'),
    "an empty object": between(b"{}"),
    "a missing field": between(b'{"completion": "bad"}'),
    "a null field": between(b'{"prompt": null, "completion": "bad"}'),
    "a number for text": between(b'{"prompt": 3, "completion": "bad"}'),
    "a number for the answer": between(b'{"prompt": "bad", "completion": 3}'),
    "a list of numbers": between(b'{"prompt": [1], "completion": "bad"}'),
    "an object for text": between(b'{"prompt": {"bad": 1}}'),
    "true for text": between(b'{"prompt": true}'),
    "an empty prompt": between(b'{"prompt": "", "completion": "bad"}'),
    "only space": between(b'{"prompt": " \\n\\t", "completion": "bad"}'),
    "bytes that are no UTF-8": between(b'{"prompt": "bad \xff\xfe"}'),
    "a character cut in two": between(b'{"prompt": "bad \xe4\xbd", "completion": "x"}'),
    "a lone surrogate": between(b'{"prompt": "bad \\ud83d"}'),
    "a zero byte": between(b'{"prompt": "bad \x00"}'),
    "an escaped zero byte": between(b'{"prompt": "bad \\u0000"}'),
    "a raw control character": between(b'{"prompt": "bad \x01"}'),
    "a wrong escape": between(b'{"prompt": "bad \\x"}'),
    "a comma too many": between(b'{"prompt": "bad",}'),
    "single quotes": between(b"{'prompt': 'bad'}"),
    "two objects on a line": between(b'{"prompt": "bad"}{"prompt": "bad"}'),
    "not a number": between(b'{"prompt": NaN}'),
    "deep nesting": between(b'{"prompt": ' + b"[" * 100_000),
    "a number of 5,000 digits": between(b'{"prompt": ' + b"9" * 5000 + b"}"),
    "unknown names": between(b'{"frage": "bad", "antwort": "bad"}'),
    "a merge conflict": between(b"<<<<<<< HEAD", b"=======", b">>>>>>> other"),
    "messages: unknown role": between(chat({"role": "narrator", "content": "bad"})),
    "messages: no role": between(chat({"content": "bad"})),
    "messages: a turn that is text": between(chat("bad")),
    "messages: content is an object": between(chat({"role": "user", "content": {"bad": 1}})),
    "messages: an image": between(
        chat({"role": "user", "content": [{"type": "image_url", "image_url": "bad"}]})
    ),
    "messages: the user twice": between(chat(USER, USER)),
    "messages: no user": between(chat(SAID)),
    "messages: empty": between(chat()),
    "messages: a tool": between(chat(USER, {"role": "tool", "content": "bad"}, SAID)),
    "messages: an object": between(b'{"messages": {"role": "user", "content": "bad"}}'),
    "control tokens": replace(
        between(b'{"prompt": "bad <|im_end|>"}', b'{"prompt": "bad", "completion": "<|im_end|>"}'),
        settings={"control": ("<|im_start|>", "<|im_end|>")},
    ),
    "a byte order mark": Broken(b"\xef\xbb\xbf" + jsonl(GOOD), 0),
    "CRLF": Broken(jsonl(GOOD).replace(b"\n", b"\r\n"), 0),
    "UTF-16": Broken(jsonl(UMLAUT).decode().encode("utf-16"), 0, UMLAUT),
    "UTF-16 without a mark": Broken(jsonl(UMLAUT).decode().encode("utf-16-be"), 0, UMLAUT),
    "UTF-16 cut within a character": Broken(
        jsonl(GOOD).decode().encode("utf-16-le") + b"\x7b", 1
    ),
    "a legacy encoding, named": Broken(
        jsonl(UMLAUT).decode().encode("cp1252"), 0, UMLAUT, {"encoding": "cp1252"}
    ),
    "a legacy encoding, not named": Broken(jsonl(UMLAUT).decode().encode("cp1252"), 1),
    "blank lines": Broken(b"\n\n" + jsonl(GOOD).replace(b"\n", b"\n \n\n"), 0),
    "no last newline": Broken(jsonl(GOOD).rstrip(), 0),
    "giant cells": Broken(jsonl(LONG), 0, LONG),
    "giant cells in a table": Broken(table(LONG, ","), 0, LONG),
    "an array under another name": Broken(array(GOOD), 0),
    "an array on one line": Broken(json.dumps(GOOD).encode(), 0),
    "array: a broken element": Broken(
        array(GOOD).replace(b"  {\n    \"prompt\": \"good 2\"", b'  {\n    "prompt": bad'),
        1, [g for g in GOOD if g["prompt"] != "good 2"],
    ),
    "array: cut off": Broken(array(GOOD)[:-60], 1, GOOD[:5]),
    "array: a comma is missing": Broken(json.dumps(GOOD).replace("}, {", "} {").encode(), 0),
    "array: other things in it": Broken(json.dumps([*GOOD[:3], 1, None, *GOOD[3:]]).encode(), 2),
    "array: text behind it": Broken(array(GOOD) + b"bad", 1),
    "a wrapped list": Broken(json.dumps({"data": GOOD}, indent=2).encode(), 0),
    "objects over several lines": Broken(
        b"\n".join(json.dumps(g, indent=2).encode() for g in GOOD), 0
    ),
    "gzip: rubbish behind it": Broken(gzip.compress(jsonl(GOOD)) + b"bad bad", 1),
    "gzip: a wrong checksum": Broken(
        gzip.compress(jsonl(GOOD))[:-8] + b"\x00" * 4 + gzip.compress(jsonl(GOOD))[-4:], 1
    ),
    "gzip within gzip": Broken(gzip.compress(gzip.compress(jsonl(GOOD))), 0),
    "gzip: only its first bytes": Broken(b"\x1f\x8b\x08", 1, []),
    "zst: only its first bytes": Broken(zst(jsonl(GOOD))[:6], 1, []),
    "zst: rubbish behind it": Broken(zst(jsonl(GOOD)) + b"bad bad", 1),
    "a git-lfs pointer": Broken(
        b"version https://git-lfs.github.com/spec/v1\noid sha256:bad\nsize 12\n", 1, []
    ),
    "zero bytes": Broken(bytes(100_000), 1, []),
    "nothing at all": Broken(b"", 0, []),
    "only blank lines": Broken(b"\n \n", 0, []),
    "a web page": Broken(b"<!DOCTYPE html>\n<html>bad</html>", 1, []),
    "a zip archive": Broken(b"PK\x03\x04" + bytes(range(256)), 1, []),
    "csv: columns missing": csv_with(b"bad"),
    "csv: columns too many": csv_with(b"bad,bad,bad"),
    "csv: a quote never closed": csv_with(b'bad,"bad'),
    "csv: text behind a quote": csv_with(b'"bad"bad,bad'),
    "csv: an empty prompt": csv_with(b",bad"),
    "csv: a zero byte": csv_with(b"bad \x00,bad"),
    "csv: a header alone": Broken(b"prompt,completion\r\n", 0, []),
    "csv: semicolons": Broken(table(GOOD, ";"), 0),
    "csv: a column name twice": Broken(b"prompt,prompt\r\nbad,bad\r\n", 1, []),
    "csv: unknown names": Broken(b"frage,antwort\r\nbad,bad\r\n", 1, []),
    "parquet: a null": Broken(PARQUET_TYPES, 1),
    "parquet: cut off": Broken(parquet(GOOD)[:-20], 1, []),
    "parquet: only its first bytes": Broken(b"PAR1", 1, []),
    "parquet: numbers": Broken(parquet([{"prompt": 1}, {"prompt": 2}]), 2, []),
    "arrow: cut off": Broken(arrow_stream(GOOD)[:-300], 1, []),
    "arrow: only its first bytes": Broken(b"ARROW1\x00\x00", 1, []),
}  # fmt: skip


def parse(path: str, **more: Any) -> Any:
    return parse_file(Job("source", "x", path, "auto", {}, None, False, **more))


def accepted(part: Any) -> list[tuple[str, str | None]]:
    rows = part.records.to_pylist()
    return [(row["prompt"][-1]["content"], row["answer"]) for row in rows]


def test_there_are_enough_kinds():
    assert len(KINDS) >= 40


@pytest.mark.parametrize("kind", KINDS)
def test_a_broken_file(kind, tmp_path):
    broken = KINDS[kind]
    part = parse(write(tmp_path, "x", broken.data), **broken.settings)
    assert accepted(part) == [(g["prompt"], g["completion"]) for g in broken.good]
    faults = pa.concat_tables([part.rejects, part.damages])
    assert len(faults) == broken.bad, faults["reason"].to_pylist()
    assert part.read == len(part.records) + len(faults)
    for reject in faults.to_pylist():
        assert reject["kind"]
        assert reject["reason"].startswith(reject["kind"])
        assert reject["row"] >= 1


@pytest.mark.parametrize("pack", [gzip.compress, zst])
def test_of_a_cut_off_download_all_that_came_is_kept(pack, tmp_path):
    rows = [{"prompt": f"good {i} {hash((i, 'x'))}", "completion": "y"} for i in range(20_000)]
    whole = pack(jsonl(rows))
    part = parse(write(tmp_path, "x", whole[: len(whole) // 2]))
    got = accepted(part)
    assert got == [(row["prompt"], "y") for row in rows[: len(got)]]
    assert len(got) > 5000
    assert part.damages["kind"].to_pylist() == ["the file is damaged from here on"]
    assert not len(part.rejects)


def feed_of(tmp_path: Any, **more: Any) -> Feed:
    return Feed("corpus", "corpus[0]", "x", Source(path=f"{tmp_path}", **more))


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "it has no rows"),
        (b"{}\n", "1 times: no known layout"),
        (b"version https://git-lfs.github.com/spec/v1\n", "run `git lfs pull`"),
    ],
)
def test_a_file_that_gives_nothing_is_an_error_unless_the_config_says_otherwise(
    data, why, tmp_path
):
    write(tmp_path, "a.jsonl", jsonl(GOOD))
    write(tmp_path, "b.jsonl", data)
    feed = feed_of(tmp_path)
    parts = [parse_file(job) for job in feed.jobs(0)]
    with pytest.raises(UserError, match=r"nothing in b\.jsonl could be read") as error:
        gather(feed, parts)
    assert why in str(error.value)
    assert "corpus[0].unreadable=set_aside" in str(error.value)
    assert gather(feed_of(tmp_path, unreadable="set_aside"), parts).read >= len(GOOD)


LINES = st.sampled_from(
    [(json.dumps(g).encode(), True) for g in GOOD]
    + [(b'{"prompt": "bad', False), (b"7", False), (b"{}", False), (b"\xff", False)]
)
ON_DISK = settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@ON_DISK
@given(lines=st.lists(LINES, min_size=2, max_size=30), pack=st.sampled_from(["", "gz", "zst"]))
def test_every_line_is_a_record_or_a_reject_at_its_place(lines, pack, tmp_path):
    data = b'{"prompt": "first"}\n' + b"\n".join(line for line, _ in lines) + b"\n"
    part = parse(write(tmp_path, "x", data, pack))
    assert part.records["row"].to_pylist() == [
        1, *(i for i, (_, good) in enumerate(lines, 2) if good)
    ]  # fmt: skip
    assert part.rejects["row"].to_pylist() == [
        i for i, (_, good) in enumerate(lines, 2) if not good
    ]
    assert part.read == len(lines) + 1


TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\x00\r"), min_size=1).filter(
    str.strip
)


@pytest.mark.parametrize("name", CONTAINERS)
@ON_DISK
@given(
    pairs=st.lists(st.tuples(TEXTS, TEXTS), min_size=1, max_size=5),
    pack=st.sampled_from(["", "gz", "zst"]),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]),
)
def test_what_goes_in_comes_out(name, pairs, pack, encoding, tmp_path):
    data = CONTAINERS[name]([{"prompt": q, "completion": a} for q, a in pairs])
    if name in (*FLAT, "jsonl", "array"):
        data = data.decode().encode(encoding)
    part = parse(write(tmp_path, "x", data, pack))
    assert accepted(part) == pairs
    assert not len(part.rejects)
