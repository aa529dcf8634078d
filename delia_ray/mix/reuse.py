"""A store of sequences that another mix of the run made from the same rows is taken over.

Arms, ratios, steps and seeds change what is laid down, not the tokens it is made of. So a mix
that finds a finished one beside it whose rows, tokenizer and limits were the same takes its
files, and those of the scores where the strategy looks at the rows.
"""

import os
import shutil
from collections.abc import Mapping
from typing import Any

from delia_ray.artifacts import Folder
from delia_ray.config import RunConfig
from delia_ray.mix.build import STORE
from delia_ray.models import fingerprint
from delia_ray.names import is_fingerprint
from delia_ray.records import digest
from delia_ray.scratch import scratch
from delia_ray.stage import StageRun
from delia_ray.store import Store, file_name

TABLES = ("sequences.parquet", "untrained.parquet")
SCORES = "scores.parquet"
FACTS = "store-facts.json"
"""The key of the store, and the mix that it was taken from (null: made here)."""


def store_key(stage: StageRun, needs: Mapping[str, tuple[str, ...]]) -> str | None:
    """What the store depends on, as a digest; None where an input has no manifest."""
    inputs: dict[str, Any] = {}
    for name, tables in needs.items():
        manifest = stage.inputs[name].manifest()
        if manifest is None:
            return None
        inputs[name] = {t: manifest["files"][t]["sha256"] for t in tables}
    return digest([inputs, _settings(stage.config)])


VERSION = 3
"""Raised when the same rows make other sequences."""


def _settings(config: RunConfig) -> dict[str, Any]:
    return {
        "version": VERSION,
        "mix": config.mix.model_dump(include={"max_length", "overlong", "turns", "mosaic"}),
        "reference": config.uses_reference(),
        "special_tokens": list(config.downstream.special_tokens),
        "model": fingerprint(config.model),
    }


def find(stage: StageRun, key: str | None) -> list[Folder]:
    """Finished mixes of the run with this store; those that scored its rows come first."""
    if key is None:
        return []
    found = []
    for name in (stage.run / "mix").names():
        if not is_fingerprint(name):
            continue
        folder = (stage.run / "mix" / name).finished()
        manifest = folder.manifest() if folder.url != stage.out.url else None
        if manifest is None or FACTS not in manifest["files"]:
            continue
        if folder.read_json(FACTS).get("key") == key:
            found.append((SCORES not in manifest["files"], name, folder))
    return [folder for *_, folder in sorted(found, key=lambda f: f[:2])]


def take_store(source: Folder, out: Folder) -> list[int]:
    """Copy the store and its tables; returns the rows of its files."""
    rows = Store(source, STORE).files
    for number in range(len(rows)):
        _copy(source, out, file_name(STORE, number))
    for name in (*TABLES, f"{STORE}.json"):
        _copy(source, out, name)
    return rows


def take_scores(source: Folder, out: Folder) -> None:
    """Copy the scores of its rows."""
    _copy(source, out, SCORES)


def tell(out: Folder, key: str | None, others: list[Folder]) -> None:
    """Leave ``FACTS`` for the next mix, and for whoever counts."""
    source = others[0].url.rstrip("/").rsplit("/", 1)[-1] if others else None
    out.write_json(FACTS, {"key": key, "taken_from": source})


def _copy(source: Folder, out: Folder, name: str) -> None:
    source.check(name)
    if not out.is_local or not source.is_local:
        source.fs.copy(source.file(name), out.file(name))
        return
    with scratch(out.file(name)) as path:
        try:
            os.link(source.file(name), path)  # files of a finished stage never change
        except OSError:
            shutil.copyfile(source.file(name), path)
