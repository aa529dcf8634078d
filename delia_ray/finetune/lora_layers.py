"""Which layers of a model get an adapter.

``finetune.lora.target_modules: auto`` takes the projections around whatever mixes the tokens of a
row in each layer: queries, keys, values and output of attention, under any name, and the
projections into and out of convolutions, linear attention and state spaces. They are found by
where they stand in the text model, so that vision towers and audio encoders are never adapted.
"""

import inspect
import re
from collections.abc import Sequence
from typing import Any

import torch

from delia_ray.causal_models import decoder_of
from delia_ray.errors import UserError
from delia_ray.finetune.small import layers_of

AUTO = "auto"
USUAL = ["k_proj", "o_proj", "q_proj", "v_proj"]
"""What ``auto`` finds in most families, and the paper's code names."""
_MIXER = re.compile(
    r"attn|attention|attend|mixer|mamba|conv|temporal|recurrent|ssm|time_mix|linear_attn|delta|rwkv"
)
"""Names of modules of a layer that mix the tokens of a row."""
_NOT = re.compile(r"mlp|feed_forward|ffn|ffw|expert|moe|router|norm|rotary|indexer|channel_mix")
"""Names, on the way to a projection, of what does something else."""
_SMALL = re.compile(r"^(dt|x|a|b|ba|g)_proj$|^in_proj_(a|b|ba)$|gate$")
"""Projections to a few numbers for each token: steps, gates."""


def find_layers(model: Any, wanted: "str | Sequence[str]") -> list[str]:
    """Names for PEFT (whole, or the ends of names) of the layers of ``model`` that get an adapter.

    Args:
        model: of transformers, without an adapter.
        wanted: ``finetune.lora.target_modules``.

    Raises:
        UserError: a name that is asked for fits no layer of the text model, or one that no
            adapter can be put on; or ``auto`` finds none.
    """
    linear = _linear(model)
    own = {name for name in linear if _is_text(model, name)}
    if isinstance(wanted, str):
        chosen = _projections(model, own)
        if not chosen:
            raise UserError(
                f"finetune.lora.target_modules={wanted}: no attention projections are found in the "
                f"family {model.config.model_type}; name layers, among {_shown(own)}, or set "
                "finetune.method=full"
            )
    else:
        chosen = _named(model, own, wanted)
    return shortest(chosen, [name for name, _ in model.named_modules() if name])


def shortest(chosen: set[str], names: Sequence[str]) -> list[str]:
    """Ends of ``chosen`` names, as short as fit no other of ``names``; the whole names where
    ends would have to tell layers of the text model from those of a vision tower.

    PEFT adapts a module whose name is one of the given, or ends in a dot and one of them.
    """
    found = set()
    for name in chosen:
        parts = name.split(".")
        ends = [".".join(parts[-n:]) for n in range(1, len(parts) + 1)]
        found.add(next(e for e in ends if all(n in chosen for n in names if _fits(n, e))))
    numbered = any(part.isdecimal() for end in found for part in end.split("."))
    return sorted(chosen if numbered else found)


def ends_of(names: Sequence[str]) -> list[str]:
    """The last parts of layers' names, each once, for people to read."""
    return sorted({name.rsplit(".", 1)[-1] for name in names})


def _fits(name: str, end: str) -> bool:
    return name == end or name.endswith(f".{end}")


def _linear(model: Any) -> list[str]:
    from transformers.pytorch_utils import Conv1D

    kinds = (torch.nn.Linear, Conv1D)
    return [name for name, module in model.named_modules() if isinstance(module, kinds)]


def _is_text(model: Any, name: str) -> bool:
    """Whether module ``name`` is of the text model or its head."""
    module = model.get_submodule(name)
    return module is model.get_output_embeddings() or any(
        module is one for one in decoder_of(model).modules()
    )


def _projections(model: Any, own: set[str]) -> set[str]:
    """The names in ``own`` of projections around what mixes tokens."""
    layers = layers_of(model)
    prefixes = [f"{n}." for n, m in model.named_modules() if any(m is layer for layer in layers)]
    found = set()
    for name in own:
        prefix = max((p for p in prefixes if name.startswith(p)), key=len, default=None)
        if prefix is None:
            continue
        way = name.removeprefix(prefix).split(".")
        mixes = any(_MIXER.search(part) for part in way[:-1])
        if not mixes or any(_NOT.search(part) for part in way):
            continue
        if _SMALL.search(way[-1]) or _read_past(model, name):
            continue
        found.add(name)
    return found


def _read_past(model: Any, name: str) -> bool:
    """Whether the layer's weight is read without calling it, so that an adapter on it would have
    no effect: fused state-space kernels take the weight of ``out_proj``."""
    parent, _, leaf = name.rpartition(".")
    try:
        source = inspect.getsource(type(model.get_submodule(parent)))
    except (OSError, TypeError):
        return False
    return bool(
        re.search(rf"\bself\.{re.escape(leaf)}\.weight\b(?!\.(dtype|device|shape))", source)
    )


def _named(model: Any, own: set[str], wanted: Sequence[str]) -> set[str]:
    every = [name for name, _ in model.named_modules() if name]
    fits = {w: {n for n in every if _fits(n, w)} for w in wanted}
    missing = [w for w, names in fits.items() if not names]
    if missing:
        has = [w for w in wanted if w not in missing]
        raise UserError(
            f"finetune.lora.target_modules={list(wanted)}: the family {model.config.model_type} "
            f"has no layers {missing}" + (f", though it has {has}" if has else "")
            + f"; it has {_shown(own)}; name some of them, or set "
            "finetune.lora.target_modules=auto"
        )  # fmt: skip
    beside = [w for w, names in fits.items() if not names & own]
    if beside:
        kinds = sorted({type(model.get_submodule(n)).__name__ for w in beside for n in fits[w]})
        raise UserError(
            f"finetune.lora.target_modules={list(wanted)}: {beside} are not linear layers of the "
            f"text model ({', '.join(kinds)}); it has {_shown(own)}; name some of them, or set "
            "finetune.lora.target_modules=auto"
        )
    past = sorted(w for w in wanted if all(_read_past(model, n) for n in fits[w] & own))
    if past:
        raise UserError(
            f"finetune.lora.target_modules={list(wanted)}: the weights of {past} are read past an "
            "adapter by the kernels of state spaces, so that it would not be trained; leave "
            "them out, or set finetune.lora.target_modules=auto"
        )
    return {n for names in fits.values() for n in names & own if not _read_past(model, n)}


def _shown(own: set[str]) -> str:
    """The layers by the ends of their names."""
    return ", ".join(ends_of(sorted(own))) or "none"
