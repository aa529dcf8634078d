"""What a file is, told from its first bytes."""

import json
import re

from delia_ray.ingest.dialect import dialect_of, first_record
from delia_ray.ingest.json_rows import chat_of, is_json
from delia_ray.ingest.languages import language_of_file
from delia_ray.ingest.names import SUFFIXES, bare
from delia_ray.ingest.opening import decode_head
from delia_ray.ingest.rows import Reading

CONTAINERS = (
    "jsonl", "array", "objects", "csv", "tsv", "parquet", "arrow", "lines", "tmx", "xlsx",
)  # fmt: skip
"""What ``Source.container`` may name."""
COLUMNAR = ("parquet", "arrow")

_MAGIC = (
    (b"PAR1", "parquet"),
    (b"ARROW1", "arrow"),
    (b"\xff\xff\xff\xff", "arrow"),
    (b"version https://git-lfs.github.com/", "git-lfs pointer"),
    (b"PK\x03\x04", "zip archive (or office document)"),
    (b"BZh", "bzip2 file"),
    (b"\xfd7zXZ", "xz file"),
    (b"7z\xbc\xaf", "7z archive"),
    (b"Rar!\x1a\x07", "RAR archive"),
    (b"\x04\x22\x4d\x18", "lz4 file"),
    (b"\x1f\x9d", "file packed by compress (.Z)"),
    (b"\xff\x06\x00\x00sNaPpY", "snappy file"),
    (b"SQLite format 3", "SQLite database"),
    (b"%PDF", "PDF"),
    (b"\x80\x04", "Python pickle"),
    (b"\x80\x05", "Python pickle"),
    (b"\x89HDF", "HDF5 file"),
    (b"\x93NUMPY", "NumPy array"),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "old Excel or Word document (.xls, .doc)"),
    (b"Obj\x01", "Avro file"),
    (b"ORC", "ORC file"),
)
_SAVE_AS = "save it as JSON lines, parquet or CSV"
ADVICE = {
    "git-lfs pointer": "the data itself was not downloaded: run `git lfs pull`",
    "chat log": "say container: lines to take each line as a query",
    "text with markup": "say container: lines to take each line as a query",
    "old Excel or Word document (.xls, .doc)": "save it as .xlsx or CSV",
    "binary Excel workbook": "save it as .xlsx or CSV",
    "7z archive": "unpack it", "RAR archive": "unpack it", "lz4 file": "unpack it",
    "snappy file": "unpack it", "file packed by compress (.Z)": "unpack it",
    **dict.fromkeys(
        ["Word document", "PowerPoint presentation", "OpenDocument file", "SQLite database", "PDF",
         "Python pickle", "PyTorch checkpoint", "HDF5 file", "NumPy array", "NumPy archive",
         "Avro file", "ORC file"],
        _SAVE_AS,
    ),
}  # fmt: skip
"""What to do with what is no container of rows."""

_XML = re.compile(r"\s*(?:<\?xml|<!doctype|<html|<!--|<[a-z][\w:.-]*[\s/>])", re.IGNORECASE)
_TMX = re.compile(r"<tmx[\s>]", re.IGNORECASE)
_SPEAKER = re.compile(
    r"\W*(?:user|human|person|prompter|customer|you|me|assistant|bot|chatbot|ai|gpt|chatgpt|"
    r"model|agent|system|q|a|question|answer|frage|antwort)(?:\s?\d{1,2})?\W{0,3}:(?:\s|$)",
    re.IGNORECASE,
)
_TURN = re.compile(r"<\|?(?:im_start|im_end|user|assistant|system|start_header_id)\|?>|\[/?INST\]")
_TAG = re.compile(r"\s*</?[A-Za-z][^<>]{0,200}>")
_FEW = 200
"""Lines by which a text is known for a chat log or markup."""


def container(head: bytes, reading: Reading | None = None, encoding: str = "utf-8") -> str:
    """One of `CONTAINERS`, told from the first bytes, or what the file is instead."""
    for magic, kind in _MAGIC:
        if head.startswith(magic) and encoding != "utf-32":
            return kind
    if not head.strip(b"\0"):
        return "run of zero bytes"
    text = decode_head(head, encoding)
    lines = [line.strip() for line in text.split("\n") if line.strip()]
    if not lines:
        return "jsonl"
    if _TMX.search(text[:4096]) and _XML.match(text):
        return "tmx"
    if lines[0][:9].lower() in ("<!doctype", "<html>") or lines[0].startswith(("<?xml", "<html")):
        return "web page or XML"
    if lines[0].startswith(("{", "[")):
        return _json_kind(lines)
    objects = sum(line.startswith("{") and is_json(line) for line in lines)
    if 2 * objects >= len(lines):
        return "jsonl"
    return _plain_kind(text, lines, reading or Reading())


def several_lines(head: bytes, encoding: str) -> bool:
    """Whether more than one line that holds something can be seen in the first bytes, or none."""
    text = decode_head(head, encoding).strip()
    return "\n" in text or not text


def _json_kind(lines: list[str]) -> str:
    if lines[0].startswith("["):
        if len(lines) == 1 or not is_json(lines[0]):
            return "array"
        row = json.loads(lines[0])
        # One of several arrays of rows; else a row of another kind.
        rows = chat_of(row) is row and bool(row) and all(isinstance(one, dict) for one in row)
        return "array" if rows else "jsonl"
    if lines[0] == "{":
        return "objects"
    if len(lines) == 1 or is_json(lines[0]):
        return "jsonl"
    whole = lines[:-1] if len(lines) > 2 else lines
    good = sum(line.startswith("{") and is_json(line) for line in whole)
    # A broken first row of many, or the first line of an object over several.
    return "objects" if not good and not all(line.startswith("{") for line in lines) else "jsonl"


def _plain_kind(text: str, lines: list[str], reading: Reading) -> str:
    """Lines or a table: lines where the name says so and the first line names no column."""
    name = bare(reading.name)
    if name.endswith((*SUFFIXES, ".tab")):
        return "csv"
    if not name.endswith(".txt") and not language_of_file(name):
        return "csv"
    cells = first_record(text, dialect_of(text).delimiter)
    if reading.names & {cell.strip().lower() for cell in cells}:
        return "csv"
    few = lines[:_FEW]
    if len(few) > 1 and 2 * sum(map(bool, map(_SPEAKER.match, few))) >= len(few):
        return "chat log"
    if len(_TURN.findall("\n".join(few))) >= max(2, len(few) // 4):
        return "chat log"
    if 2 * sum(map(bool, map(_TAG.match, few))) >= len(few):
        return "text with markup"
    return "lines"
