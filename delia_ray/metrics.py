"""Numbers for Prometheus, through Ray, which serves them on every node as ``ray_<name>``.

Adding one is a line in ``METRICS``, a call where it happens, and a panel in
``cluster/grafana.json``; a test holds the three together.
"""

import functools
import sys
from typing import Any

METRICS: dict[str, tuple[str, str, tuple[str, ...]]] = {
    "delia_rows_total": ("counter", "Answers that came back from the engines", ()),
    "delia_failed_rows_total": ("counter", "Of these, those with an error", ()),
    "delia_prompt_tokens_total": ("counter", "Tokens of prompts that were answered", ()),
    "delia_generated_tokens_total": ("counter", "Tokens that the engines generated", ()),
    "delia_cache_hits_total": ("counter", "Requests whose answer was kept from before", ()),
    "delia_engine_deaths_total": ("counter", "Passes that ended with a lost engine or node", ()),
    "delia_queued_rows": ("gauge", "Rows with the engines, or on the way to them", ()),
    "delia_step": ("gauge", "The last optimizer step", ("arm",)),
    "delia_step_seconds": ("gauge", "Seconds of the last optimizer step", ("arm",)),
    "delia_loss": ("gauge", "Loss of the last optimizer step", ("arm",)),
    "delia_trained_tokens_total": ("counter", "Tokens that were trained on", ("arm",)),
}
"""Name -> (kind, what it counts, labels beside ``run``)."""


class Meter:
    """The metrics of one run, sent from this process; silent where it has no Ray."""

    def __init__(self, run: str) -> None:
        self.run = run

    def add(self, name: str, value: float, **labels: str) -> None:
        """Raise a counter."""
        if value > 0 and _connected():
            _metric(name).inc(value, {"run": self.run, **labels})

    def set(self, name: str, value: float, **labels: str) -> None:
        """Set a gauge."""
        if _connected():
            _metric(name).set(value, {"run": self.run, **labels})


def _connected() -> bool:
    ray: Any = sys.modules.get("ray")
    return ray is not None and bool(ray.is_initialized())


@functools.cache
def _metric(name: str) -> Any:
    from ray.util.metrics import Counter, Gauge

    kind, text, labels = METRICS[name]
    made = {"counter": Counter, "gauge": Gauge}[kind]
    return made(name, description=text, tag_keys=("run", *labels))
