"""From YAML files and overrides to the tree; one line for each mistake in them."""

import difflib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from delia_ray.config.finetune import named_arms
from delia_ray.config.tree import RunConfig
from delia_ray.errors import UserError

Kind = TypeVar("Kind", bound=BaseModel)


def load_config(files: Sequence[str | Path] = (), overrides: Sequence[str] = ()) -> RunConfig:
    """A run's settings, see ``load_settings``."""
    return load_settings(RunConfig, files, overrides)


def load_settings(
    kind: type[Kind], files: Sequence[str | Path] = (), overrides: Sequence[str] = ()
) -> Kind:
    """Compose YAML ``files`` left to right, then ``key=value`` overrides.

    Raises:
        UserError: a file is missing or not YAML, or a key or value is wrong.
    """
    return checked(kind, compose(files, overrides))


def compose(files: Sequence[str | Path] = (), overrides: Sequence[str] = ()) -> dict[str, Any]:
    """The tree of YAML ``files``, merged left to right, and ``key=value`` overrides.

    Raises:
        UserError: a file is missing or not YAML, or an arm's name is wrong.
    """
    tree: dict[str, Any] = {}
    parts = [*(_read_yaml(Path(file)) for file in files), *map(_parse_override, overrides)]
    try:
        for part in parts:
            tree = _merge(tree, part)
            if "arms" in tree:  # written out, so that the next part can change a named arm
                tree["arms"] = named_arms(tree["arms"])
    except ValueError as error:
        raise UserError(str(error)) from None
    return tree


def changed(tree: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """``tree`` with the value of each dotted key in place."""
    for key, value in values.items():
        part: Any = value
        for name in reversed(key.split(".")):
            part = {name: part}
        tree = _merge(tree, part)
    return dict(tree)


def checked(kind: type[Kind], tree: Mapping[str, Any]) -> Kind:
    """The settings that ``tree`` stands for.

    Raises:
        UserError: a key or value is wrong.
    """
    try:
        return kind.model_validate(tree)
    except ValidationError as error:
        raise UserError("\n".join(_explain(e, kind) for e in error.errors())) from None
    except ValueError as error:
        raise UserError(str(error)) from None


def describe(config: BaseModel, prefix: str = "") -> Iterator[tuple[str, Any, str]]:
    """Yield (dotted key, value, documentation) for every leaf of the tree."""
    for name, info in type(config).model_fields.items():
        value = getattr(config, name)
        key = f"{prefix}{name}"
        if isinstance(value, BaseModel):
            yield from describe(value, f"{key}.")
        else:
            yield key, value, info.description or ""


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"cannot read the recipe {path}: {error.strerror}") from None
    except yaml.YAMLError as error:
        raise UserError(f"{path} is not valid YAML: {error}") from None
    if tree is None:
        return {}
    if not isinstance(tree, dict):
        raise UserError(f"{path} must hold settings as `key: value`, got a {type(tree).__name__}")
    return tree


def _parse_override(text: str) -> dict[str, Any]:
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise UserError(f"{text!r} is neither a recipe file nor an override like mix.ratio=67")
    try:
        tree: Any = yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise UserError(f"the value in {text!r} is not valid YAML: {error}") from None
    for part in reversed(key.split(".")):
        tree = {part: tree}
    return tree  # type: ignore[no-any-return]


def _merge(base: Mapping[str, Any], top: Mapping[str, Any]) -> dict[str, Any]:
    """Mappings merge key by key; everything else is replaced. A changed engine ``type``
    replaces the whole mapping, since the keys of one engine mean nothing to another."""
    merged = dict(base)
    for key, value in top.items():
        old = merged.get(key)
        if isinstance(old, Mapping) and isinstance(value, Mapping):
            switched = "type" in value and value["type"] != old.get("type")
            merged[key] = dict(value) if switched else _merge(old, value)
        else:
            merged[key] = value
    return merged


def _explain(error: Any, kind: type[BaseModel]) -> str:
    """One validation error as one line: the key, the value got, what would work."""
    # A tagged union adds the tag to the location ("synthesize", "engine", "vllm", "x").
    path = [str(p) for p in error["loc"]]
    if path[-1:] == ["[key]"]:  # a name that is wrong, not its value
        path = path[:-2]
    key = ".".join(p for p in path if p not in ("auto", "vllm", "transformers"))
    if error["type"] == "extra_forbidden":
        near = difflib.get_close_matches(key, _all_keys(kind), n=1, cutoff=0.6)
        hint = f" (did you mean {near[0]}?)" if near else ""
        return f"{key} is not a setting{hint}"
    if error["type"] == "value_error" and not key:
        return str(error["ctx"]["error"])
    return f"{key}={error['input']!r}: {error['msg']}"


def _all_keys(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    for name, info in model.model_fields.items():
        yield f"{prefix}{name}"
        for part in _models_in(info.annotation):
            yield from _all_keys(part, f"{prefix}{name}.")


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in getattr(annotation, "__args__", ()):
        yield from _models_in(part)
