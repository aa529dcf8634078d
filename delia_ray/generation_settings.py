"""A model's ``generation_config.json``: what of it can be saved, and what decoding heeds.

Answers are decoded as the recipe says, by every engine alike; of the model's own settings only
its end and padding tokens count. What the file holds besides (a repetition penalty, beams,
suppressed tokens) is for its users' programs, and goes on with the trained model.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from delia_ray.errors import UserError

if TYPE_CHECKING:
    from transformers import GenerationConfig

FILE = "generation_config.json"
_IDS = ("bos_token_id", "eos_token_id", "pad_token_id", "decoder_start_token_id")
_SWITCHES = ("do_sample", "num_beams", "return_dict_in_generate", "use_cache")
"""Settings that say whether others have a meaning; they are looked at first."""


def read(path: str) -> dict[str, Any]:
    """The settings in model folder ``path``; none where the file is missing.

    Raises:
        UserError: the file is not a JSON object.
    """
    file = Path(path) / FILE
    if not file.exists():
        return {}
    try:
        found = json.loads(file.read_text("utf-8"))
    except ValueError as problem:
        raise UserError(
            f"model={path}: {FILE} is not JSON ({problem}); mend or remove it"
        ) from None
    if not isinstance(found, dict):
        raise UserError(f"model={path}: {FILE} holds a {type(found).__name__}, not an object")
    return found


def savable(settings: Mapping[str, Any]) -> tuple["GenerationConfig", dict[str, str]]:
    """(settings that transformers saves, why each of the others cannot be).

    transformers loads settings that contradict each other (a temperature where nothing is
    sampled), and refuses to save them. Each setting is taken as long as all that are taken can
    be saved together, so what is left out has no effect beside the rest.
    """
    from transformers import GenerationConfig

    order = [k for k in (*_IDS, *_SWITCHES) if k in settings]
    order += sorted(k for k in settings if k not in order)
    kept: dict[str, Any] = {}
    left_out: dict[str, str] = {}
    for name in order:
        try:
            GenerationConfig.from_dict({**kept, name: settings[name]}).validate(strict=True)
        except (ValueError, TypeError, AttributeError) as problem:
            left_out[name] = _reason(name, settings[name], str(problem))
        else:
            kept[name] = settings[name]
    return GenerationConfig.from_dict(kept), left_out


def _reason(name: str, value: Any, said: str) -> str:
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    own = [line.removeprefix(f"- `{name}`: ") for line in lines if line.startswith(f"- `{name}`")]
    return f"{name}={value!r}: {(own or lines or ['not a valid value'])[0]}"


def neutral(ends: "frozenset[int]", pad: int | None) -> "GenerationConfig":
    """Greedy decoding up to one of ``ends``, with nothing of a model's own settings."""
    from transformers import GenerationConfig

    return GenerationConfig(eos_token_id=sorted(ends), pad_token_id=pad, do_sample=False)
