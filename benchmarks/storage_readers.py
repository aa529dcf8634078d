"""What reads a finished run again, each as a function to a digest of all that it found.

For ``fuzz_storage.py``: the digest of an untouched run is what a tampered one must still give,
or an error of ours.
"""

import functools
import hashlib
import io
import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pyarrow as pa

from delia_ray import pipeline
from delia_ray.artifacts import Folder, open_storage
from delia_ray.config import RunConfig
from delia_ray.drill.compare import result_of
from delia_ray.errors import UserError
from delia_ray.evaluate.parts import Part, run_parts
from delia_ray.export.card import Base, Story, render
from delia_ray.finetune.batches import Steps
from delia_ray.finetune.checkpoints import Checkpoints
from delia_ray.finetune.progress import told
from delia_ray.mix.build import Job
from delia_ray.mix.reuse import FACTS
from delia_ray.records import COMPLETION, digest
from delia_ray.report.stage import gather, results
from delia_ray.stage import StageRun
from delia_ray.stored import reading
from delia_ray.study.run import Found, read_run
from delia_ray.sweep import records, work
from delia_ray.sweep.result import loss_of
from delia_ray.synthesize.cache import Cache
from delia_ray.synthesize.methods import Plain

Reader = Callable[[Path], Any]


def _config(run: Path) -> tuple[RunConfig, dict[str, Folder], Folder]:
    root = open_storage(str(run)).rooted()
    config, folders = pipeline.finished(root)
    if missing := [stage.name for stage in pipeline.STAGES if stage.name not in folders]:
        raise UserError(f"unfinished: {missing}")
    return config, folders, root


def figures(run: Path) -> Any:
    """What the report says, without writing it."""
    config, folders, root = _config(run)
    with reading(str(root)):  # as the stage does
        return results(gather(StageRun(config, root, root / "report", folders)))


def report(run: Path) -> Any:
    """``delia report``."""
    pipeline.report_again(open_storage(str(run)))
    return [(run / name).read_text() for name in pipeline.PUBLISHED]


def card(run: Path) -> Any:
    """The model card of each arm."""
    config, folders, root = _config(run)
    if folders["finetune"].manifest() is None:
        raise UserError("not trained yet")
    with reading(str(root)):
        return [render(Story.of(config, arm, folders), Base("x"), False, "") for arm in config.arms]


def study(run: Path, settings: Mapping[str, Any], config: RunConfig) -> Any:
    """What a study takes from a run."""
    found = Found()
    read_run(found, pipeline.Plan(config, open_storage(str(run)).rooted(), dict(settings)))
    return [found.scores, found.probes, found.retention, found.suites, found.curves]


def mix(run: Path) -> Any:
    """What tokenising and training read: every part of the rows, every step of every arm."""
    config, folders, root = _config(run)
    at = (folders["ingest"], folders["synthesize"])
    job = Job("miniature", (), *at, root / "x", 512, "split", "last", 1, reference=True)
    rows = [list(job.read(part)) for part in range(job.parts())]
    steps = []
    for arm in config.arms:
        own = Steps(folders["mix"], arm)
        for step in range(len(own)):
            found = own.micros(step, 0, 1, 8)
            steps.append([(m.input_ids.tolist(), m.labels.tolist()) for m in found])
    return [rows, steps, folders["mix"].read_json(FACTS)]


def queries(run: Path) -> Any:
    """The pool, as synthesis asks for it."""
    _, folders, _ = _config(run)
    method = Plain(folders["ingest"], None, 0.0)  # type: ignore[arg-type]
    return list(method.queries(10_000, None))


def tables(run: Path) -> Any:
    """Every table of every finished stage, and every small file, as stages read them."""
    _, folders, _ = _config(run)
    found = []
    for folder in folders.values():
        for name in sorted(folder.digests or ()):
            if name.endswith(".parquet"):
                found.append(folder.read_table(name).to_pylist())
            elif not name.endswith(".arrow"):
                found.append(hashlib.sha256(folder.read_bytes(name)).hexdigest())
    return found


def cache(run: Path) -> Any:
    """The cache of syntheses."""
    found = []
    root = open_storage(str(run.parent)) / "cache" / "synthesis"
    for name in root.names():
        own = Cache(root / name)
        keys = own.keys()
        found.append([sorted(keys), sorted(own.read(keys[:50])["text"].to_pylist())])
    return found


def checkpoints(run: Path) -> Any:
    """The last checkpoint of each arm, and what a training last told."""
    config, folders, root = _config(run)
    found = []
    for arm in config.arms:
        last = Checkpoints(root / "finetune" / _mark(folders["finetune"]) / "checkpoints").last(arm)
        if last is not None:
            state = {k: v.sum().item() for k, v in sorted(last.state.items())}
            found.append([last.step, last.curve, state])
    told(root / "finetune" / _mark(folders["finetune"]))  # only shown
    return found


def parts(run: Path) -> Any:
    """Kept parts of an evaluation that was broken off."""
    kept = open_storage(str(run)).rooted() / "evaluate" / "0123456789abcdef" / "parts"
    work_ = {f"{n}.json": Part(_never, (), "fuzzing") for n in ("one", "two")}
    done = run_parts(work_, kept / "scores", here=True)
    answers = (kept / "answers").read_table("base-0-00000.parquet", schema=COMPLETION)
    return [done, answers.to_pylist()]


def _never() -> Any:
    return {"made": "anew"}


def trials(run: Path) -> Any:
    """The records of a sweep, and what its page takes from its trials."""
    root = open_storage(str(run)).rooted()
    known = records.read(records.trials_of(root))
    found: list[Any] = [asdict(one) for one in known]
    for one in known:
        if one.state == "done":
            found += [work.rows_of(root, one), loss_of(root, one)]
        own = work.training_of(records.trials_of(root) / one.key)
        found.append(None if own is None else own.url)
    return found


def drill(run: Path) -> Any:
    """What a drill compares."""
    found = result_of(run.parent, run.name)
    return [sorted(found.rows.items()), found.scores, sorted(found.made.items())]


def _mark(folder: Folder) -> str:
    return folder.url.rstrip("/").rpartition("/")[2]


READERS: dict[str, Reader] = {
    "figures": figures, "card": card, "mix": mix, "queries": queries, "tables": tables,
    "cache": cache, "checkpoints": checkpoints, "parts": parts, "trials": trials, "drill": drill,
    "report": report,
}  # fmt: skip
OF_FOLDER: dict[str, tuple[str, ...]] = {
    "ingest": ("figures", "mix", "queries", "tables"), "synthesize": ("figures", "mix", "tables"),
    "mix": ("figures", "mix", "tables"), "finetune": ("figures", "card", "tables"),
    "evaluate": ("figures", "trials", "tables"), "report": ("tables",), "cache": ("cache",),
    "checkpoints": ("checkpoints",), "parts": ("parts",), "trials": ("trials",),
    "": ("figures", "card", "study", "drill", "mix"),
}  # fmt: skip
"""Where the tampered file lies -> who is asked."""


def readers(run: Path) -> dict[str, Reader]:
    """All of them; the study's with what it needs of the recipe."""
    config, folders, _ = _config(run)
    settings = {stage.name: _settings(folders, stage.name) for stage in pipeline.STAGES}
    own = functools.partial(study, settings=settings, config=config)
    try:
        own(run)
    except UserError as error:  # a run of another version has other fingerprints
        print(f"left out, as a study would make this run anew: {error}", file=sys.stderr)
        own = functools.partial(figures)
    return {**READERS, "study": own}


def _settings(folders: Mapping[str, Folder], name: str) -> Any:
    return (folders[name].manifest() or {}).get("settings") if name in folders else None


def digest_of(value: Any) -> str:
    """Of what a reader found."""
    sink = io.StringIO()
    json.dump(value, sink, default=str, sort_keys=True)
    return digest(sink.getvalue())


# --- what is added to a run ---------------------------------------------------------------------


def add_pieces(run: Path) -> None:
    """Parts of an evaluation that was broken off, a sweep's records and, where training left
    none, a checkpoint."""
    config, folders, root = _config(run)
    kept = root / "evaluate" / "0123456789abcdef" / "parts"
    for name in ("one", "two"):
        (kept / "scores").write_json(f"{name}.json", {"result": {"suite": name, "rows": [0.5, 1]}})
    said = [{"key": f"base|s/{i}", "text": f"answer {i}", "finish_reason": "stop",
             "prompt_tokens": 3, "completion_tokens": 2, "seconds": 0.5, "error": ""}
            for i in range(4)]  # fmt: skip
    table = pa.Table.from_pylist(said, COMPLETION)
    (kept / "answers").write_table("base-0-00000.parquet", table)
    marks = {name: _mark(folder) for name, folder in folders.items()}
    figures = {"value": 0.5, "low": 0.4, "high": 0.6, "n": 8}
    trials_, keys = records.trials_of(root), [digest(["trial", i]) for i in range(3)]
    for number, key in enumerate(keys, 1):
        records.plan(trials_, key, number, "search", {"mix.ratio": number}, config)
        point = {"step": 5, "scores": {"mean": {"exact_match": figures}}, "costs": {"seconds": 1.0}}
        (trials_ / key).write_json("rung-5.json", point)
    done = {"point": {**point, "step": 12}, "steps": 12, "stages": marks, "seconds": {}}
    (trials_ / keys[0]).write_json(records.DONE, done)
    work.stop(trials_ / keys[1], 5)
    (trials_ / keys[2]).write_json(records.FAILED, {"tries": 3, "error": "ValueError: x"})
    work.note_training(trials_ / keys[0], folders["finetune"])
    _add_checkpoint(root / "finetune" / marks["finetune"], next(iter(config.arms)))


def _add_checkpoint(trained: Folder, arm: str) -> None:
    import torch
    import torch.distributed as dist

    if (trained / "checkpoints").names():
        return
    curve = (trained / arm).read_table("curve.parquet").to_pylist()[:5]
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    kept = Checkpoints(trained / "checkpoints")
    kept.save(arm, len(curve), 0.5, {"w|value": torch.arange(12.0)}, curve)
    kept.settle()
    dist.destroy_process_group()


def small_run(folder: Path) -> Path:
    """A run of minutes, by the command line."""
    folder.mkdir(parents=True)
    recipe = Path(__file__).parent / "small_run.yaml"
    command = [sys.executable, "-m", "delia_ray.cli", "run", str(recipe), f"storage={folder}/runs"]
    subprocess.run(command, check=True)
    return folder / "runs" / "small"
