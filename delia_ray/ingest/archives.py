"""Members of tar and zip archives, one after another. Nothing is unpacked to a disk under a
name that an archive gives, and links and devices are never followed."""

import io
import tarfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from delia_ray.config import Limits
from delia_ray.ingest.names import is_data, stem
from delia_ray.ingest.opening import Meter, Metered, Opened
from delia_ray.ingest.rows import LimitError, excerpt

_BLOCK = 512
_LONGEST_HEADER = 2**20
"""Bytes of a header that tar keeps beside a member: a name, or attributes."""
_HELD = 2**20
"""Bytes of a member that may be part of a sample; files of rows are rarely smaller."""
_NOT_DATA = "its name is none of data"
_OFFICE = (
    ("xl/workbook.xml", "xlsx"),
    ("xl/workbook.bin", "binary Excel workbook"),
    ("word/document.xml", "Word document"),
    ("ppt/presentation.xml", "PowerPoint presentation"),
    ("META-INF/manifest.xml", "OpenDocument file"),
)


@dataclass(frozen=True)
class Member:
    """One file of an archive."""

    name: str
    raw: Any = None
    """Its bytes, to be read before the next member is asked for; None where it is not read."""
    why: str = ""
    """Why it is not read."""


def archive_of(head: bytes) -> str:
    """``tar`` or ``zip`` where a file's first bytes are of one, else nothing."""
    if head.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return "zip"
    if len(head) < _BLOCK or not head[0]:
        return ""
    try:
        tarfile.TarInfo.frombuf(head[:_BLOCK], "utf-8", "surrogateescape")
    except (tarfile.TarError, ValueError):
        return ""
    return "tar"


def _header_class() -> type[tarfile.TarInfo]:
    """A header whose size is looked at before it is believed, and without which an archive
    does not end: the library takes any fault behind the first member for the end."""
    at_end = False

    class Header(tarfile.TarInfo):
        @classmethod
        def frombuf(cls, buf: Any, encoding: Any, errors: Any) -> Any:
            nonlocal at_end
            try:
                found = super().frombuf(buf, encoding, errors)
            except tarfile.EOFHeaderError:  # type: ignore[attr-defined]
                at_end = True
                raise
            except tarfile.HeaderError as error:
                if at_end and not buf:
                    raise
                raise tarfile.ReadError(f"the archive is cut off or broken: {error}") from None
            at_end = False
            beside = found.type in (
                tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE,
                tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK,
            )  # fmt: skip
            if found.size < 0 or (beside and found.size > _LONGEST_HEADER):
                raise tarfile.ReadError(f"a header of {found.size:,} bytes")
            return found

    return Header


def tar_members(file: Opened) -> Iterator[Member]:
    """The members of a tar archive in their order, read as a stream. Small ones that share all
    of their name but its ending are one sample of several files, whose parts are no rows.

    Raises:
        tarfile.TarError: the archive is broken.
        LimitError: too many members, or they become too much.
    """
    sample: list[Member] = []
    with tarfile.open(
        fileobj=file.stream, mode="r|", tarinfo=_header_class(), ignore_zeros=True
    ) as archive:
        try:
            for number, info in enumerate(archive, 1):
                _check_count(number, file.meter.limits)
                archive.members = []  # type: ignore[attr-defined]  # all headers stay otherwise
                if info.isdir():
                    continue
                name = shown(info.name)
                if sample and stem(sample[0].name) != stem(name):
                    yield from _sample(sample)
                    sample = []
                one = _tar_member(archive, info, name, file.meter)
                if one.raw is not None and info.size > _HELD and not sample:
                    yield one
                    continue
                held = None if one.raw is None or info.size > _HELD else _Held(one.raw)
                sample.append(replace(one, raw=held and Metered(held.read, file.meter)))
                if held and held.error is not None:
                    break
        except (tarfile.TarError, LimitError, EOFError, OSError, ValueError):
            yield from _sample(sample)
            raise
    yield from _sample(sample)


class _Held:
    """The bytes of a member as far as they can be read, then the error."""

    def __init__(self, raw: Any) -> None:
        found = io.BytesIO()
        self.error: Exception | None = None
        try:
            while data := raw.read(2**16):
                found.write(data)
        except Exception as error:  # raised where these bytes are read
            self.error = error
        found.seek(0)
        self._found = found

    def read(self, size: int) -> bytes:
        data = self._found.read(size)
        if not data and self.error is not None:
            raise self.error
        return data


def _tar_member(archive: Any, info: tarfile.TarInfo, name: str, meter: Meter) -> Member:
    if not info.isreg() or info.issparse():
        return Member(name, why="no plain file")
    if not is_data(name):
        return Member(name, why=_NOT_DATA)
    stream = archive.extractfile(info)
    return Member(name, Metered(stream.read, meter))


def _sample(members: list[Member]) -> Iterator[Member]:
    if len(members) < 2:
        yield from members
        return
    endings = sorted({one.name.rpartition("/")[2].partition(".")[2] for one in members})
    for one in members:
        yield Member(one.name, why=f"part of a sample of several files ({', '.join(endings)})")


def zip_kind(source: Any) -> str:
    """``xlsx`` or another office document where a zip archive is one, else ``zip``.

    Raises:
        zipfile.BadZipFile: it is none.
    """
    with zipfile.ZipFile(source) as archive:
        names = set(archive.namelist())
    found = next((kind for name, kind in _OFFICE if name in names), "zip")
    if found == "zip" and any(name.endswith("/data.pkl") for name in names):
        return "PyTorch checkpoint"
    if found == "zip" and names and all(name.endswith(".npy") for name in names):
        return "NumPy archive"
    return found


def zip_members(source: Any, file: Opened) -> Iterator[Member]:
    """The members of a zip archive in its own order.

    Raises:
        zipfile.BadZipFile: the archive is broken.
        LimitError: too many members, or they become too much.
    """
    with zipfile.ZipFile(source) as archive:
        infos = archive.infolist()
        _check_count(len(infos), file.meter.limits)
        for info in infos:
            name = shown(info.filename)
            if info.is_dir():
                continue
            if info.flag_bits & 1:
                yield Member(name, why="encrypted")
            elif not is_data(name):
                yield Member(name, why=_NOT_DATA)
            else:
                stream: Any = archive.open(info)
                with stream:
                    yield Member(name, Metered(stream.read1, file.meter))


def _check_count(number: int, limits: Limits) -> None:
    if number > limits.members:
        raise LimitError(f"more than {limits.members:,} members", "members", limits.members)


def shown(name: str) -> str:
    """The name of a member as text for messages; it never becomes a path."""
    return excerpt("".join(sign if sign.isprintable() else "?" for sign in name))
