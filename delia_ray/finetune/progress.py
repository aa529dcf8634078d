"""The file in which rank 0 says how far it is; a module of its own, free of torch."""

from typing import Any

from delia_ray.artifacts import Folder
from delia_ray.errors import DeliaError

PROGRESS = "progress.json"

TRACE, SUMMARY = "profile/trace.json.gz", "profile/summary.json"
"""In an arm's folder, where ``finetune.profile`` is set: a trace that opens in
https://ui.perfetto.dev or chrome://tracing, and its figures."""
_NUMBERS = ("step", "steps", "loss", "tokens", "seconds")


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
