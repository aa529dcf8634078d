"""Names that become files and folders, wherever they come from."""

import re

LONGEST = 100
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_MARK = re.compile(r"[0-9a-f]{16}")
_SCRATCH = re.compile(r".+\.tmp-[0-9a-f]{8}", re.DOTALL)


def is_name(text: object) -> bool:
    """Whether ``text`` may name a folder of ours: letters, digits, ``.``, ``_`` and ``-``, the
    first a letter or digit, `LONGEST` at most, and not what an unfinished file is called."""
    if not isinstance(text, str) or len(text) > LONGEST or is_scratch(text):
        return False
    return _NAME.fullmatch(text) is not None


def is_scratch(text: str) -> bool:
    """Whether a file of this name is unfinished (`scratch`)."""
    return _SCRATCH.fullmatch(text) is not None


def name(text: str) -> str:
    """``text``, if it is one.

    Raises:
        ValueError: it is not.
    """
    if is_name(text):
        return text
    shown = text if len(text) <= LONGEST else text[:LONGEST] + "..."
    raise ValueError(
        f"{shown!r} names files, so it may hold letters, digits, '.', '_' and '-' only, must "
        f"begin with a letter or digit, and may have {LONGEST} of them at most"
    )


def is_fingerprint(text: object) -> bool:
    """Whether ``text`` has the form of a stage's fingerprint or a trial's key."""
    return isinstance(text, str) and _MARK.fullmatch(text) is not None


def leads_out(path: str) -> bool:
    """Whether ``path``, taken within a folder, leads out of it or to none of its files."""
    parts = path.split("/")
    return any(part in ("", ".", "..") for part in parts) or "\0" in path or "\\" in path
