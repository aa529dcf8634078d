"""From a file's bytes to text: compression and encoding, told by content."""

import codecs
import gzip
import io
import zlib
from dataclasses import dataclass
from typing import Any

HEAD = 64 * 1024
"""Bytes from which a file's kind is told."""
_GZIP, _ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # before UTF-16, whose mark it begins with
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
LOST = "delia-lost"
"""Error handler that keeps each byte that is no text as a lone surrogate, as
``surrogateescape`` does, but also where that cannot: in UTF-16, and for bytes below 128."""


def _keep_bytes(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeDecodeError):
        raise error
    lost = error.object[error.start : error.end]
    return "".join(chr(0xDC00 + byte) for byte in lost), error.end


codecs.register_error(LOST, _keep_bytes)


class Watched(io.RawIOBase):
    """A raw stream that remembers that its source failed, which is not the file's fault."""

    def __init__(self, source: Any) -> None:
        self._source = source
        self.failed = False

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return bool(self._source.seekable())

    def seek(self, offset: int, whence: int = 0) -> int:
        return int(self._source.seek(offset, whence))

    def tell(self) -> int:
        return int(self._source.tell())

    def readinto(self, buffer: Any) -> int:
        try:
            data = self._source.read(len(buffer))
        except Exception:
            self.failed = True
            raise
        buffer[: len(data)] = data
        return len(data)


class _Gzip(io.RawIOBase):
    """Gives what could be unpacked before it says that the rest cannot."""

    def __init__(self, stream: Any) -> None:
        self._file = gzip.GzipFile(fileobj=stream, mode="rb")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._file.read1(len(buffer))
        buffer[: len(data)] = data
        return len(data)


class _Unclosed:
    """A stream that stays open when pyarrow drops what it made of it."""

    closed = False

    def __init__(self, stream: Any) -> None:
        self.read = stream.read

    def close(self) -> None:
        pass


class _Zstd(io.RawIOBase):
    """Zstandard by pyarrow, as Python's own came with 3.14.

    Its reads are whole or fail, so behind a fault the file is read once more in smaller steps:
    what could be unpacked comes out.
    """

    def __init__(self, stream: Any) -> None:
        self._source, self._given = stream, 0
        self._steps = [1, 256] if stream.seekable() else []
        self._most = HEAD
        self._open()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while True:
            try:
                data = self._stream.read(min(self._most, len(buffer)))
                break
            except OSError:
                if not self._steps:
                    raise
                self._most = self._steps.pop()
                self._source.seek(0)
                self._open()
                for _ in range(self._given // HEAD):
                    self._stream.read(HEAD)
                self._stream.read(self._given % HEAD)
        self._given += len(data)
        buffer[: len(data)] = data
        return len(data)

    def _open(self) -> None:
        import pyarrow as pa

        self._stream = pa.CompressedInputStream(
            pa.PythonFile(_Unclosed(self._source), mode="r"), "zstd"
        )


@dataclass(frozen=True)
class Opened:
    """The bytes of a file without its compression."""

    stream: Any
    """An ``io.BufferedReader`` that can peek `HEAD` bytes."""
    jumps: bool
    """Whether it can seek: not through compression."""

    def head(self) -> bytes:
        """The first bytes, left in place; b"" where not even they can be decompressed."""
        return bytes(self.stream.peek(HEAD))[:HEAD]


def opened(raw: Any) -> Opened:
    """``raw`` behind its compression, plain, gzip or zstd, however often it was applied."""
    stream, jumps = io.BufferedReader(raw, HEAD), bool(raw.seekable())
    for _ in range(3):
        start = stream.peek(4)[:4]
        if start[:2] == _GZIP:
            unpacked: Any = _Gzip(stream)
        elif start == _ZSTD:
            unpacked = _Zstd(stream)
        else:
            break
        stream, jumps = io.BufferedReader(unpacked, HEAD), False
    return Opened(stream, jumps)


def encoding_of(head: bytes) -> str:
    """The encoding that a byte-order mark, or the zero bytes of UTF-16, leave no doubt of;
    else UTF-8. Legacy encodings cannot be told with certainty, so they are named in the config.
    """
    for mark, name in _MARKS:
        if head.startswith(mark):
            return name
    first = head[:4]
    if len(first) == 4 and all(b < 128 for b in first):
        zeros = [b == 0 for b in first]
        if zeros == [False, True, False, True]:
            return "utf-16-le"
        if zeros == [True, False, True, False]:
            return "utf-16-be"
    return "utf-8"


def decode_head(head: bytes, encoding: str) -> str:
    """``head`` as text; a character cut in two at its end is left out."""
    decoder = codecs.getincrementaldecoder(encoding)(errors=LOST)
    return decoder.decode(head).removeprefix("\ufeff")


def text_of(stream: Any, encoding: str, newline: str) -> io.TextIOWrapper:
    """``stream`` as text that keeps bytes which are none, see `LOST`."""
    return io.TextIOWrapper(stream, encoding, LOST, newline=newline)


DAMAGE = (EOFError, zlib.error, gzip.BadGzipFile)
"""What breaking compression raises beside OSError."""
