"""Outputs that other systems gave, scored beside the models that are asked here."""

import json
from collections.abc import Mapping
from typing import Any

from delia_ray.artifacts import Folder, open_storage
from delia_ray.config import RunConfig
from delia_ray.engines import Completion
from delia_ray.errors import UserError
from delia_ray.records import digest

Files = Mapping[str, Mapping[str, str]]
"""System -> suite -> file."""


def systems_digest(systems: Files) -> Any:
    """Names each file by its content.

    Raises:
        UserError: a file cannot be read.
    """
    return {
        system: {suite: digest(_lines(system, suite, path)) for suite, path in files.items()}
        for system, files in systems.items()
    }


def read_systems(config: RunConfig, sizes: Mapping[str, int]) -> dict[str, dict[str, Completion]]:
    """Completions by system and key, as if the system had been asked.

    Raises:
        UserError: a system has the name of a model, its suite is not there, or its file has not
            a line for each row.
    """
    found: dict[str, dict[str, Completion]] = {}
    for system, files in config.evaluate.systems.items():
        for suite, path in files.items():
            lines = _lines(system, suite, path)
            if len(lines) != sizes[suite]:
                raise UserError(
                    f"evaluate.systems.{system}.{suite}: {path} has {len(lines):,} lines, and the "
                    f"suite has {sizes[suite]:,} rows; give one output for each row, in their "
                    "order, and look whether rows of the suite were set aside"
                )
            found.setdefault(system, {}).update(
                (f"{suite}/{i}", Completion(f"{suite}/{i}", line, "stop", 0, 0))
                for i, line in enumerate(lines)
            )
    return found


def _lines(system: str, suite: str, path: str) -> list[str]:
    """One output a line; in a ``.jsonl`` file the string, or its key ``output``."""
    folder, _, name = path.rpartition("/")
    where: Folder = open_storage(folder or ("/" if path.startswith("/") else "."))
    try:
        text = where.read_bytes(name).decode("utf-8")
    except (OSError, ValueError) as error:
        raise UserError(
            f"evaluate.systems.{system}.{suite}: cannot read {path} ({error}); give a text file "
            "with one output a line, or .jsonl"
        ) from None
    lines = text.removesuffix("\n").split("\n")
    if not name.endswith(".jsonl"):
        return [line.removesuffix("\r") for line in lines]
    try:
        rows = [json.loads(line) for line in lines]
        return [row if isinstance(row, str) else str(row["output"]) for row in rows]
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"evaluate.systems.{system}.{suite}: {path} must hold a string or an object with the "
            f"key 'output' in each line ({type(error).__name__}: {error})"
        ) from None
