"""A disturbed run beside the undisturbed one: rows, order of the data, weights, scores."""

import hashlib
import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from delia_ray.artifacts import Folder
from delia_ray.pipeline import stages_of
from delia_ray.records import COMPLETION
from delia_ray.stored import Missing

ROWS = ("answers", "answers_set_aside", "rewordings", "rewordings_set_aside")
"""Tables of generated rows."""


@dataclass(frozen=True)
class Result:
    """What a run came to, as far as it must not depend on what was struck."""

    rows: Counter[tuple[str, str]]
    """(table and id, digest of the row's content) -> how often it stands there."""
    order: str
    """Digest of what every optimizer step of every arm trains on, in order."""
    weights: dict[str, str]
    """Arm -> digest of what was trained."""
    scores: dict[str, Any]
    made: Counter[str]
    """Key of a generated text -> how often it was written to the cache."""


@dataclass(frozen=True)
class Difference:
    """A disturbed run against the undisturbed one."""

    lost: int
    """Rows that are missing."""
    repeated: int
    """Rows that stand there twice."""
    changed: int
    """Rows whose content is another, or which were not there."""
    made_again: int
    """Texts that were generated more than once: the price, not a fault."""
    same_order: bool
    same_weights: bool
    same_scores: bool

    @property
    def good(self) -> bool:
        return self.same_order and self.same_scores and not (
            self.lost or self.repeated or self.changed
        )  # fmt: skip


def result_of(storage: Path, name: str) -> Result:
    """The result of the finished run ``name``.

    Raises:
        FileNotFoundError: a stage is not finished.
    """
    run = storage / name
    folder = {stage: run / stage / mark for stage, mark in stages_of(Folder(str(run))).items()}
    if missing := [
        name for name in ("synthesize", "mix", "finetune", "evaluate") if name not in folder
    ]:
        raise Missing(f"{run}: unfinished: {', '.join(missing)}; finish it with `delia run`")
    return Result(
        rows=_rows(folder["synthesize"]),
        order=_digest(sorted(folder["mix"].glob("steps-*"))),
        weights={
            file.parts[-3]: _digest([file])
            for file in sorted(folder["finetune"].glob("*/adapter/adapter_model.safetensors"))
        },
        scores=_scores(folder["evaluate"]),
        made=_made(storage / "cache"),
    )


def compare(found: Result, wanted: Result) -> Difference:
    """What differs in ``found``."""
    ids, wanted_ids = _by_id(found.rows), _by_id(wanted.rows)
    return Difference(
        lost=sum((wanted_ids - ids).values()),
        repeated=sum(max(0, n - max(1, wanted_ids[one])) for one, n in ids.items()),
        changed=len(found.rows.keys() - wanted.rows.keys()),
        made_again=sum(n - 1 for n in found.made.values()),
        same_order=found.order == wanted.order,
        same_weights=found.weights == wanted.weights,
        same_scores=found.scores == wanted.scores,
    )


def _by_id(rows: Counter[tuple[str, str]]) -> Counter[str]:
    found: Counter[str] = Counter()
    for (one, _), count in rows.items():
        found[one] += count
    return found


def _rows(folder: Path) -> Counter[tuple[str, str]]:
    found: Counter[tuple[str, str]] = Counter()
    for table in ROWS:
        for row in Folder(str(folder)).read_table(f"{table}.parquet").to_pylist():
            key = ":".join(str(row[k]) for k in ("id", "variant", "register") if k in row)
            text = json.dumps(row, sort_keys=True, ensure_ascii=False)
            found[f"{table.removesuffix('_set_aside')}:{key}", _short(text.encode())] += 1
    return found


def _made(cache: Path) -> Counter[str]:
    found: Counter[str] = Counter()
    for file in sorted(cache.glob("synthesis/*/*.parquet")):
        found.update(_keys(file))
    return found


def _keys(file: Path) -> list[str]:
    table = Folder(str(file.parent)).read_table(file.name, ["key"], COMPLETION)
    return list(table["key"].to_pylist())


def _scores(folder: Path) -> dict[str, Any]:
    scores: dict[str, Any] = Folder(str(folder)).read_json("scores.json")
    return scores


def _digest(paths: list[Path]) -> str:
    state = hashlib.sha256()
    for path in paths:
        for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
            if file.is_file():
                state.update(file.name.encode() + file.read_bytes())
    return state.hexdigest()[:16]


def _short(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]
