"""From a file's bytes to text: compression and encoding, told by content."""

import bz2
import codecs
import gzip
import io
import lzma
import sys
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from delia_ray.config import Limits
from delia_ray.ingest.rows import LimitError

HEAD = 64 * 1024
"""Bytes from which a file's kind is told."""
_FED = 4096
"""Compressed bytes given at a time: some decompressors hold all that such a piece becomes."""
_UNLOOKED = 256 * 2**20
"""Bytes within which nothing is too much for its size."""
_SPOOLED = 16 * 2**20
"""Bytes of a copy that stay in memory."""
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


class _Raw(io.RawIOBase):
    """A raw stream in which a line may be no longer than ``longest`` bytes, where that is set."""

    longest: int | None = None
    _since = 0  # bytes behind the last end of a line

    def readable(self) -> bool:
        return True

    def _give(self, data: bytes, buffer: Any) -> int:
        buffer[: len(data)] = data
        if self.longest is not None:
            end = max(data.rfind(b"\n"), data.rfind(b"\r"))
            self._since = len(data) - end - 1 if end >= 0 else self._since + len(data)
            if self._since > self.longest:
                mib = round(self.longest / 2**20, 3)
                raise LimitError("a line without an end", "value_mib", mib)
        return len(data)


class Watched(_Raw):
    """A raw stream that remembers that its source failed, which is not the file's fault."""

    def __init__(self, source: Any) -> None:
        self._source = source
        self.failed = False
        self.taken = 0
        """Bytes read."""

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
        self.taken += len(data)
        return self._give(data, buffer)


@dataclass
class Meter:
    """Counts what one compressed file or archive becomes."""

    limits: Limits
    source: Watched
    given: int = 0

    def add(self, size: int) -> None:
        """
        Raises:
            LimitError: it becomes too much.
        """
        self.given += size
        if self.given > self.limits.unpacked_gib * 2**30:
            raise LimitError("too much when unpacked", "unpacked_gib", self.limits.unpacked_gib)
        if self.given > max(_UNLOOKED, self.limits.ratio * self.source.taken):
            raise LimitError("becomes too much for its size", "ratio", self.limits.ratio)


class Metered(_Raw):
    """A stream of unpacked bytes behind a `Meter`. ``read`` may give fewer than asked for; what
    it gave before it failed comes out before the error."""

    def __init__(self, read: Callable[[int], bytes], meter: Meter) -> None:
        self._read, self._meter = read, meter
        self._error: Exception | None = None

    def readinto(self, buffer: Any) -> int:
        parts, missing = [], len(buffer)
        while missing and self._error is None:
            try:
                data = self._read(missing)
                self._meter.add(len(data))
            except Exception as error:
                self._error = error
                break
            if not data:
                break
            parts.append(data)
            missing -= len(data)
        if self._error is not None and not parts:
            raise self._error
        return self._give(b"".join(parts), buffer)


class _Unpacked:
    """Compressed streams one after another, by a decompressor of the shape that Python's own
    have. The modules' file objects would leave out in silence what follows the last stream."""

    def __init__(self, stream: Any, make: Callable[[], Any]) -> None:
        self._stream, self._make = stream, make
        self._current, self._rest = make(), b""

    def read(self, size: int) -> bytes:
        """At most ``size`` bytes; what could be unpacked comes before the error."""
        while True:
            one = self._current
            if one.eof:
                self._rest = one.unused_data
                # Zero bytes pad xz files and fill blocks.
                while not (rest := self._rest.lstrip(b"\0")):
                    self._rest = self._stream.read1(HEAD)
                    if not self._rest:
                        return b""
                self._rest, one = rest, self._make()
                self._current = one
            data = b""
            if one.needs_input:
                data, self._rest = self._rest or self._stream.read1(_FED), b""
                if not data:
                    raise EOFError("the file ends before the end of its compressed data")
            if found := one.decompress(data, size):
                return bytes(found)


def _unzstd() -> Any:
    if sys.version_info >= (3, 14):
        from compression import zstd
    else:
        from backports import zstd
    # Corpora are packed with windows of up to 2 GiB (--long=31); only what is used is taken.
    return zstd.ZstdDecompressor(options={zstd.DecompressionParameter.window_log_max: 31})


_DECOMPRESSORS: dict[str, Callable[[], Any]] = {
    "zst": _unzstd,
    "bzip2": bz2.BZ2Decompressor,
    "xz": lambda: lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=2**29),
}


def _packing(start: bytes) -> str:
    """The compression that a file's first ten bytes show, or nothing."""
    if start[:2] == b"\x1f\x8b":
        return "gzip"
    if start[:4] == b"\x28\xb5\x2f\xfd" or (start[1:4] == b"\x2a\x4d\x18" and start[0] >> 4 == 5):
        return "zst"
    if start[:3] == b"BZh" and start[4:10] in (b"1AY&SY", b"\x17rE8P\x90"):
        return "bzip2"
    return "xz" if start[:6] == b"\xfd7zXZ\0" else ""


@dataclass(frozen=True)
class Opened:
    """The bytes of a file without its compression."""

    stream: Any
    """An ``io.BufferedReader`` that can peek `HEAD` bytes."""
    raw: _Raw
    """What ``stream`` reads from."""
    jumps: bool
    """Whether it can seek: not through compression."""
    meter: Meter
    """Of the last compression, or of nothing yet."""
    packing: tuple[str, ...] = ()

    def head(self) -> bytes:
        """The first bytes, left in place; b"" where not even they can be decompressed."""
        return bytes(self.stream.peek(HEAD))[:HEAD]

    def on_disk(self) -> Any:
        """All bytes as a file that can be read anywhere: itself, or a copy that vanishes."""
        stream, error = self.as_far_as_possible()
        if error is not None:
            raise error
        return stream

    def as_far_as_possible(self) -> tuple[Any, Exception | None]:
        """Like ``on_disk``, up to where reading fails, and the error there."""
        if self.jumps:
            self.stream.seek(0)
            return self.stream, None
        copy: Any = tempfile.SpooledTemporaryFile(max_size=_SPOOLED)  # noqa: SIM115
        error = None
        try:
            while data := self.stream.read1(HEAD):
                copy.write(data)
        except Exception as raised:  # whoever reads the copy raises it
            error = raised
        copy.seek(0)
        return copy, error


def opened(raw: Any, source: Watched, limits: Limits, inside: tuple[str, ...] = ()) -> Opened:
    """``raw`` behind its compressions; ``inside`` what it is packed in already.

    Raises:
        LimitError: too many within each other.
    """
    stream, jumps = io.BufferedReader(raw, HEAD), bool(raw.seekable())
    meter, packing = Meter(limits, source), list(inside)
    while kind := _packing(stream.peek(10)[:10]):
        packing.append(kind)
        check_nesting(packing, limits)
        meter = Meter(limits, source)
        if kind == "gzip":
            read: Any = gzip.GzipFile(fileobj=stream, mode="rb").read1
        else:
            read = _Unpacked(stream, _DECOMPRESSORS[kind]).read
        raw = Metered(read, meter)
        stream, jumps = io.BufferedReader(raw, HEAD), False
    return Opened(stream, raw, jumps, meter, tuple(packing))


def check_nesting(packing: Sequence[str], limits: Limits) -> None:
    """
    Raises:
        LimitError: more compressions and archives within each other than ``limits`` allow.
    """
    if len(packing) > limits.nesting:
        raise LimitError(f"packed {len(packing)} times: {' in '.join(packing[::-1])}",
                         "nesting", limits.nesting)  # fmt: skip


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


def damage() -> tuple[type[Exception], ...]:
    """What broken compressions and archives raise beside OSError and ValueError."""
    if sys.version_info >= (3, 14):
        from compression import zstd
    else:
        from backports import zstd
    return (
        EOFError, zlib.error, gzip.BadGzipFile, lzma.LZMAError, zstd.ZstdError,
        tarfile.TarError, zipfile.BadZipFile, NotImplementedError,
    )  # fmt: skip
