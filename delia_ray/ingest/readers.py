"""The table of layouts, and one raw row read by them.

To read another layout: write a `Layout`, add it to `LAYOUTS`, and add its name to
``Source.format`` in ``config/data.py``.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from delia_ray.ingest.languages import NAMES, THREE
from delia_ray.ingest.layouts import (
    Alpaca,
    IfEval,
    Layout,
    Messages,
    Options,
    Parallel,
    PromptCompletion,
    RawRow,
    shown,
)
from delia_ray.ingest.turns import RowError, Turns, check_encodable, split_turns

__all__ = ["KNOWN", "LAYOUTS", "RowError", "candidates", "read_row", "rename", "split_turns"]

LAYOUTS: dict[str, type[Layout]] = {
    "messages": Messages,
    "alpaca": Alpaca,
    "prompt_completion": PromptCompletion,
    "parallel": Parallel,
    "miniature": Messages,
    "ifeval": IfEval,
}
"""Format name -> class; ``auto`` takes the first that fits the row."""

_BY_NAME_ONLY = ("miniature", "ifeval")
"""Not tried by ``auto``: the prompts of IFEval are good queries without their constraints."""

_OTHER_NAMES = {
    "prompt": frozenset(PromptCompletion.queries[1:]),
    "completion": frozenset(PromptCompletion.answers[1:]),
}
"""Names that stand for another where the config does not say which column it is."""

KNOWN: frozenset[str] = frozenset(
    [key for layout in LAYOUTS.values() for key in layout.keys]
    + [*PromptCompletion.queries, *PromptCompletion.answers, *NAMES, *THREE]
)
"""Names by which the first line of a table is known to be a header."""


def candidates(
    format: str, columns: Mapping[str, str], options: Options | None = None
) -> list[Layout]:
    """The layouts that may read a source's rows: all that know the renamed columns.

    Raises:
        LookupError: ``columns`` names something that no layout (or not this one) reads.
    """
    names = [n for n in LAYOUTS if n not in _BY_NAME_ONLY] if format == "auto" else [format]
    own = options or Options()
    fitting = [LAYOUTS[n](own) for n in names if set(columns) <= set(LAYOUTS[n].keys)]
    if not fitting:
        known = "; ".join(f"{n}: {', '.join(LAYOUTS[n].keys)}" for n in names)
        raise LookupError(f"no layout reads {', '.join(columns)} together ({known})")
    return fitting


def read_row(
    row: RawRow,
    layouts: Sequence[Layout],
    columns: Mapping[str, str],
    control: re.Pattern[str] | None = None,
) -> Turns:
    """One raw row as turns and answer, by the only layout or the first that fits; ``control``
    matches the chat template's own tokens, which no text may hold.

    Raises:
        RowError: no layout fits, or the one that does cannot read the row.
    """
    if columns:
        row = rename(row, columns)
    if len(layouts) == 1:
        turns, answer = layouts[0].read(row)
    else:
        layout = next((one for one in layouts if one.fits(row)), None)
        if layout is None:
            raise RowError("no known layout", f"keys {shown(row)}")
        turns, answer = layout.read(row)
    for text in [turn["content"] for turn in turns] + [answer or ""]:
        _check(text, control)
    return turns, answer


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
    for wanted, name in columns.items():
        value: Any = row
        for part in [name] if name in row else name.split("."):
            value = value.get(part) if isinstance(value, Mapping) else None
        renamed[wanted] = value
    for wanted, others in _OTHER_NAMES.items():
        if wanted in columns:
            renamed = {k: v for k, v in renamed.items() if k not in others}
    return renamed
