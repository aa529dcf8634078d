"""What a trial does: read its prefix of the pool, train to a rung, be asked, go on.

The stages are the pipeline's, in this process and by their fingerprints: a trial that was broken
off goes on at its last checkpoint, and one that is done returns from its files at once. Only the
training is led step by step, so that rungs can be between its steps.
"""

import time
from dataclasses import asdict
from typing import Any

import pyarrow.compute as pc

from delia_ray import pipeline, runtime
from delia_ray.artifacts import Folder
from delia_ray.config import RunConfig
from delia_ray.errors import DeliaError
from delia_ray.names import is_fingerprint
from delia_ray.redaction import restored
from delia_ray.stored import Damaged
from delia_ray.sweep.records import DONE, STOPPED, Point, Record, read_one, run_of

TRAINING = "training.json"
"""In a trial's folder: the fingerprint of its training."""


class Work:
    """One trial, rung by rung.

    Args:
        folder: the trial's.
        rungs: optimizer steps at which it is asked on its way.
        rung_rows: of each suite, there.
        known: the sweep's settings with credentials, which are not kept with a trial.
    """

    def __init__(self, folder: Folder, rungs: list[int], rung_rows: int, known: Any = None) -> None:
        self.folder, self.rung_rows = folder, rung_rows
        self.record: Record = read_one(folder, folder.url.rstrip("/").rsplit("/", 1)[-1])
        run = known and known.get("run")
        self.config = RunConfig.model_validate(restored(self.record.config, run))
        self.arm = next(iter(self.config.arms))
        self.alone = self.config.finetune.workers == 1
        self._plans: pipeline.Plan | None = None
        self._training: Any = None
        self._known = {p.step: p for p in self.record.points}
        self._rungs = [r for r in rungs if self.alone]
        self.at = 0
        self.began = time.time()

    def advance(self) -> tuple[Point, bool]:
        """To the next rung, or to the end; (how it did, whether that was the end)."""
        if self.record.state in ("done", "stopped"):
            return self._replay()
        for rung in [r for r in self._rungs if r > self.at]:
            point = self._known.get(rung)
            if point is None and rung < self.steps:
                point = self._rung(rung)
            if point is not None:
                self.at = rung
                return point, False
        return self._end(), True

    def _replay(self) -> tuple[Point, bool]:
        """What a trial that has ended left, point by point."""
        left = [p for p in self.record.points if p.step > self.at]
        point = left[0] if left else self.record.points[-1]
        self.at = point.step
        return point, len(left) <= 1

    @property
    def plans(self) -> pipeline.Plan:
        """Of the pipeline; everything up to the mix is there."""
        if self._plans is None:
            self._plans = pipeline.run(self.config, until="mix", record=False, here=True)
        return self._plans

    @property
    def steps(self) -> int:
        """Optimizer steps of the whole training."""
        return int(self._mix()["arms"][self.arm]["steps"])

    def _mix(self) -> dict[str, Any]:
        return (self.plans.folder("mix").manifest() or {})["counts"]  # type: ignore[no-any-return]

    # --- training ---------------------------------------------------------------------------

    def _train(self, until: int) -> Any:
        """The training, led to step ``until``."""
        if self._training is None:
            from delia_ray.finetune.alone import join_alone
            from delia_ray.finetune.checkpoints import Checkpoints
            from delia_ray.finetune.job import Job
            from delia_ray.finetune.loop import Training, prepare

            join_alone("nccl" if runtime.has_gpu() else "gloo")
            out = self.plans.folder("finetune")
            job = Job(self.config, self.plans.folder("mix"), out)
            prepare(job)
            # Those of rungs stay: another trial of a population may go on from a copy.
            keep = self.config.finetune.keep_checkpoints + len(self._rungs)
            kept = Checkpoints(out / "checkpoints", keep)
            self._training = Training(job, self.arm, kept)
        self._training.advance(until)
        return self._training

    def _rung(self, step: int) -> Point | None:
        """How it does at ``step``; None where another trial trained it beyond that already."""
        from delia_ray.evaluate.quick import quick_scores

        if (self.plans.folder("finetune") / self.arm).exists("curve.parquet"):
            return None
        training = self._train(step)
        if training.start > step:
            return None
        if training.start < step:  # else it was restored from just there
            training.save(step)
        out, name = self.plans.folder("finetune"), f"{self.arm}@{step}"
        training.leave(name)
        scores = quick_scores(
            self.config, self.plans.folder("ingest"), out, name, self.rung_rows,
            self.folder / f"rung-{step}-answers",
        )  # fmt: skip
        out.remove(name)
        self.folder.remove(f"rung-{step}-answers")
        curve = training.curve
        point = Point(step, scores, self._costs(curve, 0.0))
        self.folder.write_json(f"rung-{step}.json", asdict(point))
        return point

    # --- the end ----------------------------------------------------------------------------

    def _end(self) -> Point:
        out = self.plans.folder("finetune")
        if self.alone and not (out / self.arm).exists("curve.parquet"):
            self._train(self.steps).finish()
        self._training = None
        if not self.alone:
            note_training(self.folder, out)
        plans = pipeline.run(self.config, until="evaluate", record=False, here=self.alone)
        out, evaluated = plans.folder("finetune"), plans.folder("evaluate")
        curve = (out / self.arm).read_table("curve.parquet", ["seconds", "tokens"])
        seconds = float((evaluated.manifest() or {})["seconds"])
        costs = self._costs(curve.to_pylist(), seconds)
        found = evaluated.read_json("scores.json")
        scores = {suite: own[self.arm] for suite, own in found["suites"].items() if self.arm in own}
        point = Point(self.steps, scores, costs)
        stages = {name: plans.fingerprint(name) for name in _STAGES}
        trained = pc.sum(curve["seconds"]).as_py() or 0.0
        self.folder.write_json(
            DONE,
            {
                "point": asdict(point), "steps": self.steps, "stages": stages,
                "seconds": {
                    "training": trained, "evaluation": seconds, "all": time.time() - self.began,
                },
                "began": self.began, "ended": time.time(),
            },
        )  # fmt: skip
        self.at = self.steps
        return point

    def _costs(self, curve: list[dict[str, Any]], evaluation: float) -> dict[str, float]:
        used = self._mix()["arms"][self.arm]["unique_rows"]["diverse"]
        return {
            "seconds": sum(p["seconds"] for p in curve) + evaluation,
            "tokens": float(sum(p["tokens"] for p in curve)),
            "answers": float(used * self.config.mix.mosaic),
        }

    def close(self) -> None:
        """Let go of a training that was not finished."""
        if self._training is not None:
            self._training.engine.destroy()
        self._training = None


def note_training(trial: Folder, out: Folder) -> None:
    """Note where a trial trains, for ``training_of``."""
    trial.write_json(TRAINING, {"finetune": out.url.rstrip("/").rpartition("/")[2]})


def training_of(trial: Folder) -> Folder | None:
    """Where a trial's workers train, once they were asked for; None of one that trains alone."""
    if not trial.exists(TRAINING):
        return None
    noted = trial.read_json(TRAINING, sealed=True)
    if not isinstance(noted, dict) or not is_fingerprint(noted.get("finetune")):
        raise Damaged(f"{trial}/{TRAINING}", "it names no training", "remove it")
    mark: str = noted["finetune"]
    return run_of(trial) / "finetune" / mark


def stop(folder: Folder, step: int) -> None:
    """Note that the scheduler ended a trial at a rung, unless it is done or known."""
    if not folder.exists(DONE) and not folder.exists(STOPPED):
        folder.write_json(STOPPED, {"step": step, "ended": time.time()})


def rows_of(run: Folder, record: Record) -> dict[str, list[float]]:
    """Suite -> main metric of each row, in order, of a finished trial.

    Raises:
        DeliaError: it is not finished.
    """
    if record.state != "done":
        raise DeliaError(f"trial {record.key} is {record.state}, so it has no rows")
    folder = (run / "evaluate" / record.facts["stages"]["evaluate"]).finished()
    table = folder.read_table("generations.parquet", ["suite", "index", "score"]).sort_by("index")
    rows: dict[str, list[float]] = {}
    for row in table.to_pylist():
        if row["score"] is not None:
            rows.setdefault(row["suite"], []).append(row["score"])
    return rows


_STAGES = ("ingest", "synthesize", "mix", "finetune", "evaluate")
