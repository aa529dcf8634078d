"""The table of layouts, and raw rows read by them.

To read another layout: write a `Layout`, add it to `LAYOUTS`, and add its name to
``Source.format`` in ``config/data.py``.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from delia_ray.ingest.advice import nearest
from delia_ray.ingest.columns import Evidence, Row, is_empty, study
from delia_ray.ingest.conversations import Marked, Messages
from delia_ray.ingest.languages import NAMES, THREE
from delia_ray.ingest.layouts import ANSWERS, QUERIES, Layout, Options, RawRow
from delia_ray.ingest.notes import Notes
from delia_ray.ingest.parallel import Parallel
from delia_ray.ingest.questions import Alpaca, IfEval, PromptCompletion, Templated
from delia_ray.ingest.rules import Chat
from delia_ray.ingest.turns import MEDIA, RowError, check_encodable

__all__ = ["KNOWN", "LAYOUTS", "Reader", "RowError", "candidates", "rename"]

LAYOUTS: dict[str, type[Layout]] = {
    "messages": Messages,
    "alpaca": Alpaca,
    "prompt_completion": PromptCompletion,
    "parallel": Parallel,
    "marked": Marked,
    "miniature": Messages,
    "ifeval": IfEval,
}
"""Format name -> class; ``auto`` takes the first that fits the row."""

_BY_NAME_ONLY = ("miniature", "ifeval")
"""Not tried by ``auto``: the prompts of IFEval are good queries without their constraints."""

_OTHER_NAMES = {"prompt": frozenset(QUERIES[1:]), "completion": frozenset(ANSWERS[1:])}
"""Names that stand for another where the config does not say which column it is."""

KNOWN: frozenset[str] = frozenset(
    [key for layout in LAYOUTS.values() for key in layout.keys if key != "text"]
    + [*QUERIES, *ANSWERS, *NAMES, *THREE, "options"]
)
"""Names by which the first line of a table is known to be a header."""


def candidates(
    format: str, columns: Mapping[str, str], options: Options | None = None
) -> dict[str, Layout]:
    """The layouts that may read a source's rows by name: all that know the renamed columns.

    Raises:
        LookupError: ``columns`` names something that no layout (or not this one) reads.
    """
    own = options or Options()
    if own.template is not None:
        if absent := set(columns) - set(Templated.keys):
            raise LookupError(
                f"beside a template only {', '.join(Templated.keys)} can be mapped, "
                f"not {', '.join(sorted(absent))}"
            )
        return {"template": Templated(own)}
    names = [n for n in LAYOUTS if n not in _BY_NAME_ONLY] if format == "auto" else [format]
    fitting = {n: LAYOUTS[n](own) for n in names if set(columns) <= set(LAYOUTS[n].keys)}
    if not fitting:
        known = "; ".join(f"{n}: {', '.join(LAYOUTS[n].keys)}" for n in names)
        raise LookupError(f"no layout reads {', '.join(columns)} together ({known})")
    return fitting


class Reader:
    """Reads the raw rows of one file, and notes how."""

    def __init__(
        self,
        layouts: Mapping[str, Layout],
        columns: Mapping[str, str] | None = None,
        without: Sequence[str] = (),
        control: re.Pattern[str] | None = None,
    ) -> None:
        """
        Args:
            layouts: see `candidates`.
            columns: wanted name -> name in the file.
            without: columns that are as if they were not there.
            control: matches the chat template's own tokens, which no text may hold.
        """
        self.notes = Notes()
        self._layouts, self._columns = layouts, dict(columns or {})
        others = [_OTHER_NAMES.get(wanted, frozenset()) for wanted in self._columns]
        named = {name.strip().lower() for name in without}.union(*others)
        self._without = frozenset(named - set(self._columns))
        self._control = control
        self._evidence: Evidence | None = None

    def study(self, rows: Iterable[RawRow]) -> None:
        """Learn from the first ``rows`` of a file what its columns hold."""
        self._evidence = study(self._renamed(row) for row in rows)

    def read(self, row: RawRow) -> Chat:
        """One raw row, by the only layout or the first that fits.

        Raises:
            RowError: no layout fits, or the one that does cannot read the row.
        """
        values = self._renamed(row)
        evidence = study([values]) if self._evidence is None else self._evidence
        opened = Row(values, self._without, evidence)
        name, layout = self._layout(opened)
        _without_media(opened)
        chat = layout.read(opened)
        for text in [turn["content"] for turn in chat.prompt] + [chat.answer or ""]:
            _check(text, self._control)
        guess = "" if name in self.notes.layouts else layout.guess(opened)
        used = {self._columns.get(name, name): role for name, role in opened.used.items()}
        self.notes.add(name, used, opened.unused(), opened.blanks, guess)
        return chat

    def _layout(self, row: Row) -> tuple[str, Layout]:
        """
        Raises:
            RowError: none fits.
        """
        if len(self._layouts) == 1:
            return next(iter(self._layouts.items()))
        for name, layout in self._layouts.items():
            if layout.fits(row):
                return name, layout
        said = [layout.advice(row) for layout in self._layouts.values()]
        advice = next(filter(None, said), "") or nearest(row)
        raise RowError("no known layout", f"columns {row.shown()}" + (f"; {advice}" * bool(advice)))

    def _renamed(self, row: RawRow) -> RawRow:
        return rename(row, self._columns) if self._columns else row


def _without_media(row: Row) -> None:
    """
    Raises:
        RowError: the row is about a picture, a sound or a video, which no text can tell.
    """
    for name in row.present(_MEDIA):
        if not is_empty(row.peek(name)):
            reason = MEDIA[name.removesuffix("s")]
            raise RowError(reason, f"the column {row.column(name)}; see without")


_MEDIA = tuple(f"{kind}{end}" for kind in MEDIA if kind != "file" for end in ("", "s"))


def _check(text: str, control: re.Pattern[str] | None) -> None:
    """
    Raises:
        RowError: text that no tokenizer should see.
    """
    check_encodable(text)
    if "\0" in text:
        raise RowError("zero bytes in the text")
    if control is not None and (found := control.search(text)):
        raise RowError("a control token of the chat template", found.group())


def rename(row: RawRow, columns: Mapping[str, str]) -> dict[str, Any]:
    """The row with each wanted name taken from its column, ``a.b`` from within ``a``.

    A wanted name whose column is missing is missing itself: another column of that name
    is not what the config asked for.
    """
    renamed = dict(row)
    for name in columns.values():
        renamed.pop(name if name in row else name.split(".")[0], None)
    for wanted, name in columns.items():
        value: Any = row
        for part in [name] if name in row else name.split("."):
            value = value.get(part) if isinstance(value, Mapping) else None
        renamed[wanted] = value
    return renamed
