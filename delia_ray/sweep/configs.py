"""From a sweep and the parameters of a trial to the run that the trial is."""

from collections.abc import Mapping
from functools import cached_property
from typing import Any

from delia_ray.artifacts import open_storage
from delia_ray.config import RunConfig, Suite, Sweep, changed, checked, compose
from delia_ray.config.finetune import named_arms
from delia_ray.errors import UserError
from delia_ray.records import digest
from delia_ray.sweep.space import Parameters, corners, draw, grid, in_order
from delia_ray.synthesize.stage import largest_ratio

NOT_IN_THE_RESULT = {"name", "storage", "cluster"}


class Configs:
    """The runs of a sweep; every dimension is checked when it is made.

    Raises:
        UserError: a dimension is no setting, or one of its values is not possible.
    """

    def __init__(self, sweep: Sweep) -> None:
        self.sweep = sweep
        given = sweep.run
        if isinstance(given, dict):
            tree = _with_arms(given)
        else:
            tree = compose([given] if isinstance(given, str) else given)
        try:
            arm = sweep.base_arm(tree.get("arms"))
            in_order(sweep.dimensions)
        except ValueError as error:
            raise UserError(str(error)) from None
        # Absolute: the processes of trials may run in folders of their own.
        where = {"name": sweep.name, "storage": open_storage(sweep.storage).url}
        self._given = tree | where | {"arms": {sweep.arm: arm}}
        own = sweep.cluster.model_dump(exclude_defaults=True)
        base = checked(RunConfig, changed(self._given, {"cluster": own} if own else {}))
        self._tree = base.model_dump(mode="json")
        self._tree["evaluate"]["base"] = False
        self._check()

    def _check(self) -> None:
        if self.sweep.scheduler != "none" and self.base.finetune.workers > 1:
            raise UserError(
                f"scheduler={self.sweep.scheduler} stops trainings on their way, which needs "
                f"finetune.workers=1, not {self.base.finetune.workers}; lower it, or set "
                "scheduler=none"
            )
        for suite in self.base.evaluate.suites if self.sweep.confirm.seeds else ():
            if suite.rows is not None and suite.rows <= (seen := self._first(suite).rows or 0):
                raise UserError(
                    f"suite {suite.name}: of its {suite.rows} rows the search sees {seen}, so none "
                    "are left for the confirmation; lower search_rows, raise the suite's rows, or "
                    "set confirm.seeds=0"
                )
        for name, dimension in self.sweep.dimensions.items():
            for value in dimension.ends:
                try:
                    self.run({name: value})
                except UserError as error:
                    raise UserError(f"dimensions.{name}, value {value!r}: {error}") from None

    @cached_property
    def base(self) -> RunConfig:
        """The recipe as it stands, with the one arm."""
        return self.run({})

    @cached_property
    def ratio(self) -> float:
        """The most answers for each downstream row that any trial can need."""
        sizes = [
            n
            for n in self.sweep.dimensions
            if n in ("mix.ratio", "mix.mosaic", "mix.schedule", f"arms.{self.sweep.arm}.ratio")
        ]
        found = [largest_ratio(self.run(c)) for c in corners(self.sweep.dimensions, sizes)]
        return max([*found, largest_ratio(self.run({}))])

    def run(self, parameters: Mapping[str, Any]) -> RunConfig:
        """The recipe with ``parameters``, as it is written.

        Raises:
            UserError: they are not possible.
        """
        return checked(RunConfig, changed(self._tree, parameters))

    def trial(self, parameters: Mapping[str, Any]) -> RunConfig:
        """What a trial of the search runs: it reads the one pool, and is scored on the first
        rows of each suite."""
        return self._shared(parameters, [self._first(s) for s in self.base.evaluate.suites])

    def anew(self, parameters: Mapping[str, Any], seed: int) -> RunConfig:
        """What training number ``seed`` of the confirmation runs: with all rows."""
        suites = list(self.base.evaluate.suites)
        own = {"training_seed": self.base.order_seed + 1 + seed}
        return self._shared({**parameters, **own}, suites)

    def recipe(self, parameters: Mapping[str, Any], name: str) -> dict[str, Any]:
        """What ``delia run`` takes to train with ``parameters`` on the same pool."""
        own = {**parameters, "synthesize.ratio": self.ratio}
        tree = changed(self._given, own) | {"name": name}
        checked(RunConfig, tree)
        return tree

    def searched(self) -> dict[str, int]:
        """Suite -> its rows that the search has seen."""
        return {s.name: int(self._first(s).rows or 0) for s in self.base.evaluate.suites}

    def planned(self) -> list[Parameters]:
        """Parameters of all trials, where the searcher does not learn; each once.

        Raises:
            UserError: one is not possible.
        """
        dimensions, sweep = self.sweep.dimensions, self.sweep
        if sweep.searcher == "grid":
            found = grid(dimensions)
            if sweep.trials is not None and sweep.trials < len(found):
                raise UserError(
                    f"trials={sweep.trials}: the grid has {len(found)} combinations; leave trials "
                    "out, or take searcher=random"
                )
        else:
            found = draw(dimensions, sweep.trials or 1, sweep.seed)
        for parameters in found:
            self.trial(parameters)
        return found

    def key(self, config: RunConfig, rungs: bool) -> str:
        """Names a trial by what it does, see ``key_of``."""
        return key_of(config, self.sweep if rungs else None)

    def _shared(self, parameters: Mapping[str, Any], suites: list[Suite]) -> RunConfig:
        rows = [s.model_dump(mode="json") for s in suites]
        return self.run({**parameters, "synthesize.ratio": self.ratio, "evaluate.suites": rows})

    def _first(self, suite: Suite) -> Suite:
        if self.sweep.search_rows is None and suite.rows is None:
            raise UserError(
                f"suite {suite.name} takes all its rows, so nobody can say what half of them is; "
                "set search_rows, or the suite's rows"
            )
        rows = self.sweep.search_rows or max(1, (suite.rows or 2) // 2)
        return suite.model_copy(update={"rows": min(rows, suite.rows or rows)})


def key_of(config: RunConfig, sweep: Sweep | None) -> str:
    """Names a trial by what it does: its run, and how it is asked at the rungs of ``sweep``."""
    own = config.model_dump(mode="json", exclude=NOT_IN_THE_RESULT)
    return digest([own, [sweep.rungs, sweep.rung_rows] if sweep is not None else []])


def _with_arms(tree: dict[str, Any]) -> dict[str, Any]:
    try:
        return {**tree, "arms": named_arms(tree["arms"])} if "arms" in tree else tree
    except ValueError as error:
        raise UserError(str(error)) from None
