"""What a training's error says of memory, as one paragraph with the settings to lower."""

from collections.abc import Iterator
from pathlib import Path

import psutil

from delia_ray.artifacts import Folder
from delia_ray.config import Finetune
from delia_ray.errors import DeliaError
from delia_ray.finetune.progress import told

_REFUSED = (
    "can't allocate memory",  # PyTorch's DefaultCPUAllocator
    "std::bad_alloc",
    "cannot allocate memory",  # the system's ENOMEM
    "out of memory",  # CUDA's and Ray's
    "outofmemoryerror",
    "memoryerror",
    "memory pressure",
    "low on memory",
)
_VANISHED = ("sigkill", "oom killer", "connection error code 2")
"""What Ray says of a process that was ended from outside; the kernel ends those that way of which
memory is short, and so does anybody's ``kill -9``."""


def memory_death(error: BaseException, settings: Finetune, out: Folder) -> DeliaError | None:
    """The paragraph where ``error``, which ended a training, is about memory; else None.

    Args:
        settings: of the training.
        out: its folder, where rank 0 told how far it was and what it held.
    """
    for who, one in _all(error):
        said = f"{type(one).__name__}: {one}".lower()
        refused = isinstance(one, MemoryError) or any(mark in said for mark in _REFUSED)
        vanished = any(mark in said for mark in _VANISHED)
        if refused or (vanished and kernel_kills() > 0):
            return DeliaError(_paragraph(who, refused, settings, out))
    return None


def _all(error: BaseException) -> Iterator[tuple[str, BaseException]]:
    """(who failed, its error), of the workers first, and what they come from."""
    failures = getattr(error, "worker_failures", None)
    for rank, own in failures.items() if isinstance(failures, dict) else ():
        yield f"training worker {rank}", own
    seen: BaseException | None = error
    while seen is not None:
        yield "a training worker", seen
        seen = getattr(seen, "cause", None) or seen.__cause__


def _paragraph(who: str, refused: bool, settings: Finetune, out: Folder) -> str:
    point = told(out) or {}
    held = point.get("memory_gib")
    had = f"it had held {held:.1f} GiB at most" if isinstance(held, int | float) else (
        "it had made no step yet"
    )  # fmt: skip
    when = f" at step {point['step']} of {point['arm']}" if point else ""
    how = "ran out of memory" if refused else "was killed, and the system ran out of memory"
    lower = []
    if settings.micro_batch_size > 1:
        lower.append(f"finetune.micro_batch_size (now {settings.micro_batch_size})")
    if settings.workers > 1:
        lower.append(f"finetune.workers (now {settings.workers})")
    if settings.side_by_side > 1:
        lower.append(f"finetune.side_by_side (now {settings.side_by_side})")
    wanted = f"lower {' or '.join(lower)}, or " if lower else ""
    if not settings.gradient_checkpointing:
        wanted += "set finetune.gradient_checkpointing=true, or "
    return (
        f"{who} {how}{when}: {had}, and the {_place()} has {limit_gib():.1f} GiB, of which "
        f"{free_gib():.1f} are free now. To go on from the last checkpoint, {wanted}give it more "
        "memory; a smaller mix.pack_length helps too, and begins the training anew"
    )


_CGROUP = Path("/sys/fs/cgroup")


def _number(*names: str) -> int | None:
    """Of the first of the control group's files ``names`` that holds one."""
    for name in names:
        try:
            return int((_CGROUP / name).read_text())
        except (OSError, ValueError):  # not there, or "max"
            continue
    return None


def _limit() -> int | None:
    """Bytes that the control group (v2, v1) is held to, if that is less than the machine's."""
    found = _number("memory.max", "memory/memory.limit_in_bytes")
    return found if found is not None and found < psutil.virtual_memory().total else None


def _place() -> str:
    return "machine of this command" if _limit() is None else "container of this command"


def limit_gib() -> float:
    """Memory that processes here may hold together."""
    return float(_limit() or psutil.virtual_memory().total) / 2**30


def free_gib() -> float:
    """Memory that is left here."""
    free, limit = int(psutil.virtual_memory().available), _limit()
    used = _number("memory.current", "memory/memory.usage_in_bytes") if limit else None
    return (free if limit is None or used is None else min(free, max(0, limit - used))) / 2**30


def kernel_kills() -> int:
    """Processes of this control group that the kernel ended for memory, since it is there."""
    for name in ("memory.events", "memory/memory.oom_control"):
        try:
            lines = (_CGROUP / name).read_text().splitlines()
        except OSError:
            continue
        return sum(int(line.split()[1]) for line in lines if line.startswith("oom_kill "))
    return 0
