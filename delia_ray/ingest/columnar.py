"""Rows of parquet and Arrow files."""

from collections.abc import Iterator
from typing import Any

from delia_ray.ingest.labels import labelled
from delia_ray.ingest.opening import Opened
from delia_ray.ingest.rows import Bad, Damage, LimitError, Reading

_BATCH = 2048
_MARK = b"\xff\xff\xff\xff"
"""Begins each message of an Arrow stream; with four zero bytes behind it, its end."""


def parquet(file: Opened, reading: Reading) -> Iterator[tuple[int, Any]]:
    """Rows of a parquet file."""
    from delia_ray.tables import open_parquet

    # Parquet is read from its end; compression and some servers cannot jump there.
    table = open_parquet(file.on_disk())
    _check_width(table.schema_arrow, reading)
    rows = _numbered(table.iter_batches(batch_size=_BATCH), reading)
    yield from labelled(rows, table.schema_arrow)


def arrow(file: Opened, reading: Reading) -> Iterator[tuple[int, Any]]:
    """Rows of an Arrow IPC stream (as ``datasets`` saves) or file (also called Feather)."""
    from delia_ray.tables import open_arrow, open_arrow_stream

    if file.stream.peek(6)[:6] == b"ARROW1":
        table = open_arrow(file.on_disk())
        _check_width(table.schema, reading)
        batches = (table.get_batch(i) for i in range(table.num_record_batches))
        yield from labelled(_numbered(_pieces(batches), reading), table.schema)
        return
    done, rest = 0, file.stream.read(4)
    while rest == _MARK:  # streams that were put together
        tail, number = _Tail(file.stream, rest), 0
        stream = open_arrow_stream(tail)
        _check_width(stream.schema, reading)
        for number, row in labelled(_numbered(_pieces(iter(stream)), reading), stream.schema):
            yield done + number, row
        done += number
        if tail.last != _MARK + bytes(4):
            yield done + 1, Damage("the file ends within a table", "no end mark", "")
            return
        rest = file.stream.read(4)
    if rest:
        yield done + 1, Bad("bytes behind the table", repr(rest), "")


class _Tail:
    """A stream that remembers the last bytes read, and stays open when pyarrow drops it."""

    closed = False

    def __init__(self, stream: Any, held: bytes) -> None:
        self._stream, self._held, self.last = stream, held, b""

    def read(self, size: int = -1) -> bytes:
        held, self._held = (self._held, b"") if self._held else (b"", b"")
        data = held + bytes(self._stream.read(size if size < 0 else max(0, size - len(held))))
        data, self._held = (data, b"") if size < 0 else (data[:size], data[size:])
        self.last = (self.last + data)[-8:]
        return data

    def close(self) -> None:
        pass


def _check_width(schema: Any, reading: Reading) -> None:
    if len(schema) > reading.limits.columns:
        raise LimitError(f"{len(schema):,} columns", "columns", reading.limits.columns)


def _pieces(batches: Iterator[Any]) -> Iterator[Any]:
    for batch in batches:
        for at in range(0, batch.num_rows, _BATCH):
            yield batch.slice(at, _BATCH)


def _numbered(batches: Iterator[Any], reading: Reading) -> Iterator[tuple[int, Any]]:
    number = 0
    for batch in batches:
        for row in _rows(batch, reading):
            number += 1
            yield number, row


def _rows(batch: Any, reading: Reading) -> Iterator[Any]:
    # Asked for where there are none, this makes pyarrow take three times as long.
    maps: Any = "lossy" if any("map<" in str(kind) for kind in batch.schema.types) else None
    try:
        # Of a damaged file even lengths may be wrong, and pyarrow would read beyond its memory.
        batch.validate(full=True)
        if batch.nbytes <= reading.longest:
            yield from batch.to_pylist(maps_as_pydicts=maps)
            return
    except _CELL:  # a time beyond Python's, text that is not UTF-8
        pass
    for index in range(batch.num_rows):
        one = batch.slice(index, 1)
        try:
            one.validate(full=True)
            if one.nbytes > reading.longest:
                detail = f"limits.value_mib={reading.limits.value_mib}"
                yield Bad("a cell is too long", detail, "")
                continue
            yield one.to_pylist(maps_as_pydicts=maps)[0]
        except _CELL as error:
            yield Bad("a cell cannot be read", f"{type(error).__name__}: {error}"[:200], "")


_CELL = (ValueError, OverflowError)
"""What pyarrow raises for values; its own errors of validity are ValueErrors."""
