"""From YAML files and overrides to the tree; one line for each mistake in them."""

import datetime
import difflib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from delia_ray.config.finetune import named_arms
from delia_ray.config.tree import RunConfig
from delia_ray.config.yaml_text import BadYaml, Text, parse
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
    texts = _read_all(files, overrides)
    return checked(kind, _composed(texts), [text for text, _ in texts])


def compose(files: Sequence[str | Path] = (), overrides: Sequence[str] = ()) -> dict[str, Any]:
    """The tree of YAML ``files``, merged left to right, and ``key=value`` overrides.

    Raises:
        UserError: a file is missing or not YAML, or an arm's name is wrong.
    """
    return _composed(_read_all(files, overrides))


def parted(settings: Sequence[str]) -> tuple[list[str], list[str]]:
    """Which ``settings`` of a command are recipe files, and which overrides; a file may have "="
    in its path."""
    files = [s for s in settings if _is_file(s)]
    return files, [s for s in settings if s not in files]


def _is_file(setting: str) -> bool:
    key, equals, _ = setting.partition("=")
    named = setting.lower().endswith((".yaml", ".yml"))
    if not equals:
        return named or _is_there(setting)
    # Not there, and so an error: no setting's name looks like a path.
    return _is_there(setting) or (named and "/" in key)


def _is_there(setting: str) -> bool:
    try:
        return Path(setting).is_file()
    except OSError:  # a value longer than any file's name
        return False


def _read_all(
    files: Sequence[str | Path], overrides: Sequence[str]
) -> list[tuple[Text, dict[str, Any]]]:
    return [*(_read_yaml(Path(file)) for file in files), *map(_parse_override, overrides)]


def _composed(parts: Sequence[tuple[Text, dict[str, Any]]]) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    try:
        for _, part in parts:
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


def checked(kind: type[Kind], tree: Mapping[str, Any], texts: Sequence[Text] = ()) -> Kind:
    """The settings that ``tree`` stands for.

    Args:
        kind: of the settings.
        tree: keys and values.
        texts: what the tree was read from, for messages.

    Raises:
        UserError: a key or value is wrong.
    """
    try:
        return kind.model_validate(tree)
    except ValidationError as error:
        raise UserError("\n".join(_explain(e, kind, texts) for e in error.errors())) from None
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


def _read_yaml(path: Path) -> tuple[Text, dict[str, Any]]:
    try:
        text = parse(path.read_bytes(), str(path))
    except OSError as error:
        raise UserError(f"cannot read the recipe {path}: {error.strerror}") from None
    except BadYaml as error:
        raise UserError(f"the recipe {path}: {error}") from None
    if text.tree is None:
        raise UserError(
            f"the recipe {path} holds no settings; write some as `key: value`, or leave it out"
        )
    if not isinstance(text.tree, dict):
        kind = type(text.tree).__name__
        raise UserError(f"{path} must hold settings as `key: value`, got a {kind}")
    return text, text.tree


def _parse_override(override: str) -> tuple[Text, dict[str, Any]]:
    key, equals, value = override.partition("=")
    if not equals and Path(override).is_dir():
        raise UserError(f"{override} is a folder; name a recipe in it")
    if not equals or not key:
        raise UserError(f"{override!r} is neither a recipe file nor an override like mix.ratio=67")
    try:
        text = parse(value, override)
    except BadYaml as error:
        raise UserError(f"the value in {override!r}: {error}") from None
    tree: Any = text.tree
    for part in reversed(key.split(".")):
        tree = {part: tree}
    return text, tree


def _merge(base: Mapping[str, Any], top: Mapping[str, Any]) -> dict[str, Any]:
    """Mappings merge key by key; everything else is replaced, and so is a mapping by an empty
    one (``downstream.special_tokens={}`` takes those of a recipe away). A changed engine ``type``
    replaces the whole mapping, since the keys of one engine mean nothing to another."""
    merged = dict(base)
    for key, value in top.items():
        old = merged.get(key)
        if value and isinstance(old, Mapping) and isinstance(value, Mapping):
            switched = "type" in value and value["type"] != old.get("type")
            merged[key] = dict(value) if switched else _merge(old, value)
        else:
            merged[key] = value
    return merged


def _explain(error: Any, kind: type[BaseModel], texts: Sequence[Text] = ()) -> str:
    """One validation error as one line: the key, the value got, what would work."""
    # A tagged union adds the tag to the location ("synthesize", "engine", "vllm", "x").
    path = [str(p) for p in error["loc"]]
    if path[-1:] == ["[key]"]:  # a name that is wrong, not its value
        path = path[:-2]
    key = ".".join(p for p in path if p not in ("auto", "vllm", "transformers"))
    if error["type"] == "extra_forbidden":
        if error["input"] is None and ":" in path[-1]:
            return f"{key} is not a setting: a space is missing after the colon"
        near = difflib.get_close_matches(key, _all_keys(kind), n=1, cutoff=0.6)
        hint = f" (did you mean {near[0]}?)" if near else ""
        return f"{key} is not a setting{hint}"
    if error["type"] == "value_error" and not key:
        return str(error["ctx"]["error"])
    return f"{key}={error['input']!r}: {error['msg']}{_quote_it(error, texts)}"


def _quote_it(error: Any, texts: Sequence[Text]) -> str:
    """Advice where YAML took a word for something else than the text that was wanted."""
    value, path = error["input"], error["loc"]
    if not isinstance(value, bool | int | float | datetime.date):
        return ""
    if error["type"] not in ("string_type", "literal_error"):
        return ""
    kind = "a date" if isinstance(value, datetime.date) else "a number"
    what = str(value).lower() if isinstance(value, bool) else kind
    for text in reversed(texts):
        key, equals, _ = text.where.partition("=")
        names = key.split(".") if equals else []
        inside = path[len(names) :] if list(path[: len(names)]) == names else path
        if (found := text.word(inside)) is not None:
            word, line = found
            where = text.where if equals else f"{text.where}, line {line}"
            own = f"{key}='\"{word}\"'" if equals and not inside else f'"{word}"'
            return f". In {where}, {word} must be quoted: {own}; without quotes it means {what}"
    return f". A text must be quoted where without quotes it means {what}"


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
