"""The files in which rank 0 says how far it is, and what is shown of them; free of torch."""

import time
from collections.abc import Callable, Mapping
from typing import Any

from delia_ray.artifacts import Folder
from delia_ray.errors import DeliaError
from delia_ray.pace import Pace, span

PROGRESS = "progress.json"
READY = "ready.json"
"""Written when the model is loaded and the first step begins."""
WARM = 5
"""Steps before an estimate: the first ones load, compile and fill caches."""

TRACE, SUMMARY = "profile/trace.json.gz", "profile/summary.json"
"""In an arm's folder, where ``finetune.profile`` is set: a trace that opens in
https://ui.perfetto.dev or chrome://tracing, and its figures."""
_NUMBERS = ("step", "steps", "loss", "tokens", "seconds", "tokens_so_far")


class Story:
    """What a training that is looked at now and then does, in a line.

    Args:
        steps: of each arm, in the order in which they are trained.
        clock: see ``Pace``.
    """

    def __init__(
        self, steps: Mapping[str, int], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.steps, self.total = dict(steps), sum(steps.values())
        self.pace = Pace(WARM, clock)
        self.earlier, self.last = 0.0, ("", 0.0)

    def beginning(self, workers: bool, ready: bool) -> str:
        """Before the first step is done: whether the workers run, and have the model."""
        if not workers:
            return "starting workers"
        return "first step: the slowest" if ready else "loading the model"

    def tell(self, point: Mapping[str, Any]) -> tuple[float, str]:
        """(share of all steps that are done, a line) of what ``told`` returned."""
        arm, tokens = str(point["arm"]), float(point["tokens_so_far"])
        if arm != self.last[0] or tokens < self.last[1]:
            self.earlier += self.last[1]
        self.last = arm, tokens
        before = sum(list(self.steps.values())[: list(self.steps).index(arm)])
        done = before + int(point["step"])
        self.pace.see(done, self.earlier + tokens)
        said = f"{arm}: step {point['step']}/{point['steps']}, loss {point['loss']:.3f}"
        if rate := self.pace.rates()[1]:
            said += f", {rate:,.0f} tok/s"
        if (left := self.pace.left(self.total - done, self.total)) is not None:
            said += f", about {span(left)} left"
        return done / max(1, self.total), said


def told(out: Folder) -> dict[str, Any] | None:
    """What a training in ``out`` last said of itself: ``arm``, and numbers. It is only shown, so
    what cannot be read is passed over."""
    if not out.exists(PROGRESS):
        return None
    try:
        point = out.read_json(PROGRESS)
    except DeliaError:
        return None
    if not isinstance(point, dict) or not isinstance(point.get("arm"), str):
        return None
    if not all(isinstance(point.get(name), int | float) for name in _NUMBERS):
        return None
    return point if point["steps"] > 0 and point["seconds"] > 0 else None
