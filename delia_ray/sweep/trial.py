"""A trial as Ray Tune runs it: an actor that stays loaded and takes one trial after the other.

Starting a process that trains costs as much as some hundred steps of a small model; Tune's
``reuse_actors`` keeps it, and ``reset_config`` gives it the next trial.
"""

import json
from typing import Any

from ray import tune

from delia_ray.artifacts import Folder
from delia_ray.config import Sweep
from delia_ray.redaction import restored
from delia_ray.sweep.objectives import score, values
from delia_ray.sweep.population import branch
from delia_ray.sweep.work import Work

SCORE, STEP, KEY = "score", "step", "trial_key"
"""Of what is reported: the weighted score, optimizer steps done, and the trial that did them."""


def named(objective: str) -> str:
    """An objective's key in what is reported."""
    return f"objective_{objective}"


class TrialActor(tune.Trainable):  # type: ignore[misc]
    """One trial after the other.

    ``config``: ``key`` of the trial, ``trials`` (URL of their folder), ``sweep`` (its settings as
    JSON), ``cpus`` and ``gpus`` of this process, and ``lr`` where a population changes it.
    """

    work: Work

    @classmethod
    def default_resource_request(cls, config: dict[str, Any]) -> tune.PlacementGroupFactory:
        """This process; workers of trainings that have several are beside it."""
        gpus = {"GPU": config["gpus"]} if config["gpus"] else {}
        return tune.PlacementGroupFactory([{"CPU": config["cpus"], **gpus}])

    def setup(self, config: dict[str, Any], known: dict[str, Any] | None = None) -> None:
        """``known``: the sweep's settings with their credentials, where they have any."""
        self.known = known
        self._take(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self.work.close()
        self._take(new_config)
        return True

    def _take(self, config: dict[str, Any]) -> None:
        self.sweep = Sweep.model_validate(restored(json.loads(config["sweep"]), self.known))
        self.trials, self.lr = Folder(config["trials"]), config.get("lr")
        self._open(config["key"])

    def _open(self, key: str) -> None:
        self.key = key
        self.work = Work(self.trials / key, self.sweep.rungs, self.sweep.rung_rows, self.known)

    def step(self) -> dict[str, Any]:
        point, over = self.work.advance()
        found = {named(name): value for name, value in values(self.sweep, point).items()}
        own = {SCORE: score(self.sweep, point), STEP: point.step, KEY: self.key}
        return {**own, "done": over, **found}

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Nothing: where a trial goes on is in its own files, and in what it last reported."""

    def restore(self, checkpoint_path: Any) -> None:
        """Go on as a paused trial, or as a copy of a better one.

        Tune would unpickle what lies in the sweep's storage, where others may be able to write.
        What was reported with a checkpoint comes through Ray instead, and says all.
        """
        reported = checkpoint_path.metrics
        self._iteration = int(reported.get("training_iteration", 0))
        self._time_total = float(reported.get("time_total_s", 0.0))
        self._restored = True
        key, step = str(reported[KEY]), int(reported[STEP])
        if reported["trial_id"] != self.trial_id:  # of a better trial
            key = branch(self.trials, self.sweep, key, step, float(self.lr or 0))
        self._open(key)
        self.work.at = step

    def cleanup(self) -> None:
        self.work.close()
