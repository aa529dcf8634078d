"""The files that a recipe names, setting by setting."""

from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from delia_ray.config import RunConfig, Settings, Source

Kind = TypeVar("Kind", bound=Settings)

Change = Callable[[str, str], str]
"""(setting, its path) -> another path, or the same."""


def named_paths(config: RunConfig) -> Iterator[tuple[str, str]]:
    """(setting, path) of everything that is read as a file; parts of the miniature and models
    by hub id are none."""
    found: list[tuple[str, str]] = []

    def record(key: str, path: str) -> str:
        found.append((key, path))
        return path

    with_paths(config, record)
    yield from found


def with_paths(config: RunConfig, change: Change) -> RunConfig:
    """``config`` with each path as ``change`` gives it back; the rest untouched."""

    def source(key: str, one: Source) -> Source:
        if one.format == "miniature":
            return one
        return _changed(one, path=change(key, one.path))

    down = config.downstream
    if down.also:
        also = [source(f"downstream.also[{i}]", s) for i, s in enumerate(down.also)]
        down = _changed(down, also=also)
    own = config.evaluate
    suites = [source(f"evaluate.suites.{s.name}", s) for s in own.suites]
    systems = {
        name: {s: change(f"evaluate.systems.{name}.{s}", path) for s, path in files.items()}
        for name, files in own.systems.items()
    }
    return _changed(
        config,
        downstream=source("downstream", down),
        corpus=[source(f"corpus[{i}]", s) for i, s in enumerate(config.corpus)],
        evaluate=_changed(own, suites=suites, systems=systems),
        **_models(config, change),
    )


def _models(config: RunConfig, change: Change) -> dict[str, object]:
    """The settings that hold models or adapters, where they are files."""
    found: dict[str, object] = {}
    if _is_path(config.model):
        found["model"] = change("model", config.model)
    made = config.synthesize
    if made.model and _is_path(made.model):
        made = _changed(made, model=change("synthesize.model", made.model))
    if adapters := getattr(made.engine, "adapters", []):
        key = "synthesize.engine.adapters"
        moved = [change(f"{key}[{i}]", a) for i, a in enumerate(adapters)]
        made = _changed(made, engine=_changed(made.engine, adapters=moved))
    if config.finetune.adapter:
        moved_one = change("finetune.adapter", config.finetune.adapter)
        found["finetune"] = _changed(config.finetune, adapter=moved_one)
    return {**found, "synthesize": made}


def _is_path(model: str) -> bool:
    return model.startswith((".", "/", "~")) or "://" in model


def _changed(settings: Kind, **update: Any) -> Kind:
    """A copy with what is different only, so that what was not set stays so."""
    different = {k: v for k, v in update.items() if getattr(settings, k) != v}
    return settings.model_copy(update=different) if different else settings
