"""Attention within documents, each computed by itself.

A pack as one row with a block-diagonal mask costs the square of its length; its documents
cost the sum of their squares. transformers hands the documents' borders through as
``cu_seq_lens_q``, the name that its flash attention uses (``transformers.modeling_flash_
attention_utils.FlashAttentionKwargs``).
"""

import importlib.util
import itertools
from typing import Any

import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface

FLAT = ("varlen", "flash_attention_2", "flash_attention_3")
"""Kernels for sequences of varying length, which want one row without padding."""

_LONG = 512
"""Tokens of a document, in the mean over tokens, from which 16-bit attention is fast on a CPU."""


def attention(wanted: str) -> str:
    """The kernel for ``finetune.attention``: what transformers calls ``attn_implementation``."""
    if wanted != "auto":
        return wanted
    has_kernel = importlib.util.find_spec("flash_attn") is not None
    return "flash_attention_2" if torch.cuda.is_available() and has_kernel else "varlen"


def varlen(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    *,
    cu_seq_lens_q: torch.Tensor | None = None,
    scaling: float | None = None,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    softcap: float | None = None,
    s_aux: torch.Tensor | None = None,
    **rest: Any,
) -> tuple[torch.Tensor, None]:
    """Causal attention within the documents of one row; (1, t, heads, d) and no weights.

    Args:
        query: (1, heads, t, d); key and value (1, key-value heads, t, d).
        cu_seq_lens_q: (documents + 1,) where each document begins, and the end; None is one.
        sliding_window: how many tokens, its own included, a token sees.
        softcap: of the scores, as in Gemma 2.
        s_aux: (heads,) scores of sinks, which take a share of the attention and give nothing,
            as in gpt-oss.
    """
    written = softcap is not None or s_aux is not None
    if query.is_cuda and not written and _kernel() is not None and cu_seq_lens_q is not None:
        return _on_gpu(query, key, value, cu_seq_lens_q, scaling, sliding_window), None
    borders = [0, query.shape[2]] if cu_seq_lens_q is None else cu_seq_lens_q.tolist()
    parts, precision = [], query.dtype
    if _better_in_fp32(query, borders):
        query, key, value = query.float(), key.float(), value.float()
    lengths = [end - begin for begin, end in itertools.pairwise(borders)]
    # Not slices: the gradient of each would be as large as the whole.
    apart = (torch.split(x, lengths, 2) for x in (query, key, value))
    for length, q, k, v in zip(lengths, *apart, strict=True):
        if written:
            parts.append(_written(q, k, v, scaling, sliding_window, softcap, s_aux))
            continue
        band = _band(length, sliding_window, q.device)
        parts.append(
            scaled_dot_product_attention(
                q, k, v, band, dropout, is_causal=band is None, scale=scaling,
                enable_gqa=q.shape[1] != k.shape[1],
            )
        )  # fmt: skip
    return torch.cat(parts, 2).to(precision).transpose(1, 2).contiguous(), None


def _better_in_fp32(query: torch.Tensor, borders: list[int]) -> bool:
    """Whether a CPU's kernel is faster in fp32: of 16-bit types its backward pass takes 3.5
    times as long for documents of 50 tokens, 1.3 times for 200, and less for 1,024 (torch 2.13
    on an EPYC with AVX512-BF16)."""
    if query.device.type != "cpu" or query.dtype == torch.float32:
        return False
    squares = sum((end - begin) ** 2 for begin, end in itertools.pairwise(borders))
    return squares <= _LONG * borders[-1]


def _band(length: int, window: int | None, device: torch.device) -> torch.Tensor | None:
    """What a token sees where a window is shorter than the document; else None: all before."""
    if window is None or length <= window:
        return None
    whole = torch.ones(length, length, dtype=torch.bool, device=device)
    return whole.tril() & whole.triu(1 - window)


def _written(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    scale: float | None,
    window: int | None,
    cap: float | None,
    sinks: torch.Tensor | None,
) -> torch.Tensor:
    """Attention written out, since no kernel caps scores or has sinks."""
    several = query.shape[1] // key.shape[1]
    key, value = key.repeat_interleave(several, 1), value.repeat_interleave(several, 1)
    scores = query @ key.transpose(2, 3) * (scale or query.shape[-1] ** -0.5)
    length = query.shape[2]
    seen = _band(length, window, query.device)
    if seen is None:
        seen = torch.ones(length, length, dtype=torch.bool, device=query.device).tril()
    if cap is not None:
        scores = torch.tanh(scores / cap) * cap
    scores = scores.masked_fill(~seen, -torch.inf).float()
    if sinks is not None:
        column = sinks.float().view(1, -1, 1, 1).expand(len(scores), -1, length, 1)
        scores = torch.cat([scores, column], -1)
    return scores.softmax(-1)[..., :length].to(value.dtype) @ value


def _kernel() -> Any:
    """PyTorch's own kernel for varying lengths (since 2.10, CUDA only), or None."""
    try:
        from torch.nn.attention.varlen import varlen_attn
    except ImportError:
        return None
    return varlen_attn


def _on_gpu(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, borders: torch.Tensor,
    scale: float | None, window: int | None,
) -> torch.Tensor:  # fmt: skip
    q, k, v = (x[0].transpose(0, 1).contiguous() for x in (query, key, value))
    longest = int(borders.diff().max())
    found: torch.Tensor = _kernel()(
        q, k, v, borders, borders, longest, longest, scale=scale,
        window_size=(-1 if window is None else window - 1, 0),
        enable_gqa=q.shape[1] != k.shape[1],
    )  # fmt: skip
    return found[None]


AttentionInterface.register("varlen", varlen)
