"""How much memory this process and what shares its control groups may hold, and how much is left.

A container, a Kubernetes pod and a Slurm job see the whole machine's memory in ``/proc``, and are
ended when they take more than their control group allows. Groups stand in each other, and every
limit on the way up counts (``man 7 cgroups``; kernel documentation of cgroup v1 and v2).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

ROOT = Path("/sys/fs/cgroup")
PROC = Path("/proc")


@dataclass(frozen=True)
class Memory:
    """In bytes."""

    limit: int
    """That the processes here may hold together."""
    free: int
    """Of it, what is left; files that the kernel keeps in memory until it needs the room count
    as free."""
    container: bool
    """Whether the limit is a control group's, and not the machine's."""


def memory() -> Memory:
    """As of now."""
    machine = psutil.virtual_memory()
    limit, free = int(machine.total), int(machine.available)
    for group in _groups():
        own = _number(group, "memory.max", "memory.limit_in_bytes")
        if own is None or own >= machine.total:
            continue
        limit = min(limit, own)
        used = _number(group, "memory.current", "memory.usage_in_bytes")
        if used is not None:
            free = min(free, max(0, own - max(0, used - _files(group))))
    return Memory(limit, min(free, limit), limit < machine.total)


def kills() -> int:
    """Processes that the kernel has ended for want of memory, so far: a number that rises, to be
    compared with an earlier one. Of the control groups of this process; where those do not count
    what happens further down (v1), of the machine."""
    counters = [g / "memory.events" for g in _groups() if (g / "memory.events").exists()]
    counters = counters or [PROC / "vmstat"]
    found = 0
    for file in counters:
        try:
            lines = file.read_text().splitlines()
        except OSError:
            continue
        found += sum(int(line.split()[1]) for line in lines if line.startswith("oom_kill "))
    return found


def _groups() -> Iterator[Path]:
    """The memory groups of this process, from its own to the outermost that is seen here."""
    try:
        lines = (PROC / "self" / "cgroup").read_text().splitlines()
    except OSError:
        lines = []
    ways = {k: w for _, k, w in (line.split(":", 2) for line in lines if line.count(":") >= 2)}
    old = next((w for k, w in ways.items() if "memory" in k.split(",")), None)
    base, way = (ROOT, ways.get("", "/")) if old is None else (ROOT / "memory", old)
    own = base / way.strip("/")
    for group in (own, *own.parents):
        if group == base or base in group.parents:
            yield group


def _number(group: Path, *names: str) -> int | None:
    """Of the first of the group's files ``names`` that holds one."""
    for name in names:
        try:
            return int((group / name).read_text())
        except (OSError, ValueError):  # not there, or "max"
            continue
    return None


def _files(group: Path) -> int:
    """Bytes of files that the kernel gives up first."""
    try:
        lines = (group / "memory.stat").read_text().splitlines()
    except OSError:
        return 0
    found = {name: int(value) for name, value in (line.split()[:2] for line in lines)}
    return found.get("total_inactive_file", found.get("inactive_file", 0))
