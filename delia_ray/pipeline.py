"""The stages in order: what is done is skipped, what is made is published.

A stage's fingerprint is the digest of its settings, its version and what it reads. That one
number gives resume, caching and provenance.
"""

import contextlib
import platform
import time
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib import metadata
from typing import Any, Protocol

from pydantic import ValidationError

from delia_ray import lock, preflight, runtime, stopping
from delia_ray.artifacts import MANIFEST, Folder, open_storage
from delia_ray.config import RunConfig
from delia_ray.errors import UserError
from delia_ray.evaluate.stage import STAGE as EVALUATE
from delia_ray.finetune.stage import STAGE as FINETUNE
from delia_ray.ingest.stage import STAGE as INGEST
from delia_ray.mix.stage import STAGE as MIX
from delia_ray.names import is_fingerprint
from delia_ray.recipe_files import resolved
from delia_ray.records import digest
from delia_ray.redaction import redact, redacted
from delia_ray.report.stage import STAGE as REPORT
from delia_ray.stage import Progress, Stage, StageRun, silent
from delia_ray.stored import Damaged, reading
from delia_ray.synthesize.plan import foresee
from delia_ray.synthesize.stage import STAGE as SYNTHESIZE

STAGES: tuple[Stage, ...] = (INGEST, SYNTHESIZE, MIX, FINETUNE, EVALUATE, REPORT)
PUBLISHED = ("report.html", "results.json")
"""Files of the report that are copied to the run's own folder."""
_FORMAT = 2
"""Of manifests; those of before have no digests of all files, so their stages are run again."""
CURRENT = "stages.json"
"""Stage -> fingerprint of what the run last used; read where no plan can be made any more,
because the user's own files have moved on."""


class Watcher(Protocol):
    """Is told what happens; the command line prints it."""

    def begin(self, number: int, stage: Stage) -> Progress: ...

    def end(self, number: int, stage: Stage, manifest: dict[str, Any], skipped: bool) -> None: ...

    def note(self, text: str) -> None: ...


@dataclass(frozen=True)
class Plan:
    """Which folder each stage fills. A stage's folder is known once those before it are done,
    because the content of what it reads names it."""

    config: RunConfig
    run: Folder
    settings: dict[str, Any]

    def folder(self, name: str) -> Folder:
        """The folder of a stage.

        Raises:
            UserError: a stage that it reads is not finished.
        """
        return self._place(name).finished()

    def _place(self, name: str) -> Folder:
        return self.run / name / self.fingerprint(name)

    def fingerprint(self, name: str) -> str:
        """Digest of a stage's version, settings and inputs; raises like ``folder``."""
        stage = next(s for s in STAGES if s.name == name)
        return digest([_FORMAT, name, stage.version, self.settings[name], self.inputs(stage)])

    def inputs(self, stage: Stage) -> dict[str, Any]:
        """What identifies each input: digests of the named tables, or the whole stage."""
        found: dict[str, Any] = {}
        for name, tables in stage.needs.items():
            manifest = self.manifest(name)
            if manifest is None:
                raise UserError(
                    f"{self.run}: the stage {name} is not finished with this configuration; "
                    "finish it with `delia run`"
                )
            with reading(f"{self._place(name)}/{MANIFEST}"):
                files = manifest["files"]
                found[name] = {t: files[t]["sha256"] for t in tables} or manifest["fingerprint"]
        return found

    def manifest(self, name: str) -> dict[str, Any] | None:
        """The manifest of a stage; None where it is not finished.

        Raises:
            DeliaError: it is damaged, or another stage's.
        """
        place = self._place(name)
        manifest = place.manifest()
        own = (name, place.url.rpartition("/")[2])
        if manifest is not None and (manifest.get("stage"), manifest.get("fingerprint")) != own:
            raise Damaged(f"{place}/{MANIFEST}", "it is that of another stage or fingerprint")
        return manifest


def plan(config: RunConfig) -> Plan:
    """Check what all stages need, at the cost of reading the inputs.

    Raises:
        UserError: something is missing: a file, a model, a package.
    """
    config = resolved(config)
    settings = {stage.name: stage.settings(config) for stage in STAGES}
    return Plan(config, _place(config).rooted(), settings)


def run(
    config: RunConfig,
    watcher: Watcher | None = None,
    until: str = REPORT.name,
    *,
    record: bool = True,
    here: bool = False,
) -> Plan:
    """Run what is missing up to the stage ``until``; returns the plan of it all.

    Args:
        config: what to run.
        watcher: is told what happens.
        until: the last stage.
        record: note in the run's folder that this is its configuration, and be its only driver;
            not where many runs share one folder at the same time.
        here: see ``StageRun.here``.

    Raises:
        UserError: something to mend, or another driver works in the run's folder; nothing that
            is left looks finished.
        DeliaError: a stage failed while running.
    """
    with lock.held(_place(config)) if record else contextlib.nullcontext() as own:
        return _run(config, watcher, until, own, here)


def _run(
    config: RunConfig, watcher: Watcher | None, until: str, own: lock.Lock | None, here: bool
) -> Plan:
    plans = plan(config)
    if own:
        plans.run.write_json("config.json", redacted(plans.config.model_dump(mode="json")))
    current: dict[str, str] = {}
    checked = False
    for number, stage in enumerate(_up_to(until), start=1):
        manifest = plans.manifest(stage.name)
        skipped = manifest is not None
        if manifest is None:
            if not (checked or here):
                runtime.check_reachable(config)
                preflight.check(plans.config, plans.run, watcher.note if watcher else None)
                checked = True
            if stage is SYNTHESIZE and not here:
                ingest = plans.folder(INGEST.name)
                preflight.check_rows(plans.config, ingest, watcher.note if watcher else None)
            progress = watcher.begin(number, stage) if watcher else silent
            manifest = _run_stage(stage, plans, progress, own, here)
        current[stage.name] = manifest["fingerprint"]
        stopping.check()
        if own:
            own.check()
            plans.run.write_json(CURRENT, current)
        if stage is REPORT:
            _publish_report(plans.run, plans.folder(REPORT.name))
        if watcher:
            watcher.end(number, stage, manifest, skipped)
    return plans


def plan_synthesis(config: RunConfig, watcher: Watcher | None, probe: int) -> dict[str, Any]:
    """Ingest, then what the synthesis will cost; see ``synthesize.plan.foresee``."""
    with lock.held(_place(config)):
        plans = run(config, watcher, until=INGEST.name)
        out = plans.folder(SYNTHESIZE.name)
        inputs = {name: plans.folder(name) for name in SYNTHESIZE.needs}
        preflight.check_rows(plans.config, inputs[INGEST.name], watcher.note if watcher else None)
        return foresee(StageRun(plans.config, plans.run, out, inputs), probe)


def _place(config: RunConfig) -> Folder:
    return open_storage(config.storage) / config.name


def _up_to(name: str) -> Iterable[Stage]:
    names = [s.name for s in STAGES]
    if name not in names:
        raise UserError(f"there is no stage {name!r}; the stages are {', '.join(names)}")
    return STAGES[: names.index(name) + 1]


def _run_stage(
    stage: Stage, plans: Plan, progress: Progress, own: lock.Lock | None, here: bool
) -> dict[str, Any]:
    began = time.monotonic()
    out = plans.folder(stage.name)
    inputs = {name: plans.folder(name) for name in stage.needs}
    outcome = stage.run(StageRun(plans.config, plans.run, out, inputs, progress, here))
    manifest = {
        "stage": stage.name,
        "fingerprint": plans.fingerprint(stage.name),
        "settings": redacted(plans.settings[stage.name]),
        "inputs": plans.inputs(stage),
        "counts": redacted(outcome.counts),
        "summary": redact(outcome.summary),
        "notes": redacted(outcome.notes),
        "seconds": round(time.monotonic() - began, 1),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": versions(),
    }
    stopping.check()
    if own:
        own.check()
    out.publish(manifest)
    return manifest


def _publish_report(run: Folder, made: Folder) -> None:
    for name in PUBLISHED:
        run.write_bytes(name, made.read_bytes(name))


def finished(run: Folder) -> tuple[RunConfig, dict[str, Folder]]:
    """The configuration of an existing run and the folders of its finished stages.

    Raises:
        UserError: ``run`` is not a run's folder.
    """
    run = run.rooted()
    if not run.exists("config.json"):
        raise UserError(f"{run} is not a run's folder: it has no config.json")
    try:
        config = RunConfig.model_validate(run.read_json("config.json"))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise UserError(
            f"{run} is not a run's folder of this version: in its config.json, {where}: "
            f"{first['msg']}"
        ) from None
    run.read_json("config.json", sealed=True)
    places = {stage: (run / stage / mark).finished() for stage, mark in stages_of(run).items()}
    return config, {stage: place for stage, place in places.items() if place.digests is not None}


def stages_of(run: Folder) -> dict[str, str]:
    """Stage -> fingerprint of what the run last used; empty where nothing was.

    Raises:
        DeliaError: the file that says so is damaged.
    """
    if not run.exists(CURRENT):
        return {}
    found = run.read_json(CURRENT, sealed=True)
    names = {stage.name for stage in STAGES}
    if not isinstance(found, dict):
        raise Damaged(f"{run}/{CURRENT}", f"it holds a {type(found).__name__}", _AGAIN)
    for stage, mark in found.items():
        if stage not in names or not is_fingerprint(mark):
            raise Damaged(f"{run}/{CURRENT}", f"{str(stage)[:50]!r}: {str(mark)[:50]!r}", _AGAIN)
    return found


_AGAIN = "run the same recipe again: it is written anew, and what is done is not done again"


def report_again(run: Folder) -> None:
    """Write the report of a finished run again, from what its stages left.

    Raises:
        UserError: a stage is missing, or another driver works in the run's folder.
    """
    finished(run)  # a folder that is none gets no lock
    with lock.held(run):
        config, folders = finished(run)
        if missing := [name for name in REPORT.needs if name not in folders]:
            raise UserError(f"{run}: unfinished: {', '.join(missing)}; finish it with `delia run`")
        known = folders.get(REPORT.name, run / REPORT.name / "again")
        manifest, out = known.manifest(), replace(known, digests=None)
        REPORT.run(StageRun(config, run, out, folders))
        if manifest is not None:
            out.publish(manifest)
        _publish_report(run, out)


def versions() -> dict[str, str]:
    """Of Python and the packages whose code decides results."""
    found = {"python": platform.python_version()}
    for name in ("delia-ray", "ray", "torch", "transformers", "peft", "deepspeed", "vllm"):
        for distribution in (name, f"{name}-cpu"):
            try:
                found[distribution] = metadata.version(distribution)
            except metadata.PackageNotFoundError:
                continue
    return found
