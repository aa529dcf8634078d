"""Shared memory that killed processes leave in ``/dev/shm``.

vLLM's processes talk through Python's ``multiprocessing.shared_memory`` (files ``psm_*``, hundreds
of megabytes each). A process that ends by itself removes its own, and where it is killed,
Python's resource tracker does; but the tracker is killed with it when all that a run started is
ended. Nobody else can tell afterwards whose a file was, so it is noted while its process still
has it mapped, and removed when no process has.
"""

import contextlib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

FOLDER = Path("/dev/shm")
PREFIX = "psm_"
"""Of the names that Python gives."""

_noted: set[Path] = set()


def note(processes: Iterable[int]) -> None:
    """Remember the shared memory of ``processes`` (ids), which belong to this run."""
    for process in processes:
        _noted.update(mapped(process))


def remove_noted() -> list[Path]:
    """Remove what was noted and no living process has mapped any more; what was removed."""
    if not _noted:
        return []
    used: set[Path] = set()
    for process in _processes():
        used |= mapped(process)
    removed = []
    for path in sorted(_noted - used):
        with contextlib.suppress(OSError):
            path.unlink()
            removed.append(path)
        _noted.discard(path)
    return removed


def mapped(process: int) -> set[Path]:
    """Files of Python's shared memory that a process has mapped; none where it is gone, or is
    another user's, who cannot have mapped this user's."""
    found = set()
    with contextlib.suppress(OSError), open(f"/proc/{process}/maps", errors="replace") as lines:
        for line in lines:
            # address, rights, offset, device, inode, path
            parts = line.split(maxsplit=5)
            if len(parts) < 6 or parts[5].endswith("(deleted)\n"):
                continue
            path = Path(parts[5].rstrip("\n"))
            if path.parent == FOLDER and path.name.startswith(PREFIX):
                found.add(path)
    return found


def _processes() -> Iterator[int]:
    with contextlib.suppress(OSError):
        yield from (int(name) for name in os.listdir("/proc") if name.isdigit())
