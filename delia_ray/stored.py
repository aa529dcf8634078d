"""What is read back from storage, checked before it is used.

Others may be able to write to a run's storage, disks fail, and copies end early. So what a
stage left is looked at like a recipe when it is read again: JSON within bounds, tables with
their schema. What is not as this program writes it is one kind of error, which names the file.
"""

import contextlib
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa

from delia_ray import tables
from delia_ray.errors import DeliaError
from delia_ray.names import is_fingerprint
from delia_ray.records import digest

LARGEST_JSON = 256 * 2**20
"""Bytes of a JSON file of ours; none comes near."""
_FAULTS = (
    pa.ArrowException, ValueError, LookupError, TypeError, AttributeError, ArithmeticError,
    MemoryError, RecursionError, EOFError,
)  # fmt: skip
"""What readers raise for content; pyarrow's own errors of input and output have no number."""


_ADVICE = (
    "remove the folder that it lies in (of a finished stage: the stage's whole folder) and run "
    "again; it is made anew"
)


class Damaged(DeliaError):
    """A file of a run is not as this program writes it."""

    def __init__(self, where: str, why: object = None, advice: str = "") -> None:
        # Alone it is the whole text: so errors travel between processes.
        text = f"{where} is not as it was written ({why}): it was damaged, or changed from outside"
        super().__init__(where if why is None else f"{text}; {advice or _ADVICE}")


class Unreachable(DeliaError, OSError):
    """A file cannot be opened or read to its end; trying again may help."""


class Missing(DeliaError, FileNotFoundError):
    """A file that should be there is not."""


@contextlib.contextmanager
def reading(where: str, advice: str = "") -> Iterator[None]:
    """Errors of reading the file ``where`` as ours.

    Raises:
        Missing, Unreachable, Damaged
    """
    try:
        yield
    except DeliaError:
        raise
    except FileNotFoundError:
        raise Missing(
            f"{where} is missing; " + (advice or "run again, or copy the run's folder whole")
        ) from None
    except OSError as error:
        if error.errno is not None:
            raise Unreachable(f"{where} cannot be read: {error.strerror or error}") from error
        raise Damaged(where, _short(error), advice) from error
    except _FAULTS as error:
        raise Damaged(where, _short(error), advice) from error


def _short(error: BaseException) -> str:
    lines = str(error).strip().splitlines() or [""]
    return f"{type(error).__name__}: {lines[0][:200]}"


def parse_json(data: bytes) -> Any:
    """JSON of ours.

    Raises:
        ValueError, RecursionError: it is none, too large, or nested beyond reason.
    """
    if len(data) > LARGEST_JSON:
        raise ValueError(f"{len(data):,} bytes of JSON, more than {LARGEST_JSON:,}")
    return json.loads(data)


SEAL = "seal"
"""In JSON of ours: the digest of the rest, by which damage shows."""


def sealed(value: Mapping[str, Any]) -> dict[str, Any]:
    """``value`` with its seal."""
    return {**value, SEAL: digest(json.loads(json.dumps(value)))}


def unsealed(value: Any, needed: bool = False) -> Any:
    """``value`` without its seal; what has none, and need not have one, as it is.

    Raises:
        ValueError: the seal is of something else, or missing.
    """
    if not isinstance(value, dict) or SEAL not in value:
        if needed:
            raise ValueError("it has no seal, as files of other versions or hands")
        return value
    own = {key: part for key, part in value.items() if key != SEAL}
    if value[SEAL] != digest(own):
        raise ValueError("its seal does not fit its content")
    return own


_WHOLE = 64 * 2**20
_END = 8 * 2**20


def digest_of(stream: Any, size: int) -> str:
    """64 hex digits of a file, read from its beginning; a large one (beyond 64 MiB) enters by
    its size and its first and last 8 MiB, since hashing models whole would cost minutes."""
    state = hashlib.sha256()
    left = size
    if size > _WHOLE:
        state.update(f"{size}:".encode() + stream.read(_END))
        stream.seek(size - _END)
        left = _END
    while left > 0 and (data := stream.read(min(left, 2**20))):
        state.update(data)
        left -= len(data)
    return state.hexdigest()


_MANIFEST: dict[str, Any] = {
    "stage": str, "fingerprint": str, "inputs": dict, "counts": dict, "summary": str,
    "seconds": (int, float), "created": str, "versions": dict, "files": dict, "digests": dict,
}  # fmt: skip
"""Key of a manifest -> the type of its value, where it is there."""


def check_manifest(value: Any) -> dict[str, Any]:
    """
    Raises:
        ValueError: it is not a manifest of this version.
    """
    if not isinstance(value, dict):
        raise ValueError(f"it holds a {type(value).__name__}")
    if missing := [key for key in ("files", "digests") if key not in value]:
        raise ValueError(f"it has no {missing[0]!r}, as those of other versions")
    for key, kind in _MANIFEST.items():
        if key in value and (not isinstance(value[key], kind) or isinstance(value[key], bool)):
            raise ValueError(f"{key} is a {type(value[key]).__name__}")
    if "fingerprint" in value and not is_fingerprint(value["fingerprint"]):
        raise ValueError(f"fingerprint={value['fingerprint']!r}")
    for name, facts in value["files"].items():
        if not isinstance(facts, dict) or not isinstance(facts.get("bytes"), int):
            raise ValueError(f"files[{name!r}]={facts!r}")
    if wrong := [n for n, found in value["digests"].items() if not isinstance(found, str)]:
        raise ValueError(f"digests[{wrong[0]!r}]={value['digests'][wrong[0]]!r}")
    return value


class Table:
    """A parquet file of ours, open; what comes out of it is validated.

    Args:
        source: a seekable stream.
        where: for messages.
        schema: what it must have, no column more or less; None for tables of any columns.

    Raises:
        Damaged: it has another schema, or is none; so do all methods where content is damaged.
    """

    def __init__(self, source: Any, where: str, schema: pa.Schema | None = None) -> None:
        self.where = where
        with reading(where):
            self._file = tables.open_parquet(source)
            self.schema: pa.Schema = self._file.schema_arrow
            footer = self._file.metadata
            self.groups = [footer.row_group(i).num_rows for i in range(footer.num_row_groups)]
            """Rows of each row group."""
            # Not asked of the footer's columns: pyarrow's way to them ends the whole process
            # where their statistics are damaged.
            if sum(self.groups) != footer.num_rows:
                raise ValueError("its numbers of rows do not agree")
        if named := tables.extensions(self.schema):
            column, kind = next(iter(named.items()))
            raise Damaged(where, f"the column {column!r} has the extension type {kind!r}")
        if schema is not None and (fault := mismatch(self.schema, schema)):
            raise Damaged(where, fault)
        self._null_free = [f.name for f in schema or () if not f.nullable]

    def __len__(self) -> int:
        return sum(self.groups)

    def read(self, columns: Sequence[str] | None = None) -> pa.Table:
        """All rows."""
        with reading(self.where):
            return self._checked(self._file.read(columns=self._known(columns)), len(self))

    def group(self, number: int, columns: Sequence[str] | None = None) -> pa.Table:
        """The rows of one row group."""
        with reading(self.where):
            found = self._file.read_row_group(number, columns=self._known(columns))
            return self._checked(found, self.groups[number])

    def batches(
        self, columns: Sequence[str] | None = None, rows: int = 65_536
    ) -> Iterator[pa.RecordBatch]:
        """All rows, ``rows`` at a time."""
        found = self._file.iter_batches(batch_size=rows, columns=self._known(columns))
        left = len(self)
        while True:
            with reading(self.where):
                batch = next(found, None)
                left -= 0 if batch is None else len(self._checked(batch))
                if left < 0 or (batch is None and left):
                    raise ValueError("a column has other rows than it says")
            if batch is None:
                return
            yield batch

    def _known(self, columns: Sequence[str] | None) -> list[str] | None:
        if columns is None:
            return None
        # pyarrow would leave out in silence what is not there.
        if missing := [c for c in columns if c not in self.schema.names]:
            raise Damaged(self.where, f"it has no column {missing[0]!r}")
        return list(columns)

    def _checked(self, found: Any, rows: int | None = None) -> Any:
        found.validate(full=True)
        if rows is not None and len(found) != rows:
            raise ValueError(f"it has {len(found):,} rows and says {rows:,}")
        for name in self._null_free:
            if name in found.schema.names and found.column(name).null_count:
                raise ValueError(f"the column {name!r} has nulls")
        return found


def mismatch(found: pa.Schema, wanted: pa.Schema) -> str:
    """How the columns differ, in words; empty where they do not."""
    for field in wanted:
        if found.names.count(field.name) != 1:
            return f"it has {found.names.count(field.name)} columns {field.name!r} and not one"
        own = found.field(field.name).type
        if not own.equals(field.type):
            return f"the column {field.name!r} is {own} and not {field.type}"
    more = [name for name in found.names if name not in wanted.names]
    return f"it has the column {more[0]!r}, which does not belong there" if more else ""
