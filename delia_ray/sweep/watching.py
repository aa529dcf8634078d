"""Notes what Tune alone knows: which trials its scheduler stopped, and why one failed."""

import re
from pathlib import Path
from typing import Any

from ray.tune import Callback
from ray.tune.experiment import Trial

from delia_ray import runtime
from delia_ray.artifacts import Folder
from delia_ray.finetune.stage import free_workers
from delia_ray.stage import Progress
from delia_ray.sweep.records import read_one
from delia_ray.sweep.trial import KEY, SCORE, STEP
from delia_ray.sweep.work import stop, training_of


class Watch(Callback):  # type: ignore[misc]
    """Of one search.

    Args:
        trials: folder of the trials.
        failed: gets why each failed one did, by key.
        progress: is told.
        total: trials of this search.
    """

    def __init__(
        self, trials: Folder, failed: dict[str, str], progress: Progress, total: int
    ) -> None:
        self.trials, self.failed, self.progress, self.total = trials, failed, progress, total
        self.over = 0
        self._at: dict[str, tuple[str, int]] = {}
        """Tune's id of a trial -> (our key, last step)."""

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        before, now = self._at.get(trial.trial_id), (result[KEY], result[STEP])
        if before is not None and before[0] != now[0]:  # it went on from a copy of a better one
            stop(self.trials / before[0], before[1])
        self._at[trial.trial_id] = now
        self._tell(trial, f"step {result[STEP]}, score {result[SCORE]:.3f}")

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        if trial.trial_id in self._at:
            key, step = self._at[trial.trial_id]
            stop(self.trials / key, step)
        self.over += 1
        self._tell(trial, "over")

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        key = self._key(trial)
        self.failed[key] = why(trial)
        self.over += 1
        self._tell(trial, f"failed: {self.failed[key]}")
        others = [t for t in trials if t is not trial and t.status == Trial.RUNNING]
        self._free(key, trial, alone=not others)

    def _free(self, key: str, trial: Any, alone: bool) -> None:
        """Take the workers of a failed trial from it, or the next one might wait for their CPUs
        forever: Ray Train's are not ended with the process that asked for them."""
        training = training_of(self.trials / key)
        if training is not None and not free_workers(training) and alone:  # they were starting
            runtime.free_orphans(but=trial.placement_group_factory.bundles[0])

    def _key(self, trial: Any) -> str:
        known = self._at.get(trial.trial_id)
        return known[0] if known else str(trial.config["key"])

    def _tell(self, trial: Any, note: str) -> None:
        number = read_one(self.trials / self._key(trial), self._key(trial)).number
        said = f"{self.over} of {self.total}; trial {number}: {note}"
        self.progress(self.over, self.total, said)

    def __getstate__(self) -> dict[str, Any]:
        return {}  # Tune keeps a pickle of its settings, which nobody reads


def why(trial: Any) -> str:
    """The error of a trial in one line: the last that names one in the text that Tune keeps."""
    try:
        text = Path(trial.error_file).read_text(errors="replace")
    except (OSError, TypeError):  # gone, or there never was one
        text = ""
    lines = [line.strip() for line in text.strip().splitlines()]
    named = [line for line in lines if _ERROR.match(line)]
    if not named:
        return "its process ended without a word"
    kind, _, said = named[-1].partition(": ")
    return f"{kind.rpartition('.')[2]}: {said}"


_ERROR = re.compile(r"[A-Za-z_][\w.]*(Error|Exception|Interrupt|Exit|Died): \S")


def _nothing(trial: Any) -> None:
    """In place of what Tune reads for its own summary, which nobody looks at: it keeps a trial's
    error as a pickle in the sweep's storage, where others may be able to put one of theirs."""


Trial.get_pickled_error = _nothing
