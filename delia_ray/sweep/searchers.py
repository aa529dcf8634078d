"""Tune's searchers and schedulers by their names in ``Sweep``; what is missing is said at once."""

import importlib.util
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ray.tune.search import Searcher

from delia_ray.config import Sweep
from delia_ray.errors import UserError
from delia_ray.sweep.population import LR, mutations
from delia_ray.sweep.space import Parameters, as_suggested, suggest, suggested
from delia_ray.sweep.trial import SCORE, named

NEEDS = {"optuna": ("optuna",), "bohb": ("hpbandster", "ConfigSpace")}
"""Searcher -> packages."""
_TRIES = 50
"""Suggestions in a row that may have been tried already, before the search ends."""


def check_installed(sweep: Sweep) -> None:
    """Fail before anything runs where the searcher's package is missing.

    Raises:
        UserError: see above.
    """
    missing = [n for n in NEEDS.get(sweep.searcher, ()) if importlib.util.find_spec(n) is None]
    if missing:
        raise UserError(
            f"searcher={sweep.searcher} needs the package {' and '.join(missing)}: "
            f"pip install {' '.join(missing)}; or take searcher=random"
        )


def make_searcher(
    sweep: Sweep, known: Sequence[Parameters], plan: Callable[[Parameters], str | None]
) -> Searcher | None:
    """What learns from trials; None where all trials are planned beforehand.

    Args:
        sweep: names it.
        known: parameters of trials that were begun before, which it suggests first.
        plan: notes a trial and returns its key; None where it is not new.
    """
    if sweep.searcher in ("random", "grid"):
        return None
    points = [as_suggested(sweep.dimensions, p) for p in known]
    make = {"optuna": _optuna, "bohb": _bohb}[sweep.searcher]
    return Guided(make(sweep, points), sweep, plan)


def _optuna(sweep: Sweep, points: list[dict[str, Any]]) -> Searcher:
    from ray.tune.search.optuna import OptunaSearch

    several = len(sweep.objectives) > 1
    modes = ["max" if o.goal == "maximise" else "min" for o in sweep.objectives.values()]
    return OptunaSearch(
        space=lambda trial: suggest(sweep.dimensions, trial),
        metric=[named(n) for n in sweep.objectives] if several else SCORE,
        mode=modes if several else "max",
        points_to_evaluate=points or None,
        seed=sweep.seed,
    )


def _bohb(sweep: Sweep, points: list[dict[str, Any]]) -> Searcher:
    import ConfigSpace as cs
    from ray.tune.search.bohb import TuneBOHB

    space = cs.ConfigurationSpace(seed=sweep.seed)
    for name, dimension in sweep.dimensions.items():
        ends, log = dimension.ends, dimension.kind.startswith("log")
        if dimension.kind == "choice":
            space.add(cs.CategoricalHyperparameter(name, list(range(len(ends)))))
        elif "integer" in dimension.kind:
            space.add(cs.UniformIntegerHyperparameter(name, *ends, log=log))
        else:
            space.add(cs.UniformFloatHyperparameter(name, *ends, log=log))
    return TuneBOHB(space=space, metric=SCORE, mode="max", points_to_evaluate=points or None)


def make_scheduler(sweep: Sweep) -> Any:
    """Decides at rungs; they are counted, so that uneven ones are as good as even ones."""
    from ray.tune.schedulers import (
        ASHAScheduler,
        FIFOScheduler,
        HyperBandForBOHB,
        PopulationBasedTraining,
    )

    last = len(sweep.rungs) + 1
    if sweep.scheduler == "asha":
        return ASHAScheduler(
            time_attr="training_iteration", max_t=last, grace_period=1,
            reduction_factor=sweep.reduction,
        )  # fmt: skip
    if sweep.scheduler == "pbt":
        random.seed(sweep.seed)  # it draws from the interpreter's own generator
        return PopulationBasedTraining(
            time_attr="training_iteration", perturbation_interval=1, log_config=False,
            hyperparam_mutations={"lr": mutations(sweep.dimensions[LR])},
        )  # fmt: skip
    if sweep.scheduler == "hyperband":
        return HyperBandForBOHB(
            time_attr="training_iteration", max_t=last, reduction_factor=sweep.reduction
        )
    return FIFOScheduler()


class Guided(Searcher):  # type: ignore[misc]
    """Passes on what another searcher suggests, but nothing twice: of a trial that is known
    already nothing new is learned."""

    def __init__(
        self, inner: Searcher, sweep: Sweep, plan: Callable[[Parameters], str | None]
    ) -> None:
        super().__init__(metric=inner.metric, mode=inner.mode)
        self.inner, self.sweep, self.plan = inner, sweep, plan
        self.names: dict[str, str] = {}
        """Tune's id of a trial -> the inner searcher's."""

    def set_search_properties(self, metric: Any, mode: Any, config: Any, **spec: Any) -> bool:
        return True

    def suggest(self, trial_id: str) -> Any:
        for turn in range(_TRIES):
            name = f"{trial_id}-{turn}"
            found = self.inner.suggest(name)
            if found is None or found == Searcher.FINISHED:
                return found
            if (key := self.plan(suggested(self.sweep.dimensions, found))) is not None:
                self.names[trial_id] = name
                return {"key": key}
            self.inner.on_trial_complete(name, error=True)
        return Searcher.FINISHED

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        self.inner.on_trial_result(self.names[trial_id], result)

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        self.inner.on_trial_complete(self.names[trial_id], result, error)

    def on_pause(self, trial_id: str) -> None:
        """Of HyperBand with BOHB."""
        self.inner.on_pause(self.names[trial_id])

    def on_unpause(self, trial_id: str) -> None:
        """Of HyperBand with BOHB."""
        self.inner.on_unpause(self.names[trial_id])

    def save(self, checkpoint_path: str) -> None:
        """An empty file: a search goes on from the trials' own."""
        Path(checkpoint_path).touch()

    def restore(self, checkpoint_path: str) -> None:
        """Nothing, see ``save``."""

    def __getstate__(self) -> dict[str, Any]:
        return {}  # Tune keeps a pickle of its settings, which nobody reads
