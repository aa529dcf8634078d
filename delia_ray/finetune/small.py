"""A small copy of a model: its configuration with as few layers as show every kind of them.

What makes a model impossible to train (layers that an adapter cannot take, kernels that look
beyond a document, logits that nobody knows how to scale) is in how it is built, not in its
weights or its size. So it is looked for in a copy that is made in a moment.
"""

import contextlib
import copy
import math
from collections.abc import Iterator
from typing import Any

import torch

from delia_ray.causal_models import decoder_of, model_class

WINDOW = 4
"""Tokens of a sliding window or attention chunk in a copy: shorter than the probing documents."""
_ENOUGH = 2**23
"""Weights up to which a copy keeps its widths."""
WINDOWS = (
    "sliding_window",
    "sliding_window_size",
    "attention_window_size",
    "attention_chunk_size",
)
_DEPTHS = ("num_hidden_layers", "depth", "num_layers", "encoder_layers", "n_layers")
_EXPERTS = ("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts")
_WIDTHS = (
    "intermediate_size",
    "moe_intermediate_size",
    "shared_expert_intermediate_size",
    "ffn_dim",
    "n_inner",
    "shared_intermediate_size",
    "ffn_hidden_size",
    "block_ff_dim",
)
_SIGNS = ("layer_type", "attention_type", "is_sliding", "sliding_window", "block_type",
          "layer_block_type", "is_moe", "use_rope", "is_hybrid")  # fmt: skip
"""Attributes of a layer or of one of its modules that tell kinds of layers apart."""


def few_layers(config: Any) -> Any:
    """``config`` with its first layers only, as many as hold one of each kind, and two at least."""
    with torch.device("meta"):
        model = model_class(config).from_config(config)
    layers = layers_of(model)
    if not layers:
        return copy.deepcopy(config)
    kinds = [_kind(layer) for layer in layers]
    first = {kind: at for at, kind in reversed(list(enumerate(kinds)))}
    kept = min(len(layers), max(2, max(first.values(), default=0) + 1))
    own = copy.deepcopy(config)
    _cut(own.get_text_config(decoder=True), len(layers), kept)
    for other in _others(own):
        for name in _DEPTHS:
            if isinstance(getattr(other, name, None), int):
                _cut(other, getattr(other, name), 1, name)
    return own


def narrow(config: Any, vocabulary: int | None = None) -> Iterator[Any]:
    """Copies of ``config``, the smallest first, that may or may not be possible: families hold
    different widths together. The last is ``config`` itself."""
    text = config.get_text_config(decoder=True)
    small = copy.deepcopy(config)
    own = small.get_text_config(decoder=True)
    for name in _WIDTHS:
        if isinstance(getattr(own, name, None), int):
            setattr(own, name, min(getattr(own, name), 128))
    for name in _EXPERTS:
        if isinstance(getattr(own, name, None), int) and getattr(own, name) > 8:
            setattr(own, name, 8)
    if vocabulary is not None and own.vocab_size > vocabulary:
        own.vocab_size = vocabulary
        for one in (own, small):
            for name in ("pad_token_id", "bos_token_id", "eos_token_id"):
                setattr(one, name, None)
    if isinstance(getattr(text, "head_dim", None), int) and text.hidden_size > 256:
        smaller = copy.deepcopy(small)
        heads = getattr(text, "num_attention_heads", None) or 1
        # A multiple of the heads, as some families want it.
        smaller.get_text_config(decoder=True).hidden_size = heads * max(1, 256 // heads)
        yield smaller
    yield small
    yield config


def build(config: Any, kernel: str | None, seed: int = 0) -> Any:
    """A model of ``config`` in fp32 with weights under which every part of it matters: freshly
    initialised ones hardly move a state."""
    torch.manual_seed(seed)
    model = model_class(config).from_config(
        copy.deepcopy(config), **({} if kernel is None else {"attn_implementation": kernel})
    )
    model = model.float().eval()
    embedded = model.get_input_embeddings().weight
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter is embedded:
                parameter.normal_(0, 1)
            elif parameter.dim() > 1:
                parameter.normal_(0, 1.5 / math.sqrt(max(parameter.shape[-1], parameter.shape[-2])))
    return model


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Compute in one thread: of a small model, several would wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def size(config: Any) -> int:
    """Weights of a model of ``config``."""
    with torch.device("meta"):
        model = model_class(config).from_config(config)
    return sum(p.numel() for p in model.parameters())


def is_small(config: Any) -> bool:
    """Whether a model of ``config`` is made in a moment with all its widths."""
    return size(config) <= _ENOUGH


def layers_of(model: Any) -> list[torch.nn.Module]:
    """The decoder's layers, the lowest first; none where they cannot be told."""
    decoder = decoder_of(model)
    count = decoder.config.get_text_config(decoder=True).num_hidden_layers
    lists = [m for m in decoder.modules() if isinstance(m, torch.nn.ModuleList)]
    return next((list(found) for found in lists if len(found) == count), [])


def _kind(layer: torch.nn.Module) -> tuple[Any, ...]:
    """Equal for layers that are built alike."""
    found: list[Any] = []
    for name, module in layer.named_modules():
        signs = tuple(str(getattr(module, sign, "")) for sign in _SIGNS)
        found.append((name, type(module).__name__, signs))
    found += [(name, tuple(p.shape)) for name, p in layer.named_parameters()]
    return tuple(found)


def _others(config: Any) -> list[Any]:
    """Configurations inside ``config`` of what is not the text model: vision, audio."""
    names = getattr(config, "sub_configs", {}) or {}
    text = config.get_text_config(decoder=True)
    found = [getattr(config, name, None) for name in names]
    return [one for one in found if one is not None and one is not text]


def _cut(config: Any, layers: int, kept: int, name: str = "num_hidden_layers") -> None:
    """Let ``config`` be of the first ``kept`` of its ``layers``."""
    for key, value in list(vars(config).items()):
        if not isinstance(value, (list, tuple)):
            continue
        if len(value) == layers and layers != kept:
            setattr(config, key, type(value)(value[:kept]))
        elif "layer" in key and value and all(isinstance(v, int) for v in value):
            setattr(config, key, type(value)(v for v in value if v < kept))  # numbers of layers
    setattr(config, name, kept)
    if (shared := getattr(config, "num_kv_shared_layers", None)) and shared >= kept:
        config.num_kv_shared_layers = 0
    if getattr(config, "num_nextn_predict_layers", None):
        config.num_nextn_predict_layers = 0
    for window in WINDOWS:
        if isinstance(getattr(config, window, None), int):
            setattr(config, window, min(getattr(config, window), WINDOW))
