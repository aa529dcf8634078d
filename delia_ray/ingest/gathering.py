"""What each source gave, and the steps of curation that look at many rows; no Ray."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from delia_ray.ingest import spill
from delia_ray.ingest.curate.near import near_duplicates
from delia_ray.ingest.curate.steps import Statistics
from delia_ray.ingest.failures import cut_off, nothing, nothing_in
from delia_ray.ingest.notes import Notes
from delia_ray.ingest.parse import Part
from delia_ray.ingest.pool import first_of_each
from delia_ray.ingest.sources import Feed
from delia_ray.ingest.spill import Stored
from delia_ray.records import LEAK, REMOVED, conform

_SAID = 5
_LISTED = 100
"""Names kept of what was not read."""


@dataclass
class Gathered:
    """What one source gave after its limit."""

    feed: Feed
    records: list[pa.Table]
    """One for each file."""
    rejects: pa.Table
    """KIND_REJECT."""
    damages: pa.Table
    """KIND_REJECT; places behind which a file could not be read."""
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
    not_read: dict[str, str] = field(default_factory=dict)
    """Files of a folder and members of archives that were not read -> why."""
    guesses: list[str] = field(default_factory=list)
    """What was concluded from the files' content."""

    def remove(self, index: int, keep: pa.Array, step: str, details: Sequence[str]) -> None:
        """Take the records of file ``index`` that ``keep`` does not mark out, and say so."""
        table = self.records[index]
        gone = table.filter(pc.invert(keep)).column("row").to_pylist()
        self.records[index] = table.filter(keep)
        source, file = self.feed.source.label, self.feed.files[index].name
        rows = [
            {"source": source, "file": file, "row": row, "step": step, "detail": detail}
            for row, detail in zip(gone, details, strict=True)
        ]
        self.removed = pa.concat_tables([self.removed, conform(rows, REMOVED)])

    def counts(self) -> dict[str, Any]:
        """``read`` equals the sum of ``records``, all ``rejects``, ``duplicates``,
        ``beyond_limit``, ``damaged`` and all ``removed``; the rest is said about these."""
        reasons = Counter(self.rejects.column("kind").to_pylist())
        records, removed = sum(map(len, self.records)), Counter(self.removed["step"].to_pylist())
        gone = reasons.total() + self.duplicates + self.beyond_limit + removed.total()
        gone += len(self.damages)
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
            **self._of_files(),
        }

    def _of_files(self) -> dict[str, Any]:
        """What was not read of the source's files, where anything was not."""
        damaged = [
            {key: row[key] for key in ("file", "row", "reason")}
            for row in self.damages.slice(0, _LISTED).to_pylist()
        ]
        found = {
            "damaged": len(self.damages), "damages": damaged,
            "not_read": len(self.not_read),
            "not_read_files": [f"{n}: {why}" for n, why in [*self.not_read.items()][:_LISTED]],
            "guessed_of_files": self.guesses[:_LISTED],
        }  # fmt: skip
        return {name: value for name, value in found.items() if value}

    def lines(self) -> list[str]:
        """For the screen: what the rows were taken for, and what was not read."""
        said = [*self.notes.lines(), *self.guesses[:_SAID]]
        if self.not_read:
            names = ", ".join([*self.not_read][:_SAID])
            more = len(self.not_read) - _SAID
            said.append(f"not read: {names}" + (f" and {more:,} more" if more > 0 else ""))
        if len(self.damages):
            said.append(f"{len(self.damages):,} places behind which a file is damaged")
        return said


def _unanswered(table: pa.Table) -> int:
    if "answered" in table.column_names:
        return len(table) - (pc.sum(table.column("answered")).as_py() or 0)
    return int(table.column("answer").null_count)


def gather(feed: Feed, parts: Sequence[Part]) -> Gathered:
    """The files of one source in order, up to ``rows`` records; what stands after the last
    record taken, good or not, is beyond the limit.

    Raises:
        UserError: there is not one record, or none of a file, or a file is damaged, and the config
            does not allow that.
    """
    limit = feed.source.rows
    records, rejects, damages, removed, beyond, taken = [], [], [], [], 0, 0
    not_read, guesses = dict(feed.not_read), []
    statistics = Statistics()
    for file, part in zip(feed.files, parts, strict=True):
        kept, bad, gone, damaged = part.records, part.rejects, part.removed, part.damages
        if limit is not None and taken + len(kept) >= limit:
            kept = kept.slice(0, limit - taken)
            last = kept.column("row")[-1].as_py() if len(kept) else 0
            bad = bad.filter(pc.less_equal(bad.column("row"), last))
            gone = gone.filter(pc.less_equal(gone.column("row"), last))
            damaged = damaged.filter(pc.less_equal(damaged.column("row"), last))
        if not len(part.records) + len(part.removed) and feed.source.unreadable == "error":
            raise nothing_in(feed, file.name, part)
        if len(damaged) and feed.source.damaged == "error":
            raise cut_off(feed, file.name, part, damaged)
        records.append(kept)
        rejects.append(bad)
        damages.append(damaged)
        not_read.update({f"{file.name}/{n}": why for n, why in part.facts.unread.items()})
        guesses += [f"{file.name}: {note}" for note in part.facts.notes]
        removed.append(gone)
        statistics.scripts.update(part.statistics.scripts)
        statistics.languages.update(part.statistics.languages)
        taken += len(kept)
        beyond += part.read - len(kept) - len(bad) - len(gone) - len(damaged)
    if limit is None and beyond:
        raise AssertionError(f"{beyond} rows of {feed.setting} are neither record nor reject")
    if not taken and not sum(map(len, removed)):
        raise nothing(feed, pa.concat_tables(rejects + damages), parts)
    return Gathered(
        feed,
        records,
        pa.concat_tables(rejects),
        pa.concat_tables(damages),
        sum(part.read for part in parts),
        beyond,
        stored=[part.stored for part in parts if part.stored is not None],
        removed=pa.concat_tables(removed),
        leaks=pa.concat_tables([part.leaks for part in parts]),
        statistics=statistics,
        notes=Notes().merge(part.notes for part in parts),
        not_read=not_read,
        guesses=guesses,
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
