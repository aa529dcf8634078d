"""What the rows of a source were taken for: layout, columns, and what was left out."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from delia_ray.ingest.rows import excerpt

_EXAMPLE = 60
"""Characters of a value shown."""
_NAMES = 100
"""Different columns that are noted; rows may have names of their own each."""
_ORDER = ("messages", "system", "history", "prompt", "answer")


@dataclass
class Column:
    """How often something was seen in a column, and the first time."""

    rows: int
    example: str

    def add(self, other: "Column") -> None:
        self.rows += other.rows


@dataclass
class Taken:
    """How the rows of one layout were read."""

    rows: int = 0
    used: dict[str, str] = field(default_factory=dict)
    """Column -> what it was taken for (``prompt``, ``answer``, ``system``, ``messages`` ...)."""


@dataclass
class Notes:
    """What was made of the rows that became records; grows with columns and not with rows."""

    layouts: dict[str, Taken] = field(default_factory=dict)
    """Layout -> how its rows were read."""
    left_out: dict[str, Column] = field(default_factory=dict)
    """Columns with something in them that no record holds; ``a.b`` is part of column ``a``."""
    blanks: dict[str, Column] = field(default_factory=dict)
    """Columns with a text such as ``nan`` that was taken for a missing value."""
    guesses: dict[str, None] = field(default_factory=dict)
    """What was concluded from the values and not from the settings, in words."""

    def add(
        self,
        layout: str,
        used: Mapping[str, str],
        left_out: Mapping[str, Any],
        blanks: Mapping[str, str],
        guess: str = "",
    ) -> None:
        """Note one row that became a record."""
        taken = self.layouts.setdefault(layout, Taken())
        taken.rows += 1
        if not used.keys() <= taken.used.keys():
            taken.used.update(used)
        for columns, seen in ((self.left_out, left_out), (self.blanks, blanks)):
            for name, value in seen.items():
                if name in columns:
                    columns[name].rows += 1
                elif len(columns) < _NAMES:
                    columns[name] = Column(1, excerpt(value)[:_EXAMPLE])
        if guess and len(self.guesses) < _NAMES:
            self.guesses.setdefault(guess)

    def merge(self, others: Iterable["Notes"]) -> "Notes":
        """These and ``others`` together."""
        for other in others:
            for layout, theirs in other.layouts.items():
                own = self.layouts.setdefault(layout, Taken())
                own.rows += theirs.rows
                own.used.update(theirs.used)
            for mine, more in (
                (self.left_out, other.left_out),
                (self.blanks, other.blanks),
            ):
                for name, column in more.items():
                    if name in mine:
                        mine[name].add(column)
                    elif len(mine) < _NAMES:
                        mine[name] = Column(column.rows, column.example)
            self.guesses.update(other.guesses)
        return self

    def counts(self) -> dict[str, Any]:
        """For the manifest, as JSON; parts that are empty are not there."""
        layouts = {n: {"rows": t.rows, "columns": t.used} for n, t in self.layouts.items()}
        left_out = {n: {"rows": c.rows, "example": c.example} for n, c in self.left_out.items()}
        blanks = {n: {"rows": c.rows, "example": c.example} for n, c in self.blanks.items()}
        found = {
            "layouts": layouts,
            "left_out": left_out,
            "taken_for_missing": blanks,
            "guessed": list(self.guesses),
        }
        return {name: value for name, value in found.items() if value}

    def lines(self) -> list[str]:
        """For the screen: how the rows were read, what was left out, what was guessed."""
        said = [f"{t.rows:,} rows as {name} ({_by_role(t.used)})" for name, t in self._most()]
        if self.left_out:
            named = [f"{name} ({c.example!r})" for name, c in list(self.left_out.items())[:8]]
            more = len(self.left_out) - len(named)
            said.append(f"left out: {', '.join(named)}" + (f" and {more} more" if more else ""))
        for name, column in self.blanks.items():
            said.append(f"{name}: {column.example!r} taken for missing ({column.rows:,} rows)")
        return said + list(self.guesses)

    def _most(self) -> list[tuple[str, Taken]]:
        return sorted(self.layouts.items(), key=lambda item: -item[1].rows)


def _by_role(used: Mapping[str, str]) -> str:
    roles: dict[str, list[str]] = {role: [] for role in _ORDER if role in used.values()}
    for column, role in used.items():
        roles.setdefault(role, []).append(column)
    return "; ".join(f"{role}: {' + '.join(columns)}" for role, columns in roles.items())
