"""What each source gave, and the steps of curation that look at many rows; no Ray."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from delia_ray.errors import UserError
from delia_ray.ingest import spill
from delia_ray.ingest.curate.near import near_duplicates
from delia_ray.ingest.curate.steps import Statistics
from delia_ray.ingest.notes import Notes
from delia_ray.ingest.parse import Part
from delia_ray.ingest.pool import first_of_each
from delia_ray.ingest.sources import Feed
from delia_ray.ingest.spill import Stored
from delia_ray.records import LEAK, REMOVED, conform


@dataclass
class Gathered:
    """What one source gave after its limit."""

    feed: Feed
    records: list[pa.Table]
    """One for each file."""
    rejects: pa.Table
    """KIND_REJECT."""
    read: int
    beyond_limit: int
    duplicates: int = 0
    """Records dropped because an earlier one of the corpus has the same content."""
    kept_duplicates: int = 0
    """Records that repeat an earlier one of a set where each row counts."""
    stored: list[Stored] = field(default_factory=list)
    """For the corpus, where the records of each file lie; ``records`` are slim then."""
    removed: pa.Table = field(default_factory=REMOVED.empty_table)
    leaks: pa.Table = field(default_factory=LEAK.empty_table)
    statistics: Statistics = field(default_factory=Statistics)
    notes: Notes = field(default_factory=Notes)
    """What the rows were taken for, as far as the files were read."""

    def remove(self, index: int, keep: pa.Array, step: str, details: Sequence[str]) -> None:
        """Take the records of file ``index`` that ``keep`` does not mark out, and say so."""
        table = self.records[index]
        gone = table.filter(pc.invert(keep)).column("row").to_pylist()
        self.records[index] = table.filter(keep)
        source, file = self.feed.source.path, self.feed.files[index].name
        rows = [
            {"source": source, "file": file, "row": row, "step": step, "detail": detail}
            for row, detail in zip(gone, details, strict=True)
        ]
        self.removed = pa.concat_tables([self.removed, conform(rows, REMOVED)])

    def counts(self) -> dict[str, Any]:
        """``read`` equals the sum of ``records``, all ``rejects``, ``duplicates``,
        ``beyond_limit`` and all ``removed``; the rest is said about these."""
        reasons = Counter(self.rejects.column("kind").to_pylist())
        records, removed = sum(map(len, self.records)), Counter(self.removed["step"].to_pylist())
        gone = reasons.total() + self.duplicates + self.beyond_limit + removed.total()
        if self.read != records + gone:
            raise AssertionError(f"rows of {self.feed.setting} do not add up: {self}")
        return {
            "files": len(self.feed.files),
            "read": self.read,
            "records": records,
            "rejects": dict(sorted(reasons.items())),
            "duplicates": self.duplicates,
            "beyond_limit": self.beyond_limit,
            "kept_duplicates": self.kept_duplicates,
            "without_answer": sum(map(_unanswered, self.records)),
            **({"removed": dict(sorted(removed.items()))} if removed else {}),
            **self.notes.counts(),
        }


def _unanswered(table: pa.Table) -> int:
    if "answered" in table.column_names:
        return len(table) - (pc.sum(table.column("answered")).as_py() or 0)
    return int(table.column("answer").null_count)


def gather(feed: Feed, parts: Sequence[Part]) -> Gathered:
    """The files of one source in order, up to ``rows`` records; what stands after the last
    record taken, good or not, is beyond the limit.

    Raises:
        UserError: there is not one record, or none of a file and the config does not allow that.
    """
    limit = feed.source.rows
    records, rejects, removed, beyond, taken = [], [], [], 0, 0
    statistics = Statistics()
    for file, part in zip(feed.files, parts, strict=True):
        if not len(part.records) + len(part.removed) and feed.source.unreadable == "error":
            raise _unreadable(feed, file.name, part)
        kept, bad, gone = part.records, part.rejects, part.removed
        if limit is not None and taken + len(kept) >= limit:
            kept = kept.slice(0, limit - taken)
            last = kept.column("row")[-1].as_py() if len(kept) else 0
            bad = bad.filter(pc.less_equal(bad.column("row"), last))
            gone = gone.filter(pc.less_equal(gone.column("row"), last))
        records.append(kept)
        rejects.append(bad)
        removed.append(gone)
        statistics.scripts.update(part.statistics.scripts)
        statistics.languages.update(part.statistics.languages)
        taken += len(kept)
        beyond += part.read - len(kept) - len(bad) - len(gone)
    if limit is None and beyond:
        raise AssertionError(f"{beyond} rows of {feed.setting} are neither record nor reject")
    if not taken and not sum(map(len, removed)):
        raise _nothing(feed, pa.concat_tables(rejects))
    return Gathered(
        feed,
        records,
        pa.concat_tables(rejects),
        sum(part.read for part in parts),
        beyond,
        stored=[part.stored for part in parts if part.stored is not None],
        removed=pa.concat_tables(removed),
        leaks=pa.concat_tables([part.leaks for part in parts]),
        statistics=statistics,
        notes=Notes().merge(part.notes for part in parts),
    )


def drop_duplicates(corpus: Sequence[Gathered]) -> None:
    """Keep the first record of each id, through all sources in the config's order."""
    masks = iter(first_of_each([table for one in corpus for table in one.records]))
    for one in corpus:
        for index, table in enumerate(one.records):
            kept = next(masks)
            if repeats := len(table) - kept.true_count:  # filtering copies the table
                one.duplicates += repeats
                one.records[index] = table.filter(kept)


def drop_near_duplicates(corpus: Sequence[Gathered], threshold: float) -> None:
    """Keep the first of records that are nearly the same, through all sources."""
    places = [(one, index) for one in corpus for index in range(len(one.records))]
    if not places:
        return
    tables = [one.records[index] for one, index in places]
    earlier = near_duplicates(spill.signatures_of(tables), threshold)
    tables = [spill.without_signatures(table) for table in tables]
    for (one, index), table in zip(places, tables, strict=True):
        one.records[index] = table
    starts = np.cumsum([0, *map(len, tables)])
    for (one, index), start, table in zip(places, starts, tables, strict=False):
        own = earlier[start : start + len(table)]
        repeats = np.flatnonzero(own >= 0)
        if not len(repeats):
            continue
        details = []
        for first in own[repeats]:
            at = int(np.searchsorted(starts, first, side="right")) - 1
            other, file = places[at][0], places[at][1]
            row = tables[at].column("row")[int(first - starts[at])].as_py()
            details.append(f"row {row} of {other.feed.files[file].name}")
        one.remove(index, pa.array(own < 0), "near-duplicate", details)


def keep_to_caps(corpus: Sequence[Gathered]) -> None:
    """Of a source with a cap keep the records that come first in the pool."""
    for one in corpus:
        cap = one.feed.source.cap
        if cap is None or sum(map(len, one.records)) <= cap:
            continue
        masks = spill.early(pa.concat_tables(one.records), cap)
        start = 0
        for index, table in enumerate(one.records):
            mask = masks.slice(start, len(table))
            start += len(table)
            gone = len(table) - mask.true_count
            one.remove(index, mask, "cap", [f"{cap:,} of the source"] * gone)


def _nothing(feed: Feed, rejects: pa.Table) -> UserError:
    where = f"{feed.setting}.path={feed.source.path}"
    if not len(rejects):
        return UserError(f"{where}: no rows; {feed.setting} must not be empty")
    kind, times = Counter(rejects.column("kind").to_pylist()).most_common(1)[0]
    first = rejects.filter(pc.equal(rejects.column("kind"), kind)).slice(0, 1).to_pylist()[0]
    return UserError(
        f"{where}: none of {len(rejects):,} rows could be read; {times:,} times: {kind} "
        f"(row {first['row']} of {first['file']}: {first['reason']}); "
        f"see {feed.setting}.format and {feed.setting}.columns"
    )


def _unreadable(feed: Feed, file: str, part: Part) -> UserError:
    if len(feed.files) == 1:
        return _nothing(feed, part.rejects)
    why = "it has no rows"
    if len(part.rejects):
        kind, times = Counter(part.rejects.column("kind").to_pylist()).most_common(1)[0]
        first = part.rejects.slice(0, 1).to_pylist()[0]
        why = f"{times:,} times: {kind} (row {first['row']}: {first['reason']})"
    return UserError(
        f"{feed.setting}.path={feed.source.path}: nothing in {file} could be read; {why}; mend or "
        f"remove it, see {feed.setting}.format, or set {feed.setting}.unreadable=set_aside"
    )
