"""Where the time of some optimizer steps goes: a trace to look at, and communication's share."""

import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch

from delia_ray.artifacts import Folder
from delia_ray.finetune.progress import SUMMARY, TRACE

FIRST = 3
"""The steps before allocate memory and warm caches."""

_COLLECTIVE = ("gloo:", "nccl:", "ncclDevKernel", "ncclKernel")
"""How the names of collective operations begin, on CPUs and on GPUs."""

Span = tuple[float, float]


class Profiler:
    """Watches the steps from ``FIRST`` on, ``steps`` of them, with ``torch.profiler``.

    Args:
        steps: how many; 0 for none.
        out: the arm's folder; None on ranks that write nothing. All ranks profile, or the one
            that does would be the slowest.
    """

    def __init__(self, steps: int, out: Folder | None) -> None:
        self.steps, self.out = steps, out
        self._profile: Any = None
        self._watched = 0

    def before(self, step: int) -> None:
        """Called before every step, counted from the start of this process."""
        if not self.steps or step != FIRST:
            return
        kinds = [torch.profiler.ProfilerActivity.CPU]
        if torch.cuda.is_available():
            kinds.append(torch.profiler.ProfilerActivity.CUDA)
        self._profile = torch.profiler.profile(activities=kinds)
        self._profile.start()

    def after(self, step: int) -> None:
        """Called after every step; the last one that is watched closes."""
        if self._profile is not None:
            self._watched += 1
        if step + 1 >= FIRST + self.steps:
            self.close()

    def close(self) -> None:
        """Stop and write, also where the training ended before all steps were watched."""
        if self._profile is None:
            return
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        self._profile.stop()
        if self.out is not None:
            self._write(self.out)
        self._profile = None

    def _write(self, out: Folder) -> None:
        with tempfile.TemporaryDirectory() as scratch:
            trace = Path(scratch) / "trace.json.gz"
            self._profile.export_chrome_trace(str(trace))
            out.write_bytes(TRACE, trace.read_bytes())
        events = self._profile.events()
        spans = [(e.time_range.start, e.time_range.end) for e in events]
        whole = max(end for _, end in spans) - min(start for start, _ in spans)
        busy = covered(
            span
            for span, event in zip(spans, events, strict=True)
            if event.name.startswith(_COLLECTIVE)
        )
        found = {
            "steps": self._watched,
            "seconds": round(whole / 1e6, 4),
            "communication_seconds": round(busy / 1e6, 4),
            "communication": round(busy / whole, 4),
        }
        out.write_json(SUMMARY, found)


def covered(spans: Iterable[Span]) -> float:
    """The time in which at least one of ``spans`` (start, end) is under way.

    Collectives overlap each other, and one waits for the slowest rank: the sum of their times
    can be longer than the run.
    """
    total, reached = 0.0, float("-inf")
    for start, end in sorted(spans):
        total += max(0.0, end - max(start, reached))
        reached = max(reached, end)
    return total
