"""Errors about files: what was wrong, and which setting of their source would help."""

from collections import Counter
from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc

from delia_ray.errors import UserError
from delia_ray.ingest.parse import Part
from delia_ray.ingest.sources import Feed

_HELP = {
    "not valid UTF-8": "name the file's {0}.encoding, for example cp1252",
    "zero bytes in the text": "name the file's {0}.encoding, for example utf-16",
    "a control token of the chat template": "see {0}.control_tokens=strip or keep",
    "no answer": "rows of this source need one; name its column with {0}.columns.completion",
    "not valid JSON": "see {0}.container",
    "a quote is never closed": "see {0}.quoting=none",
    "text behind a closing quote": "see {0}.quoting=none",
    "wrong number of columns": "see {0}.container and {0}.quoting",
    "a column name comes twice": "see {0}.header=false",
    "the two files differ in lines": "the files must have a line for each line",
    "nested too deeply": "see {0}.limits.depth",
    "a cell is too long": "see {0}.limits.value_mib",
    "several lists of objects in one": "name one as {0}.split",
    "several turns": "see {0}.turns.several",
    "a system turn": "see {0}.turns.system",
    "an empty turn": "see {0}.turns.empty",
    "an answer with its reasoning apart": "see {0}.turns.reasoning",
    "has images": "no text tells what is in them; to leave them out see {0}.without",
    "has audio": "no text tells what is in it; to leave it out see {0}.without",
    "has video": "no text tells what is in it; to leave it out see {0}.without",
    "two system turns that differ": "leave one out by {0}.without",
    "an answer marked as bad": "where the mark means something else, see {0}.without",
    "calls a tool": "chats with calls of tools cannot be trained",
    "no two languages": "name them as {0}.parallel.source and {0}.parallel.target",
}
"""Kind of a reject -> the setting that would help; ``{0}`` is the source's."""
_LAYOUT = "see {0}.format and {0}.columns"


def nothing(feed: Feed, rejects: pa.Table, parts: Sequence[Part]) -> UserError:
    """The error of a source that gave no record."""
    where = f"{feed.setting}.path={feed.source.path}"
    unread = {name: why for part in parts for name, why in part.facts.unread.items()}
    if not len(rejects):
        held = f"; not read: {_listed(unread)}" if unread else ""
        header = next((part.facts.header for part in parts if part.facts.header), None)
        if header and not unread:
            held = (
                f"; its only line was taken for the names of columns ({', '.join(header)[:80]}), "
                f"see {feed.setting}.header=false"
            )
        return UserError(f"{where}: no rows; {feed.setting} must not be empty{held}")
    kind, times, first = _most(rejects)
    if all(
        kind.startswith(("the file ", "beyond a limit")) for kind in rejects["kind"].to_pylist()
    ):
        return UserError(
            f"{where}: nothing of {first['file']} could be read ({first['reason']}); "
            f"{advice(feed.setting, kind, str(first['reason']), parts[0])}"
        )
    return UserError(
        f"{where}: none of {len(rejects):,} rows could be read; {times:,} times: {kind} "
        f"(row {first['row']} of {first['file']}: {first['reason']}); "
        f"{advice(feed.setting, kind, str(first['reason']), parts[0])}"
    )


def nothing_in(feed: Feed, file: str, part: Part) -> UserError:
    """The error of one file of several that gave no record."""
    bad = pa.concat_tables([part.rejects, part.damages])
    if len(feed.files) == 1:
        return nothing(feed, bad, [part])
    why = "it has no rows"
    help_ = _LAYOUT.format(feed.setting)
    if len(bad):
        kind, times, first = _most(bad)
        why = f"{times:,} times: {kind} (row {first['row']}: {first['reason']})"
        help_ = advice(feed.setting, kind, str(first["reason"]), part)
    elif part.facts.unread:
        why = f"not read: {_listed(part.facts.unread)}"
    return UserError(
        f"{feed.setting}.path={feed.source.path}: nothing in {file} could be read; {why}; mend or "
        f"remove it, {help_}, or set {feed.setting}.unreadable=set_aside"
    )


def cut_off(feed: Feed, file: str, part: Part, damages: pa.Table) -> UserError:
    """The error of a file whose rest nobody knows."""
    first = damages.slice(0, 1).to_pylist()[0]
    good = len(part.records) + len(part.removed)
    limit = first["kind"] == "beyond a limit of the source"
    then = f"raise the {feed.setting}.limits that it names" if limit else "get the file again"
    more = f" (and in {len(damages) - 1:,} more places)" if len(damages) > 1 else ""
    return UserError(
        f"{feed.setting}.path={feed.source.path}: {file} cannot be read to its end: "
        f"{first['reason']} at row {first['row']:,}{more}; how much stood behind is unknown; "
        f"{then}, or set {feed.setting}.damaged=set_aside to go on with the {good:,} records "
        "before"
    )


def _most(rejects: pa.Table) -> tuple[str, int, dict[str, object]]:
    """The most frequent kind, how often it came, and its first row."""
    kind, times = Counter(rejects.column("kind").to_pylist()).most_common(1)[0]
    return kind, times, rejects.filter(pc.equal(rejects["kind"], kind)).slice(0, 1).to_pylist()[0]


def advice(setting: str, kind: str, reason: str, part: Part) -> str:
    """The settings of the source ``setting`` that would help against rejects of ``kind``."""
    if "\\udc" in reason:
        kind = "not valid UTF-8"
    said = _HELP.get(kind, _LAYOUT if _of_layout(kind) else "the rows themselves must change")
    if kind == "beyond a limit of the source":
        said = "raise the {0}.limits that it names"
    if kind.startswith(("no rows but", "the file is damaged", "the file ends")):
        said = "see {0}.container=lines" if "container:" in reason else "another file is needed"
    if kind == "no known layout" and len(part.facts.header or ()) == 1:
        said = _LAYOUT + ", or {0}.container=lines where each line is a query"
    return said.format(setting)


def _of_layout(kind: str) -> bool:
    """Whether rows of this kind may be of another layout than the one they were read by."""
    return kind.startswith(("no ", "messages is", "a turn", "unknown role")) or kind.endswith(
        "is not text"
    )


def _listed(unread: dict[str, str]) -> str:
    named = [f"{name} ({why})" for name, why in list(unread.items())[:5]]
    more = len(unread) - len(named)
    return ", ".join(named) + (f" and {more:,} more" if more else "")
