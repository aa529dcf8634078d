"""What a step takes of a worker's memory, told before it is made.

What a pass keeps for its backward pass is not derived from the model's shape but counted: on a
copy with the model's first layers and no weights of its own, through which a hundred tokens go as
they do in a training, with the adapter, the kernel and the loss of the recipe. So it holds for any
family and kernel, and with gradient checkpointing; layers that are not in the copy are taken to be
like those that are.
"""

import copy
import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from delia_ray.causal_models import config_of, model_class
from delia_ray.config import Finetune
from delia_ray.finetune.attention import FLAT
from delia_ray.finetune.batches import IGNORED, Micro
from delia_ray.finetune.engine import dtype
from delia_ray.finetune.layout import STAND_INS, Layout
from delia_ray.finetune.model import attach
from delia_ray.finetune.objective import AT_ONCE, Objective, at_once, run
from delia_ray.finetune.small import WINDOWS, few_layers, one_thread, size

PROCESS = 0.75 * 2**30
"""Bytes of a worker that has imported everything, and no model; not on a GPU."""
_LOGIT, _TRAINED_LOGIT = 8, 16
"""Bytes for each logit that is held at once: in two precisions; and, where ``head_loss`` cannot
take the head, its softmax and its gradients too."""
_PIECES = 1.4
"""What is kept comes and goes in pieces, between which memory is lost."""
_TOKENS, _VOCABULARY = 64, 512
_BYTES = {"8bit": 1.0, "4bit": 0.6}
"""Of a quantised weight, with its scales."""


@dataclass(frozen=True)
class Footprint:
    """Of one training worker, in bytes."""

    fixed: int
    """The process, weights, what is trained with its gradients and the optimizer's state."""
    per_token: float
    """Kept of each token of a pass."""
    per_square: float
    """Kept for each pair of tokens of a pack, where the attention kernel writes its scores out."""
    logits: int
    """Most for the loss, however many tokens are supervised."""
    per_supervised: int
    """For the loss of each token, up to that."""

    def of(self, packs: int, tokens: int) -> int:
        """At the height of a pass of so many packs of ``tokens`` tokens."""
        kept = packs * tokens * (self.per_token + tokens * self.per_square)
        logits = min(self.logits, packs * tokens * self.per_supervised)
        return int(self.fixed + kept * _PIECES + logits)


def footprint(
    path: str, settings: Finetune, special_tokens: Mapping[str, str], layout: Layout, workers: int
) -> Footprint:
    """Of a worker that trains the model in folder ``path`` as one of ``workers``.

    Raises:
        Exception: whatever the family's own code raises where the copy cannot be computed.
    """
    own = settings.model_copy(update={"quantize": "none", "adapter": None, "micro_batch_size": 1})
    tokens = bool(special_tokens) and settings.method != "full"
    return _count(path, own.model_dump_json(), settings.quantize, tokens, layout, workers)


@functools.lru_cache(maxsize=8)
def _count(
    path: str, given: str, quantize: str, tokens: bool, layout: Layout, workers: int
) -> Footprint:
    settings = Finetune.model_validate_json(given)
    config = config_of(path)
    text = config.get_text_config(decoder=True)
    precision = dtype(settings.precision)
    few = _few(config)
    kernel = STAND_INS.get(layout.kernel, layout.kernel)
    flat = layout.apart or kernel in FLAT
    with one_thread():
        objective = _empty(few, kernel, layout.apart, settings)
        one, two = (_kept(objective, n, flat) for n in (_TOKENS, 2 * _TOKENS))
    trained = sum(p.numel() for p in objective.parameters() if p.requires_grad)
    depth = text.num_hidden_layers / few.get_text_config(decoder=True).num_hidden_layers
    square = max(0.0, (two / 2 - one) / _TOKENS**2)
    weights = size(config)
    trained = weights if settings.method == "full" else int(trained * depth)
    each = precision.itemsize
    # Gradients and DeepSpeed's bucket of them; values and two moments in fp32, spread by ZeRO.
    state = trained * (2 * each + 12 / workers)
    # PEFT puts trained rows into a copy of the matrix, on both sides, and takes its gradient; and
    # logits are kept, where ``token_layers`` and ``head_loss`` leave it to others.
    others = settings.method == "full" or settings.zero == 3
    rows = 3 * text.vocab_size * text.hidden_size * each if tokens and others else 0
    # For new tokens the matrices are laid down anew, as large as before.
    rows += 2 * text.vocab_size * text.hidden_size * each if tokens else 0
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    logit = _TRAINED_LOGIT if others else _LOGIT
    return Footprint(
        fixed=int(
            (0 if device.type == "cuda" else PROCESS)
            + weights * _BYTES.get(quantize, each)
            + state
            + rows
        ),
        per_token=depth * (one / _TOKENS - square * _TOKENS),
        per_square=depth * square,
        logits=logit * (AT_ONCE if others else at_once(device)),
        per_supervised=logit * text.vocab_size,
    )


def _few(config: Any) -> Any:
    """The configuration of the copy: all widths, few layers, and few tokens in its vocabulary."""
    few = few_layers(config)
    own, text = few.get_text_config(decoder=True), config.get_text_config(decoder=True)
    for window in WINDOWS:  # that a copy has shorter ones would show as squares
        if isinstance(getattr(own, window, None), int):
            setattr(own, window, getattr(text, window))
    own.vocab_size = min(own.vocab_size, _VOCABULARY)
    for one in (own, few):
        for name in ("pad_token_id", "bos_token_id", "eos_token_id"):
            setattr(one, name, None)
    return few


def _empty(config: Any, kernel: str, apart: bool, settings: Finetune) -> Objective:
    """The objective on a model whose weights were never written, so that they take no memory."""
    precision = dtype(settings.precision)
    with torch.device("meta"):
        model = model_class(config).from_config(
            copy.deepcopy(config), attn_implementation=kernel, dtype=precision
        )
    tuned = attach(model.to_empty(device="cpu"), None, {}, settings)
    objective = Objective(tuned, apart=apart).to(precision).train()
    objective.plain = True  # its logits mean nothing
    return objective


def _kept(objective: Objective, tokens: int, flat: bool) -> int:
    """Bytes that a pass of one document keeps for its backward pass, beside the model's own."""
    ids, places = torch.zeros((1, tokens), dtype=torch.int64), torch.arange(tokens)[None]
    labels = torch.full_like(ids, IGNORED)
    labels[0, -1] = 0
    borders = torch.tensor([0, tokens], dtype=torch.int32) if flat else None
    micro = Micro(ids, places, labels, torch.ones_like(ids, dtype=torch.bool), borders)
    own = {t.untyped_storage().data_ptr() for t in (*objective.parameters(), *objective.buffers())}
    found: dict[int, torch.UntypedStorage] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            found[storage.data_ptr()] = storage  # held, so that no other takes its place
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        loss = run(objective, micro)
    del loss
    return sum(storage.nbytes() for storage in found.values())
