"""Runs trials with Ray Tune, side by side as the cluster allows, and again those that failed.

Tune starts trials, asks searchers and schedulers, and keeps the processes. What came is read from
the trials' files, so nothing here is needed to go on after the driver died.
"""

import json
import math
import os
import uuid
from collections.abc import Callable, Sequence
from typing import Any

from delia_ray import runtime
from delia_ray.artifacts import Folder
from delia_ray.config import RunConfig, Sweep
from delia_ray.errors import UserError
from delia_ray.redaction import is_redacted, redacted
from delia_ray.stage import Progress, silent
from delia_ray.sweep.records import FAILED, family, read, trials_of

_WAITING = 0.01
"""CPUs of a trial that waits for the workers of its training."""
QUIET = {
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # what a trial says is in its own files
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # Ctrl-C ends the sweep; the same command goes on
    "RAY_CHDIR_TO_TRIAL_DIR": "0",  # relative paths of the recipe start where they always do
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
}


class Search:
    """Trials of one sweep.

    Args:
        sweep: its settings.
        run: its folder.
        base: a run of it, which says what a trial takes.
        progress: is told about trials.
    """

    def __init__(
        self, sweep: Sweep, run: Folder, base: RunConfig, progress: Progress = silent
    ) -> None:
        self.sweep, self.run, self.base, self.progress = sweep, run, base, progress
        self.trials = trials_of(run)
        self.failed: dict[str, str] = {}
        """Key -> why, of the last try."""

    def planned(self, keys: Sequence[str], scheduler: bool = True) -> None:
        """Run noted trials, then, up to ``retries`` times, those that failed.

        A failed trial is not tried again in the same search: the death of a process that was
        kept for several trials would count twice, and the trial never start again.
        """
        self._tune(keys=self._left(keys), scheduler=scheduler)
        # A population is over with its search; who is left ends on its own.
        self._again(keys, scheduler and self.sweep.scheduler != "pbt")

    def _left(self, keys: Sequence[str]) -> list[str]:
        """Of a population those that are not superseded; else all, whose points a scheduler
        compares the others with."""
        if self.sweep.scheduler != "pbt":
            return list(keys)
        return self._unfinished(keys)

    def guided(self, searcher: Any, count: int, keys: Callable[[], Sequence[str]]) -> None:
        """Run ``count`` trials that ``searcher`` suggests; ``keys`` gives all that it planned."""
        self._tune(searcher=searcher, count=count)
        self._again(keys(), True)

    def _again(self, keys: Sequence[str], scheduler: bool) -> None:
        for _ in range(self.sweep.retries):
            if not (left := self._unfinished(keys)):
                return
            runtime.free_orphans()
            self._tune(keys=left, scheduler=scheduler)
        for key in self._unfinished(keys):
            error = self.failed.get(key, "its process ended without a word")
            tries = self.sweep.retries + 1
            (self.trials / key).write_json(FAILED, {"tries": tries, "error": error})

    def _unfinished(self, keys: Sequence[str]) -> list[str]:
        known = read(self.trials, family(self.trials, keys))
        return [r.key for r in known if r.state in ("unfinished", "failed")]

    # --- Tune -------------------------------------------------------------------------------

    def _tune(
        self, keys: Sequence[str] = (), searcher: Any = None, count: int = 1,
        scheduler: bool = True,
    ) -> None:  # fmt: skip
        if not keys and searcher is None:
            return
        os.environ.update(QUIET)
        from ray import tune

        from delia_ray.sweep.searchers import make_scheduler
        from delia_ray.sweep.trial import SCORE, TrialActor
        from delia_ray.sweep.watching import Watch

        total = len(keys) if searcher is None else count
        for key in keys:  # what an earlier session gave up is tried again
            (self.trials / key).remove(FAILED)
        cpus, gpus, at_once = self.takes()
        name = uuid.uuid4().hex[:12]
        tree = self.sweep.model_dump(mode="json")
        space: dict[str, Any] = {
            "trials": self.trials.url, "sweep": json.dumps(redacted(tree)),
            "cpus": cpus, "gpus": gpus,
        }  # fmt: skip
        if searcher is None:
            space["key"] = tune.grid_search(list(keys))
        if scheduler and self.sweep.scheduler == "pbt":
            rates = self._rates(keys)
            space["lr"] = tune.sample_from(lambda config: rates[config["key"]])
        tuner = tune.Tuner(
            # Tune keeps what is in the space in the sweep's storage; what has credentials travels
            # through Ray's memory.
            tune.with_parameters(TrialActor, known=tree) if is_redacted(redacted(tree)) else
            TrialActor,
            param_space=space,
            tune_config=tune.TuneConfig(
                metric=SCORE, mode="max", search_alg=searcher, num_samples=count,
                scheduler=make_scheduler(self.sweep) if scheduler else None,
                max_concurrent_trials=at_once, reuse_actors=True,
                trial_name_creator=_name, trial_dirname_creator=_name,
            ),
            run_config=tune.RunConfig(
                name=name, storage_path=str(self.run / "tune"), verbose=0,
                callbacks=[Watch(self.trials, self.failed, self.progress, total)],
                failure_config=tune.FailureConfig(max_failures=0),
                checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
            ),
        )  # fmt: skip
        try:
            tuner.fit()
        finally:
            (self.run / "tune").remove(name)  # all that counts is in the trials' folders

    def _rates(self, keys: Sequence[str]) -> dict[str, float]:
        """The last learning rate of each trial."""
        found = {}
        for record in read(self.trials, keys):
            own = record.config["finetune"]
            found[record.key] = own["phases"][-1]["lr"] if own["phases"] else own["lr"]
        return found

    def takes(self) -> tuple[float, float, int]:
        """(CPUs, GPUs) of the process of a trial, and how many run at a time.

        Raises:
            UserError: not one fits.
        """
        import ray

        there = ray.cluster_resources()
        own = self.base.finetune
        gpus = own.gpus_per_worker
        gpus = (1.0 if there.get("GPU") else 0.0) if gpus is None else gpus
        at_once = side_by_side(own.workers, own.cpus_per_worker, gpus, there)
        if not at_once:
            raise UserError(
                f"finetune.workers={own.workers} of {own.cpus_per_worker} CPUs and {gpus:g} GPUs "
                + (f"(and {_WAITING} CPUs that wait for them) " if own.workers > 1 else "")
                + f"for each trial do not fit a cluster of {there.get('CPU', 0):g} CPUs and "
                f"{there.get('GPU', 0):g} GPUs. Set finetune.workers=1 (under `run` in a sweep's "
                "YAML; a step means the same on any number), raise cluster.num_cpus, or join a "
                "larger cluster"
            )
        if self.sweep.side_by_side is not None:
            at_once = min(at_once, self.sweep.side_by_side)
        alone = own.workers == 1
        return (float(own.cpus_per_worker), gpus, at_once) if alone else (_WAITING, 0.0, at_once)


def side_by_side(
    workers: int, cpus_per_worker: int, gpus_per_worker: float, there: dict[str, float]
) -> int:
    """Trials that a cluster holds at a time.

    A trial whose training has one worker is that worker. Of several, the trial waits beside them
    with a little CPU of its own, so trials that fill a cluster exactly would never start.
    """
    alone = workers == 1
    cpus = workers * cpus_per_worker + (0.0 if alone else _WAITING)
    fits = math.floor(there.get("CPU", 0) / cpus + 1e-9)
    if gpus_per_worker:
        fits = min(fits, math.floor(there.get("GPU", 0) / (workers * gpus_per_worker) + 1e-9))
    return fits


def _name(trial: Any) -> str:
    return str(trial.config["key"])
