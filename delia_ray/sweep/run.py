"""A whole sweep: one synthesis, the trials, the confirmation, the page."""

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from delia_ray import lock, pipeline, runtime
from delia_ray.artifacts import Folder, open_storage
from delia_ray.config import Sweep
from delia_ray.errors import DeliaError, UserError
from delia_ray.evaluate.scoring import labels
from delia_ray.redaction import redacted
from delia_ray.sweep import confirm, objectives, pool, records
from delia_ray.sweep.configs import Configs
from delia_ray.sweep.reading import SETTINGS
from delia_ray.sweep.result import loss_of, overhead, result
from delia_ray.sweep.search import Search
from delia_ray.sweep.space import Parameters
from delia_ray.sweep.work import rows_of

PAGE, RESULT, BEST = "sweep.html", "sweep-result.json", "best.yaml"


@dataclass(frozen=True)
class Told:
    """Where a sweep says how far it is."""

    stage: Callable[[str], pipeline.Watcher]
    """From a title to the watcher of the pipeline."""
    trials: Callable[[str], Any]
    """From a title to a context in which trials run; it yields a ``Progress``."""
    line: Callable[[str], None]


def folder_of(sweep: Sweep) -> Folder:
    """The sweep's."""
    return (open_storage(sweep.storage) / sweep.name).rooted()


def sweep(settings: Sweep, told: Told) -> dict[str, Any]:
    """Run what is missing of a sweep, and write its page, result and winning recipe.

    The same call goes on where one was broken off: pool, trials and rungs that are done return
    from their files.

    Raises:
        UserError: something to mend, before anything long starts.
        DeliaError: no trial could be finished.
    """
    configs = Configs(settings)
    _check(configs)
    with lock.held(folder_of(settings)):
        return _sweep(configs, folder_of(settings), told)


def _sweep(configs: Configs, run: Folder, told: Told) -> dict[str, Any]:
    settings = configs.sweep
    run.write_json(SETTINGS, redacted(settings.model_dump(mode="json")))
    timing = {"began": time.time()}
    runtime.connect(configs.base)
    Search(settings, run, configs.base).takes()  # no synthesis for trials that cannot run
    pool.prepare(configs, told.stage)
    timing["pool"] = time.time() - timing["began"]
    keys = _search(configs, run, told)
    timing["search"] = time.time() - timing["began"] - timing["pool"]
    known = records.read(records.trials_of(run), keys)
    chosen = objectives.best(settings, known)
    if chosen is None:
        raise DeliaError(_nothing(known))
    again = _confirm(configs, run, chosen, told)
    timing["confirmation"] = time.time() - timing["began"] - timing["pool"] - timing["search"]
    return _finish(configs, run, keys, again, timing)


def _check(configs: Configs) -> None:
    settings = configs.sweep
    evaluated = configs.base.evaluate
    suites = {s.name: labels(s) for s in evaluated.suites}
    objectives.check(settings, suites, evaluated.summary)
    if settings.searcher not in ("random", "grid"):
        from delia_ray.sweep.searchers import check_installed

        check_installed(settings)
    else:
        configs.planned()


# --- the search -----------------------------------------------------------------------------


def _search(configs: Configs, run: Folder, told: Told) -> list[str]:
    """Run the trials; returns their keys."""
    planner = _Planner(configs, records.trials_of(run))
    settings = configs.sweep
    with told.trials("trials") as progress:
        search = Search(settings, run, configs.base, progress)
        if settings.searcher in ("random", "grid"):
            keys = [planner.plan(p) for p in configs.planned()]
            search.planned(keys)
            return records.family(planner.trials, keys)
        from delia_ray.sweep.searchers import make_searcher

        known = planner.known()
        searcher = make_searcher(settings, known, planner.new)
        search.guided(searcher, settings.trials or 1, lambda: planner.keys)
        return planner.keys


class _Planner:
    """Notes trials, each once."""

    def __init__(self, configs: Configs, trials: Folder) -> None:
        self.configs, self.trials = configs, trials
        self.keys: list[str] = []
        """In the order in which they were planned."""

    def plan(self, parameters: Parameters) -> str:
        """Note a trial; returns its key."""
        config = self.configs.trial(parameters)
        key = self.configs.key(config, rungs=True)
        if key not in self.keys:
            self.keys.append(key)
        number = len(self.keys)
        records.plan(self.trials, key, number, "search", parameters, config)
        return key

    def new(self, parameters: Parameters) -> str | None:
        """The same; None where it was planned before."""
        before = len(self.keys)
        key = self.plan(parameters)
        return key if len(self.keys) > before else None

    def known(self) -> list[Parameters]:
        """Of trials of this search that an earlier session began, in its order."""
        found = []
        for record in records.read(self.trials):
            if record.purpose == "search" and self._is_ours(record):
                found.append(record.parameters)
        return found

    def _is_ours(self, record: records.Record) -> bool:
        try:
            config = self.configs.trial(record.parameters)
        except UserError:
            return False
        return self.configs.key(config, rungs=True) == record.key


def _nothing(known: Sequence[records.Record]) -> str:
    errors = "; ".join(sorted({r.error for r in known if r.error})) or "they were stopped"
    return f"no trial of {len(known)} was finished: {errors}"


# --- the confirmation -----------------------------------------------------------------------


def _confirm(
    configs: Configs, run: Folder, chosen: records.Record, told: Told
) -> dict[str, list[str]]:
    """Train the best and the recipe with new seeds; purpose -> keys."""
    trials, seeds = records.trials_of(run), configs.sweep.confirm.seeds
    keys: dict[str, list[str]] = {"best": [], "recipe": []}
    # Side by side in pairs, so that both have about as many seeds should it be broken off.
    for seed in range(seeds):
        for purpose, parameters in (("best", chosen.parameters), ("recipe", {})):
            config = configs.anew(parameters, seed)
            key = configs.key(config, rungs=False)
            records.plan(trials, key, seed + 1, purpose, parameters, config)
            keys[purpose].append(key)
    mixed = [k for pair in zip(keys["best"], keys["recipe"], strict=True) for k in pair]
    if mixed:
        with told.trials("confirmation") as progress:
            plain = {"rungs": [], "scheduler": "none", "searcher": "random", "trials": len(mixed)}
            settings = configs.sweep.model_copy(update=plain)
            Search(settings, run, configs.base, progress).planned(list(dict.fromkeys(mixed)))
    return keys


def _judged(configs: Configs, run: Folder, keys: dict[str, list[str]]) -> Any:
    trials = records.trials_of(run)
    rows = {
        purpose: [rows_of(run, r) for r in records.read(trials, own) if r.state == "done"]
        for purpose, own in keys.items()
    }
    evaluated = configs.base.evaluate
    names = [s.name for s in evaluated.suites]
    counted = confirm.suites_that_count(configs.sweep, evaluated.summary, names)
    return confirm.confirmed(
        rows["best"], rows["recipe"], configs.searched(), counted,
        configs.sweep.confirm.confidence,
    )  # fmt: skip


# --- what is left ---------------------------------------------------------------------------


def _finish(
    configs: Configs, run: Folder, keys: list[str], again: dict[str, list[str]],
    timing: dict[str, float],
) -> dict[str, Any]:  # fmt: skip
    from delia_ray.sweep.page import render

    trials = records.trials_of(run)
    everything = [*keys, *again["best"], *again["recipe"]]
    known = records.read(trials, dict.fromkeys(everything))
    at_once = Search(configs.sweep, run, configs.base).takes()[2]
    wall = timing["search"] + timing["confirmation"]
    counters = pool.counters(run) | {
        "seconds_per_answer": pool.seconds_per_answer(run),
        "side_by_side": at_once,
        "seconds_of_pool": round(timing["pool"], 1),
        "seconds_of_trials": round(wall, 1),
        "overhead": overhead(known, wall, at_once, timing["began"]),
    }
    done = result(
        configs, known, _judged(configs, run, again),
        {r.key: loss_of(run, r) for r in known if r.purpose == "search"}, counters,
        seconds=round(time.time() - timing["began"], 1), device=f"{os.cpu_count()} CPU cores",
        date=datetime.now(UTC).date().isoformat(), versions=pipeline.versions(),
        model=configs.base.model, folder=str(run),
    )  # fmt: skip
    done = dict(redacted(done))
    run.write_json(RESULT, done, seal=False)
    run.write_text(PAGE, render(done))
    if done["best"]:
        run.write_text(BEST, _headed(done))
    return done


def _headed(done: dict[str, Any]) -> str:
    best = done["best"]
    first = f"# Trial {best['number']} of the sweep {done['design']['name']}: delia run {BEST}\n"
    return first + str(best["yaml"])
