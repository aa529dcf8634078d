"""The first sheet of an Excel workbook, by openpyxl, a row at a time."""

import datetime
import zipfile
from collections.abc import Iterator
from typing import Any

from delia_ray.ingest.opening import Opened
from delia_ray.ingest.rows import Bad, Facts, LimitError, Reading, excerpt
from delia_ray.ingest.tables import has_header, repeated


def sheet(source: Any, file: Opened, reading: Reading, facts: Facts) -> Iterator[tuple[int, Any]]:
    """Rows of the first sheet, numbered as Excel numbers them less the header.

    Raises:
        LimitError: the workbook becomes too much.
        zipfile.BadZipFile: it is broken; also ValueErrors of openpyxl.
    """
    _check_size(source, file)
    book = _workbook(source)
    try:
        sheets = book.worksheets
        if not sheets:
            yield 1, Bad("no rows but an Excel workbook without a sheet", "", "")
            return
        for other in sheets[1:]:
            facts.unread[f"sheet {excerpt(other.title)}"] = "only the first sheet is read"
        sheets[0].reset_dimensions()  # what the file says of them may be wrong
        yield from _rows(sheets[0].iter_rows(values_only=True), reading, facts)
    finally:
        book.close()


def _workbook(source: Any) -> Any:
    from openpyxl import load_workbook

    source.seek(0)
    try:
        return load_workbook(source, read_only=True, data_only=True, keep_links=False)
    except (KeyError, TypeError, AttributeError, IndexError) as error:
        # Parts that should be there are missing.
        raise ValueError(f"no Excel workbook that can be read: {error!r}") from None


def _check_size(source: Any, file: Opened) -> None:
    with zipfile.ZipFile(source) as archive:
        infos = archive.infolist()
    limits = file.meter.limits
    if len(infos) > limits.members:
        raise LimitError(f"{len(infos):,} parts", "members", limits.members)
    file.meter.source.taken += sum(info.compress_size for info in infos)
    file.meter.add(sum(info.file_size for info in infos))


def _rows(
    rows: Iterator[tuple[Any, ...]], reading: Reading, facts: Facts
) -> Iterator[tuple[int, Any]]:
    header: list[str] | None = None
    number = 0
    for cells in rows:
        facts.lines += 1
        values = [_value(cell, reading) for cell in cells]
        while values and values[-1] is None:
            values.pop()
        if not values:
            facts.blank += 1
            continue
        if header is None:
            names = ["" if value is None else str(value).strip() for value in values]
            if len(names) > reading.limits.columns:
                raise LimitError(f"{len(names):,} columns", "columns", reading.limits.columns)
            if has_header(names, reading):
                header = facts.header = names
                facts.header_lines += 1
                continue
            header = [str(index) for index in range(len(names))]
        number += 1
        if twice := repeated(header, reading):
            yield number, Bad("a column name comes twice", f"the column {twice!r}", "")
        elif len(values) > len(header):
            detail = f"{len(values)} instead of {len(header)}"
            yield number, Bad("wrong number of columns", detail, excerpt(str(values)))
        else:
            values += [None] * (len(header) - len(values))
            yield number, {n: v for n, v in zip(header, values, strict=True) if n}


def _value(cell: Any, reading: Reading) -> Any:
    if isinstance(cell, str):
        if len(cell) > reading.longest:
            raise LimitError("a long cell", "value_mib", reading.limits.value_mib)
        return cell if cell.strip() else None
    if isinstance(cell, (datetime.date, datetime.time, datetime.timedelta)):
        return str(cell)
    return cell
