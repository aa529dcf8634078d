"""How large an engine has to be: tokens of the longest request, bytes of its cache, its cores.

Arithmetic on the data and the model's ``config.json``; nothing here starts an engine.
"""

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from delia_ray.engines import Request

BLOCK = 128
"""Tokens of a block of vLLM's cache on a CPU; a request takes whole ones."""
SEQUENCES = 256
"""Requests that an engine on a CPU works on at once, at most."""
SHARE_OF_MEMORY = 0.25
"""Of the memory that is free: the most that all caches of a machine may take."""
SMALLEST_CACHE = 64 * 2**20
"""Bytes; below that nothing is saved."""
_OVERHEAD = 256
"""Bytes that a template is taken to add to a text at most, beside what each turn was seen to."""
_BYTES = {"float32": 4, "float": 4}
"""Of a number, by its type's name; all others have two."""

Count = Callable[[Request], int]
"""Tokens of a request's prompt; 0 where the template refuses it."""


@dataclass(frozen=True)
class Cores:
    """What one engine gets of a machine without a GPU."""

    threads: int
    """That compute."""
    reserved: int
    """CPUs that Ray counts as taken; where there are several, one is left to the tasks that
    feed the engine and take in what it says."""


def cores(cluster: float, node: float, engines: int, size: int = 1) -> Cores:
    """The cores of each engine where ``engines`` of them share a cluster.

    Args:
        cluster: CPUs of all nodes.
        node: CPUs of the smallest node that may hold an engine.
        engines: that may run at the same time.
        size: processes of an engine, each with threads of its own.
    """
    own = max(1, min(int(node), int(cluster) // engines) // size)
    return Cores(own, max(1, own - 1) if size == 1 else 1)


def longest(requests: Callable[[], Iterable[Request]], count: Count) -> int:
    """Tokens of the longest prompt together with its answer; 0 without requests.

    A token stands for at least one byte, so of most requests the bytes are enough to tell that
    they are shorter than the longest so far, and only some are rendered and counted.

    Args:
        requests: yields them; called twice.
        count: see ``Count``.
    """
    largest = max(requests(), key=_most, default=None)
    if largest is None:
        return 0
    found = count(largest) + largest.max_tokens
    # What a template adds to a text of its own accord; a system message may be long.
    added = max(_OVERHEAD, count(largest) - _bytes(largest))
    for request in requests():
        if _most(request) + added > found:
            found = max(found, count(request) + request.max_tokens)
    return found


def _bytes(request: Request) -> int:
    return sum(len(m["content"].encode(errors="replace")) + 32 for m in request.messages
               if isinstance(m["content"], str))  # fmt: skip


def _most(request: Request) -> int:
    return _bytes(request) + request.max_tokens


def model_length(needed: int, positions: int | None) -> int:
    """``max_model_len`` for a request of ``needed`` tokens: whole blocks, and no more than the
    model has ``positions`` for (None: no bound)."""
    rounded = -(-max(needed, BLOCK) // BLOCK) * BLOCK
    return rounded if positions is None else min(rounded, positions)


def positions_of(model: str) -> int | None:
    """Positions of the model in folder ``model``; None where its configuration names none."""
    found = _text_config(model).get("max_position_embeddings")
    return int(found) if found else None


def cache_bytes_per_token(model: str) -> int:
    """Keys and values of one token in all layers of the model in folder ``model``."""
    config = _text_config(model)
    heads = int(config.get("num_attention_heads") or 1)
    own = int(config.get("num_key_value_heads") or heads)
    width = int(config.get("head_dim") or int(config.get("hidden_size") or 0) // heads)
    layers = int(config.get("num_hidden_layers") or 1)
    return 2 * layers * own * width * _BYTES.get(dtype_of(model), 2)


def cache_bytes(per_token: int, length: int, free: float, engines: int = 1) -> int:
    """Bytes of an engine's cache: room for ``SEQUENCES`` requests of the greatest length, or
    else this engine's part of ``SHARE_OF_MEMORY`` of the free memory, but at least one request.

    Args:
        per_token: bytes, of ``cache_bytes_per_token``.
        length: the engine's ``max_model_len``.
        free: bytes of memory.
        engines: that share them.
    """
    # Two blocks more: vLLM keeps one empty, and the last of a request is seldom full.
    one = per_token * (-(-length // BLOCK) + 2) * BLOCK
    most = int(free * SHARE_OF_MEMORY) // engines
    return max(one, min(one * SEQUENCES, most), SMALLEST_CACHE)


def dtype_of(model: str) -> str:
    """The type of the weights in folder ``model``, as its configuration has it."""
    config = _config(model)
    text = _text_config(model)
    found = next((c[k] for c in (config, text) for k in ("dtype", "torch_dtype") if c.get(k)), None)
    return str(found or "float32")


def _config(model: str) -> Mapping[str, Any]:
    found: Mapping[str, Any] = json.loads((Path(model) / "config.json").read_text())
    return found


def _text_config(model: str) -> Mapping[str, Any]:
    config = _config(model)
    found: Mapping[str, Any] = config.get("text_config") or config
    return found
