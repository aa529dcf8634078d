"""Ray tasks whose results are kept one by one, so that a killed evaluation goes on."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from delia_ray.artifacts import Folder
from delia_ray.errors import DeliaError
from delia_ray.stored import Damaged

RETRIES = 2
"""Further tries of a task whose worker died or whose storage did not answer."""
_POLL = 0.5


@dataclass(frozen=True)
class Part:
    """One task."""

    work: Callable[..., Any]
    """Returns what ``json`` can hold."""
    arguments: tuple[Any, ...]
    doing: str
    """For messages: "scoring plain of delia"."""
    cpus: float = 1.0
    gpus: float = 0.0


def run_parts(
    parts: Mapping[str, Part],
    kept: Folder,
    progress: Callable[[int], None] | None = None,
    here: bool = False,
) -> dict[str, Any]:
    """Results of all ``parts`` by name, from ``kept`` where they are there already.

    Each task writes its own result, so that what is done is not lost with this process.

    Args:
        parts: file name -> task.
        kept: gets one JSON file each.
        progress: is told every half a second how many are done.
        here: do them in this process, one after the other.

    Raises:
        DeliaError: some failed for good; all others are finished and kept first.
    """
    done = {name: _kept(kept, name) for name in parts if kept.exists(name)}
    if here:
        for name, part in parts.items():
            if name not in done:
                done[name] = _keep(part.work, part.arguments, kept, name)
            if progress:
                progress(len(done))
        return {name: done[name] for name in parts}
    import ray

    waiting = {}
    for name, part in parts.items():
        if name not in done:
            task = ray.remote(
                num_cpus=part.cpus, num_gpus=part.gpus,
                max_retries=RETRIES, retry_exceptions=[OSError],
                # Not in the placement group of a trial that evaluates: that has no room.
                scheduling_strategy="DEFAULT",
            )(_keep)  # fmt: skip
            waiting[task.remote(part.work, part.arguments, kept, name)] = name
    failed: list[DeliaError] = []
    try:
        while waiting:
            ready, _ = ray.wait(list(waiting), timeout=_POLL)
            for reference in ready:
                name = waiting.pop(reference)
                try:
                    done[name] = result(reference, parts[name].doing)
                except DeliaError as error:
                    failed.append(error)
            if progress:
                progress(len(done))
    finally:
        for reference in waiting:
            ray.cancel(reference, force=True)
    if failed:
        raise failed[0]
    return {name: done[name] for name in parts}


def _keep(work: Callable[..., Any], arguments: tuple[Any, ...], kept: Folder, name: str) -> Any:
    found = work(*arguments)
    kept.write_json(name, {_RESULT: found})
    return _kept(kept, name)  # what another session would see


def _kept(kept: Folder, name: str) -> Any:
    value = kept.read_json(name, sealed=True)
    if not isinstance(value, dict) or set(value) != {_RESULT}:
        raise Damaged(f"{kept}/{name}", "it is no kept result")
    return value[_RESULT]


_RESULT = "result"


def result(reference: Any, doing: str) -> Any:
    """A task's result; its failure as one paragraph.

    Raises:
        DeliaError: it failed on its last try.
    """
    import ray

    try:
        return ray.get(reference)
    except ray.exceptions.RayTaskError as error:
        cause = error.cause
        if isinstance(cause, DeliaError):
            raise cause from None
        raise DeliaError(
            f"{doing} failed: {type(cause).__name__}: {cause}; the worker's log has the traceback"
        ) from error
    except ray.exceptions.RayError as error:
        raise DeliaError(
            f"{doing} failed {RETRIES + 1} times: {type(error).__name__}: {error}"
        ) from error
