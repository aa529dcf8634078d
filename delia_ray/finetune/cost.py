"""What a step costs: floating-point operations, memory."""

import contextlib
import ctypes
import resource
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

PEAK = {"H100": 989e12, "H200": 989e12, "A100": 312e12, "L40S": 362e12, "A10": 125e12}
"""Dense bf16 operations per second by a part of the device's name (vendor's data sheets)."""


class Cost:
    """Counts the operations that a model needs, whatever the kernels spend.

    A frozen weight costs two operations for a token forward and two backward; a trained one
    two more, for its own gradient. Causal attention costs 6 t^2 d in each layer for a
    document of t tokens (2 t^2 d forward, twice that backward). The output matrix is only
    multiplied where a token is supervised.
    """

    def __init__(self, model: Any) -> None:
        config = model.config.get_text_config()
        embedded = model.get_input_embeddings().weight.numel()
        head = model.get_output_embeddings().weight
        tied = head is model.get_input_embeddings().weight
        total = sum(p.numel() for p in model.parameters())
        trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
        body = total - embedded - (0 if tied else head.numel())
        self.per_token = 4 * body + 2 * trained
        self.per_supervised = 4 * head.numel()
        self.per_square = 6 * config.num_hidden_layers * config.hidden_size

    def of(self, lengths: npt.NDArray[Any], supervised: int) -> float:
        """Operations of a step of documents of ``lengths``."""
        squares = float((lengths.astype(np.float64) ** 2).sum())
        tokens = float(lengths.sum())
        whole = tokens * self.per_token + squares * self.per_square
        return float(whole + supervised * self.per_supervised)


def peak() -> float | None:
    """Operations per second of this worker's GPU in bf16; None on a CPU, or where unknown."""
    if not torch.cuda.is_available():
        return None
    name = torch.cuda.get_device_name()
    return next((value for part, value in PEAK.items() if part in name), None)


def memory_gib() -> float:
    """Most memory that this process has held so far: of the GPU, or without one resident."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 2**30
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20  # KiB


def give_back() -> None:
    """Return memory that is free within this process to the system: the C library keeps what the
    steps took, which may be gigabytes. Where there is no such call, nothing is done."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)  # glibc's
