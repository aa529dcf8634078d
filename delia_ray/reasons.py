"""Errors as one paragraph: of what Ray brings from a worker, or a library says in many lines, the
part that tells something."""

import errno
import re
from collections.abc import Iterator
from typing import Any

from delia_ray.errors import DeliaError, UserError

LONGEST = 600
"""Characters of a reason."""
ENOUGH = 120
"""Characters, after which no further sentence is added."""
_FIRST = re.compile(r"^[\w.]*(?:Error|Exception|Interrupt|Exit)\b: ?(?=\S|$)")
"""How an error begins in a traceback's last lines."""
_FRAME = re.compile(
    r"^(?:Traceback |  File |    |\s*\^|During handling|The above exception|\x1b|ray::)"
)
_FULL = (errno.ENOSPC, errno.EDQUOT)
_REFUSED = (errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOTDIR, errno.EEXIST, errno.EISDIR,
            errno.ENAMETOOLONG, errno.ELOOP)  # fmt: skip


def reason(error: BaseException) -> str:
    """An error's kind and its first sentence, or as much as it takes to say something."""
    # What Ray brought from a worker holds the error itself, or its traceback as text, of which
    # the error that was first is the cause.
    text = str(error).strip()
    lines = text.splitlines()
    first = next((i for i, line in enumerate(lines) if _FIRST.match(line)), None)
    if first is None:
        return f"{type(error).__name__}: {sentence(text)}"
    return sentence("\n".join(_until_next(lines, first)))


def sentence(text: str) -> str:
    """The first sentence of a text in one line, with those that follow where it is short: a
    heading, or the first of two halves."""
    flat = re.sub(r"\s+", " ", text).strip()
    end = _end(flat)
    found = flat[:end].strip()
    return found if len(found) <= LONGEST else found[: LONGEST - 3].rstrip() + "..."


def user_error(error: BaseException) -> UserError | None:
    """The UserError behind an error that Ray brought from a worker, if there is one."""
    for one in _behind(error):
        if isinstance(one, UserError):
            return UserError(*one.args)
    return None


def storage_error(error: BaseException, storage: str) -> DeliaError | None:
    """What to say of a disk that is full or refuses; None of any other error.

    Args:
        error: that ended a command.
        storage: where it writes.
    """
    for one in _behind(error):
        if not isinstance(one, OSError) or one.errno is None:
            continue
        where = one.filename or storage
        if one.errno in _FULL:
            return DeliaError(
                f"no space is left where {where} is: free some, or set storage= to a larger "
                "place; what is done is kept"
            )
        inside = str(where).startswith(storage) or storage.startswith(str(where))
        if one.errno in _REFUSED and inside:
            return UserError(
                f"storage: cannot write {where} ({one.strerror}); set storage= to a folder that "
                "this user may write to"
            )
    return None


# --- pieces ---------------------------------------------------------------------------


def _behind(error: BaseException) -> Iterator[BaseException]:
    """The error, then what caused it, over Ray's and Ray Train's ways to say so."""
    seen: set[int] = set()
    queue: list[Any] = [error]
    while queue:
        one = queue.pop(0)
        if not isinstance(one, BaseException) or id(one) in seen:
            continue
        seen.add(id(one))
        yield one
        failures = getattr(one, "worker_failures", None) or {}
        queue += [one.__cause__, getattr(one, "cause", None), one.__context__, *failures.values()]


def _until_next(lines: list[str], first: int) -> list[str]:
    """From line ``first`` up to what is no part of its message any more."""
    found = [lines[first]]
    for line in lines[first + 1 :]:
        # A message may be indented, but then not as frames are.
        if _FIRST.match(line) or (_FRAME.match(line) and not _is_open(" ".join(found))):
            break
        found.append(line)
    return found


def _is_open(text: str) -> bool:
    return _depth(text) > 0 or text.rstrip().endswith(":")


def _depth(text: str) -> int:
    return text.count("(") + text.count("[") - text.count(")") - text.count("]")


def _end(flat: str) -> int:
    """Where the first sentence of a line ends that makes it ``ENOUGH``: behind a mark that a
    space or nothing follows, outside brackets."""
    kind = _FIRST.match(flat)
    begin = kind.end() if kind else 0
    for mark in re.finditer(r"[.!?](?=\s|$)", flat[begin:]):
        end = begin + mark.end()
        said = flat[begin:end]
        if _depth(said) > 0 or re.search(r"(?:^|\s)(?:\d+|[A-Z]|e\.g|i\.e|etc|vs|cf)\.$", said):
            continue  # a number of a list, an abbreviation
        if len(said) >= ENOUGH:
            return end
    return len(flat)
