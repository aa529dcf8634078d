"""Outside text in Markdown: it is shown as it is, and starts nothing.

Names of models, paths, reasons and descriptions come from outside, and a page that is made of
the card gives HTML its meaning. So a template writes through ``written``, which takes the
meaning out of all text that no function of this module has made.
"""

import json
import re
import shlex
from collections.abc import Iterable, Mapping
from typing import Any

_HTML = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}
_MARKS = re.compile(
    r"[\\`*~|]"  # code, emphasis, cells
    r"|(?<![^\W_])_|_(?![^\W_])"  # within a word it is no emphasis
    r"|\](?=[(\[:])"  # links; brackets alone are none
    r"|(?<=^ )[#+=-]|^[#+=-](?![.\d])"  # headings, lists, lines
)
_TICKS = re.compile("`+")


class Markdown(str):
    """Text whose marks mean what they say."""


def written(value: Any) -> Markdown:
    """What stands in the page for a value: Markdown as it is, anything else as ``text``."""
    return value if isinstance(value, Markdown) else text(str(value))


def text(plain: str) -> Markdown:
    """``plain`` on one line, with no meaning to Markdown or HTML."""
    line = re.sub(r"\s+", " ", plain)
    line = _MARKS.sub(lambda found: "\\" + found[0], line)
    return Markdown(re.sub("[&<>]", lambda found: _HTML[found[0]], line))


def code(plain: str) -> Markdown:
    """``plain`` as code on one line, whatever it holds."""
    line = " ".join(plain.split())
    if not line:
        return Markdown("(empty)")
    fence = "`" * (_longest(line) + 1)
    inner = f" {line} " if "`" in line else line
    return Markdown(f"{fence}{inner}{fence}")


def code_cell(plain: str) -> Markdown:
    """The same within a table, where a bar ends a cell even in code."""
    if "\\|" not in plain:
        return Markdown(code(plain).replace("|", "\\|"))
    # Readers differ in what two backslashes before a bar are, and code knows no other escape.
    marks = (
        f"&#{ord(c)};" if c.isascii() and not c.isalnum() and c != " " else c
        for c in " ".join(plain.split())
    )
    return Markdown(f"<code>{''.join(marks)}</code>")


def row(cells: Iterable[Any]) -> Markdown:
    """What stands between the outer bars of a table's line."""
    return Markdown(" | ".join(written(cell) for cell in cells))


def codes(names: Iterable[str]) -> Markdown:
    """Each as code, with commas between."""
    return Markdown(", ".join(code(name) for name in names))


def block(plain: str) -> Markdown:
    """``plain`` as a block of code with its lines as they are."""
    fence = "`" * max(4, _longest(plain) + 1)
    return Markdown(f"{fence}\n{plain}\n{fence}")


def python(value: Any) -> Markdown:
    """A literal of Python on one line, for within a block of code."""
    return Markdown(json.dumps(value, ensure_ascii=False))


def shell(word: str) -> Markdown:
    """One word of a command, for within a block of code."""
    return Markdown(shlex.quote(word))


def reasons(found: Mapping[str, int]) -> str:
    """``3 (2 empty, 1 layout)``; 0 where there is none."""
    if not found:
        return "0"
    said = ", ".join(f"{times:,} {reason}" for reason, times in found.items())
    return f"{sum(found.values()):,} ({said})"


def _longest(plain: str) -> int:
    """The longest run of backticks."""
    return max((len(run) for run in _TICKS.findall(plain)), default=0)


FILTERS = {
    "code": code,
    "code_cell": code_cell,
    "row": row,
    "codes": codes,
    "block": block,
    "python": python,
    "shell": shell,
    "reasons": reasons,
}
"""For a template, by name."""
