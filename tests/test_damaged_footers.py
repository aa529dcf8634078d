"""A damaged footer of a parquet file is an error, and never the end of the process."""

import os
import resource

import pyarrow as pa
import pyarrow.parquet as pq

from delia_ray.errors import DeliaError
from delia_ray.stored import Table

PART = 160
"""Bytes of the footer's beginning, where the schema is, of which each bit is turned."""


def _file() -> bytes:
    rows = {"a": ["x", None, "yy"] * 5, "p": [[{"role": "u"}], [], None] * 5}
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table(rows), sink, row_group_size=8, write_page_checksum=True)
    return bytes(sink.getvalue())


def _read(data: bytes) -> None:
    try:
        table = Table(pa.BufferReader(data), "x.parquet")
        table.read()
        list(table.batches(rows=4))
    except DeliaError:
        pass


def test_every_turned_bit_of_a_footer_gives_a_table_or_an_error_of_ours() -> None:
    whole = _file()
    begin = len(whole) - 8 - int.from_bytes(whole[-8:-4], "little")
    heard, told = os.pipe()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            for at in range(8 * PART):
                os.write(told, at.to_bytes(4, "little"))
                changed = bytearray(whole)
                changed[begin + at // 8] ^= 1 << at % 8
                _read(bytes(changed))
            code = 0
        finally:
            os._exit(code)
    os.close(told)
    with open(heard, "rb") as stream:
        last = int.from_bytes(stream.read()[-4:], "little")
    status = os.waitpid(child, 0)[1]
    assert (status, last) == (0, 8 * PART - 1), f"bit {last % 8} of byte {last // 8}"
