"""What a check before the first stage finds."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Problem:
    """One thing that makes a model or a recipe impossible, or (a note) other than expected."""

    what: str
    """What is wrong, with the values that were found."""
    setting: str = ""
    """The setting that it is about, as ``mix.max_length=1024``; empty where none is."""
    advice: str = ""
    """What would work."""
    fatal: bool = True
    """Whether the run would fail; otherwise it is only told."""

    def __str__(self) -> str:
        begin = f"{self.setting}: " if self.setting else ""
        return f"{begin}{self.what}" + (f"; {self.advice}" if self.advice else "")
