"""How the documents of a pack are computed: by which kernel, and together or apart.

A pack is one row of many documents. Attention is kept within documents by positions or by
borders; what carries a state along the row (a convolution, linear attention, a state space)
goes over every border, and some kernels heed none of them. Which models do cannot be read from
their names, so it is measured: a pack of a small copy of the model against its documents, each
alone, computed by the written-out attention (``eager``).
"""

import functools
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import torch

from delia_ray.causal_models import config_of, decoder_of, model_class
from delia_ray.errors import UserError
from delia_ray.finetune.attention import FLAT
from delia_ray.finetune.objective import Objective
from delia_ray.finetune.small import build, few_layers, is_small, narrow, one_thread

STAND_INS = {"auto": "varlen", "flash_attention_2": "varlen", "flash_attention_3": "varlen",
             "flex_attention": "sdpa"}  # fmt: skip
"""Kernel -> one that runs on a CPU and learns of the borders in the same way."""
LENGTHS = (9, 12, 7)
"""Tokens of the probing documents, longer than a copy's windows."""
LEAKS = "in the family {} the rows of a pack would see each other"
TOLERANCE = 2e-3
"""Most that a state may differ by, in standard deviations of all states; rounding in fp32 makes
a hundredth of it, and a leak several."""
_VOCABULARY = 512


@dataclass(frozen=True)
class Layout:
    """How documents are computed."""

    kernel: str
    """For ``finetune.attention``."""
    apart: bool = False
    """Whether each document is a row of its own: the kernel, or the model's layers, would let
    documents of a pack see each other."""
    why: str = ""
    """Why ``apart``."""

    def __str__(self) -> str:
        if not self.apart:
            return f"rows are packed (attention {self.kernel})"
        return f"rows are computed apart (attention {self.kernel}): {self.why}"

    def as_json(self) -> dict[str, Any]:
        """For the manifest."""
        return asdict(self)


@functools.lru_cache(maxsize=8)
@one_thread()
def find_layout(path: str, wanted: str) -> Layout:
    """The layout under which documents of the model in folder ``path`` see nothing of each other.

    Args:
        path: the model's folder.
        wanted: ``finetune.attention``; ``auto`` also looks for a kernel.

    Raises:
        UserError: the kernel computes something else than the model, however rows are laid out.
    """
    config = config_of(path)
    flash = wanted.startswith("flash_")
    flashes = _takes_flash(config, wanted if flash else "flash_attention_2")
    if flash and not flashes:
        raise UserError(
            f"finetune.attention={wanted}: the family {config.model_type} cannot be computed by "
            "it; set finetune.attention=auto"
        )
    try:
        probe = _Probe(config)
    except Exception as problem:  # whatever the family's own code raises
        said = f"{type(problem).__name__}: {problem}".splitlines()[0]
        return Layout(wanted, True, f"a small copy of the model could not be made ({said})")
    tried: dict[str, str] = {}
    kernels = ("auto", "sdpa", "eager") if wanted == "auto" else (wanted,)
    for kernel, apart in _candidates(kernels):
        gap = probe.gap(STAND_INS.get(kernel, kernel), apart)
        if isinstance(gap, float) and gap <= TOLERANCE:
            own = "varlen" if kernel == "auto" and not flashes else kernel
            return Layout(own, apart, LEAKS.format(config.model_type) if apart else "")
        tried[kernel] = gap if isinstance(gap, str) else "states differ from those of eager"
    reasons = "; ".join(f"{kernel}: {why}" for kernel, why in tried.items())
    advice = (
        "choose a model of another family"
        if wanted == "auto" or not _others_work(probe, wanted)
        else "set finetune.attention=auto"
    )
    raise UserError(
        f"finetune.attention={wanted}: rows of the family {config.model_type} cannot be computed "
        f"as the model would ({reasons}); {advice}"
    )


def _candidates(kernels: tuple[str, ...]) -> Iterator[tuple[str, bool]]:
    """(kernel, apart), what costs least first. The written-out attention needs memory by the
    square of the length, so it comes last."""
    fast = [k for k in kernels if k != "eager" or len(kernels) == 1]
    slow = [k for k in kernels if k not in fast]
    for group in (fast, slow):
        for apart in (False, True):
            for kernel in group:
                yield kernel, apart


def _others_work(probe: "_Probe", wanted: str) -> bool:
    kernels = tuple(k for k in ("auto", "sdpa", "eager") if k != wanted)
    gaps = (probe.gap(STAND_INS.get(k, k), apart) for k, apart in _candidates(kernels))
    return any(isinstance(gap, float) and gap <= TOLERANCE for gap in gaps)


def _takes_flash(config: Any, kernel: str) -> bool:
    found = model_class(config)._model_mapping[type(config)]
    found = found[0] if isinstance(found, (list, tuple)) else found
    only = getattr(found, "_compatible_flash_implementations", None)
    return bool(getattr(found, "_supports_flash_attn", False)) and (only is None or kernel in only)


class _Probe:
    """A copy of a model, and its documents' states, each alone."""

    def __init__(self, config: Any) -> None:
        few = few_layers(config)
        sizes = [few] if is_small(few) else list(narrow(few, _VOCABULARY))
        self.config, self.expected = _first_that_runs(sizes)
        self.scale = torch.cat(self.expected).std()

    def gap(self, kernel: str, apart: bool) -> float | str:
        """Largest difference of a state in a pack to that alone, in standard deviations of the
        states; or why the kernel gives none."""
        try:
            found = _states(self.config, kernel, _packed, apart)
        except Exception as problem:  # whatever the family's own code raises
            return f"{type(problem).__name__}: {problem}".splitlines()[0]
        gaps = [(a - b).abs().max() for a, b in zip(found, self.expected, strict=True)]
        worst = float(torch.stack(gaps).max() / self.scale)
        return worst if worst == worst else "states are not numbers"


States = list[torch.Tensor]


def _first_that_runs(configs: list[Any]) -> tuple[Any, States]:
    """(the first configuration of which a model can be computed, its documents' states)."""
    for config in configs[:-1]:
        try:
            return config, _states(config, "eager", _alone, False)
        except Exception:  # widths that do not go together
            continue
    return configs[-1], _states(configs[-1], "eager", _alone, False)


@torch.no_grad()
def _states(
    config: Any, kernel: str, lay: Callable[[Objective, States, bool], States], apart: bool
) -> States:
    objective = Objective(build(config, kernel), apart=apart).eval()
    random = torch.Generator().manual_seed(1)
    high = min(config.get_text_config(decoder=True).vocab_size, _VOCABULARY)
    documents = [torch.randint(3, high, (n,), generator=random) for n in LENGTHS]
    return lay(objective, documents, apart or kernel in FLAT)


def _packed(objective: Objective, documents: States, flat: bool) -> States:
    ids = torch.cat(documents)[None]
    positions = torch.cat([torch.arange(len(d)) for d in documents])[None]
    borders = torch.tensor([0, *LENGTHS]).cumsum(0).int() if flat else None
    states = objective.states(ids, positions, borders)[0].float()
    return list(torch.split(states, list(LENGTHS)))


def _alone(objective: Objective, documents: States, flat: bool) -> States:
    decoder = decoder_of(objective.causal())
    return [
        decoder(input_ids=d[None], use_cache=False).last_hidden_state[0].float() for d in documents
    ]
