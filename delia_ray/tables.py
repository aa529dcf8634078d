"""The one place where parquet and Arrow files are opened.

A file may say that a column has an *extension type*, and pyarrow gives such a column to
whatever class some library has registered for that name in this process. Importing
``ray.data`` registers one whose values are unpickled when they are looked at, and some
versions of Ray unpickle the type's own description while the schema is read. So a file
could run code of its own, by a column that nobody asked for.

Here that name is taken out of the schema before pyarrow sees it, wherever it stands (in
lists, structs, maps and dictionaries too): every column has its storage type, whatever is
registered. ``extensions`` tells which columns those were.
"""

import base64
import binascii
import re
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

_NAME, _HIDDEN = b"ARROW:extension:name", b"arrow.extension.name"
"""The key by which a field names its type, and what stands in its place: as long, so that
nothing else in the schema moves, and of no meaning to pyarrow."""
_SCHEMA, _NO_SCHEMA = b"ARROW:schema", b"arrow.schema"
"""The key of parquet's footer under which Arrow's own schema is kept."""
_MOST = 256 * 2**20
"""Bytes of a schema or footer, beyond which a length is damage."""


def open_parquet(source: Any) -> pq.ParquetFile:
    """A parquet file without extension types.

    Args:
        source: a seekable binary stream, or what pyarrow opens as one.

    Raises:
        pyarrow.ArrowException, OSError: it is damaged, or is no parquet.
    """
    file = _native(source)
    end = b"PAR1"
    footer = _before_end(file, len(end), end, "parquet")
    clean = _without_names(footer)
    # pyarrow takes a footer that is read already, so the one of the file is looked at once,
    # here. (Only the footer's own offsets say where data is; those are of the whole file.)
    alone = end + clean + len(clean).to_bytes(4, "little") + end
    metadata = pq.read_metadata(pa.BufferReader(alone))
    return pq.ParquetFile(
        file, metadata=metadata, arrow_extensions_enabled=False, page_checksum_verification=True
    )


def open_arrow(source: Any) -> Any:
    """The ``RecordBatchFileReader`` of an Arrow IPC file (also called Feather) without
    extension types; arguments and errors as of ``open_parquet``."""
    file = _native(source)
    end = b"ARROW1"
    footer = _before_end(file, len(end), end, "Arrow file")
    at = file.size() - len(end) - 4 - len(footer)
    clean = footer.replace(_NAME, _HIDDEN)
    return pa.ipc.open_file(pa.PythonFile(_Overlaid(file, at, clean), mode="r"))


def open_arrow_stream(source: Any) -> Any:
    """The ``RecordBatchStreamReader`` of an Arrow IPC stream without extension types.

    Args:
        source: a binary stream, which need not seek, or bytes.

    Raises:
        pyarrow.ArrowException, OSError: it is damaged, or is no Arrow.
    """
    stream = pa.BufferReader(source) if isinstance(source, (bytes, pa.Buffer)) else source
    head = bytes(stream.read(4))
    if head == b"\xff\xff\xff\xff":  # Arrow before 0.15 had no mark before the length
        head += bytes(stream.read(4))
    length = int.from_bytes(head[-4:], "little")
    if len(head) < 4 or length > _MOST:
        raise pa.ArrowInvalid("no Arrow stream: its first message is no schema")
    schema = bytes(stream.read(length))
    return pa.ipc.open_stream(_Joined(head + schema.replace(_NAME, _HIDDEN), stream))


def extensions(schema: pa.Schema) -> dict[str, str]:
    """Column -> the extension type that it, or something within it, is said to have."""
    found: dict[str, str] = {}
    for column in schema:
        for field in _fields(column):
            if name := (field.metadata or {}).get(_HIDDEN):
                found.setdefault(column.name, name.decode("utf-8", "replace"))
    return found


def _fields(field: pa.Field) -> Iterator[pa.Field]:
    yield field
    kind = field.type
    if pa.types.is_dictionary(kind):
        yield from _fields(pa.field("values", kind.value_type))
        return
    for number in range(kind.num_fields):
        yield from _fields(kind.field(number))


def _native(source: Any) -> pa.NativeFile:
    if isinstance(source, pa.NativeFile):
        return source
    return pa.PythonFile(source, mode="r")


def _before_end(file: pa.NativeFile, magic: int, end: bytes, kind: str) -> bytes:
    """What stands before the end of ``file``: its own length in four bytes, then ``end``."""
    size = file.size()
    if size < magic + 4:
        raise pa.ArrowInvalid(f"no {kind}: it has {size} bytes")
    file.seek(size - magic - 4)
    tail = bytes(file.read(magic + 4))
    length = int.from_bytes(tail[:4], "little")
    if tail[4:] != end:
        raise pa.ArrowInvalid(f"no {kind}, or one that is cut off: it does not end in {end!r}")
    if length > min(_MOST, size - magic - 4):
        raise pa.ArrowInvalid(f"a damaged {kind}: its footer would be of {length} bytes")
    file.seek(size - magic - 4 - length)
    footer = bytes(file.read(length))
    if len(footer) < length:
        raise pa.ArrowInvalid(f"a damaged {kind}: it ends within its footer")
    return footer


# In Thrift's compact protocol: two texts, each with its length before it in groups of seven bits.
_KEPT_SCHEMA = re.compile(
    rb"\x18" + bytes([len(_SCHEMA)]) + _SCHEMA + rb"\x18([\x80-\xff]{0,4}[\x00-\x7f])"
)


def _without_names(footer: bytes) -> bytes:
    """Parquet's ``footer``, of equal length, whose Arrow schema names no extension type. A
    schema that cannot be read for certain is hidden as a whole; then types are parquet's own."""
    if _SCHEMA not in footer:
        return footer
    found = _KEPT_SCHEMA.search(footer)
    if found is None or footer.count(_SCHEMA) > 1:
        return footer.replace(_SCHEMA, _NO_SCHEMA)
    length = sum((byte & 127) << 7 * place for place, byte in enumerate(found[1]))
    begin, end = found.end(), found.end() + length
    try:
        schema = base64.b64decode(footer[begin:end], validate=True)
    except binascii.Error:
        return footer.replace(_SCHEMA, _NO_SCHEMA)
    if _NAME not in schema:
        return footer
    clean = base64.b64encode(schema.replace(_NAME, _HIDDEN))
    if len(clean) != length:
        return footer.replace(_SCHEMA, _NO_SCHEMA)
    return footer[:begin] + clean + footer[end:]


class _Overlaid:
    """A file with ``patch`` in place of what stands at ``at``; the last bytes behind it stay."""

    def __init__(self, file: pa.NativeFile, at: int, patch: bytes) -> None:
        self._file, self._at, self._patch = file, at, patch
        self._size, self._place = file.size(), 0
        self.closed = False

    def seek(self, offset: int, whence: int = 0) -> int:
        self._place = offset + {0: 0, 1: self._place, 2: self._size}[whence]
        return self._place

    def tell(self) -> int:
        return self._place

    def read(self, count: int = -1) -> Any:
        end = self._size if count < 0 else min(self._size, self._place + count)
        first, last = self._at, self._at + len(self._patch)
        self._file.seek(self._place)
        data = self._file.read_buffer(max(0, end - self._place))
        if self._place < last and end > first:
            changed = bytearray(data)
            begin, until = max(first, self._place), min(last, end)
            changed[begin - self._place : until - self._place] = self._patch[
                begin - first : until - first
            ]
            data = pa.py_buffer(bytes(changed))
        self._place += len(data)
        return data

    def close(self) -> None:
        self.closed = True
        self._file.close()


class _Joined:
    """``head``, then what ``stream`` still holds."""

    def __init__(self, head: bytes, stream: Any) -> None:
        self._head, self._stream = head, stream
        self.closed = False

    def readable(self) -> bool:
        return True

    def read(self, count: int = -1) -> bytes:
        if count < 0:
            count = 2**62
        own, self._head = self._head[:count], self._head[count:]
        if len(own) == count:
            return own
        rest: bytes = self._stream.read(count - len(own)) if count < 2**62 else self._stream.read()
        return own + bytes(rest) if own else rest

    def close(self) -> None:
        self.closed = True
