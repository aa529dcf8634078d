"""Embeddings of queries by the base model itself; runs as one Ray task."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

_TOKENS = 256
"""Of a query, more are not looked at: what it asks for stands at its beginning."""


def embeddings(folder: str, texts: Sequence[str], batch: int = 32) -> npt.NDArray[np.float32]:
    """The mean last hidden state of each text, less the mean of all, since the states of a
    language model share one direction that says nothing.

    Returns:
        (texts, hidden size).
    """
    import torch
    from transformers import AutoModel

    from delia_ray.models import load_tokenizer

    tokenizer = load_tokenizer(folder)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = AutoModel.from_pretrained(folder, dtype=torch.float32).to(device).eval()
    encoded = tokenizer(list(texts), add_special_tokens=False)["input_ids"]
    cut = [ids[:_TOKENS] or [0] for ids in encoded]
    out = np.zeros((len(texts), model.config.hidden_size), np.float32)
    order = sorted(range(len(cut)), key=lambda i: len(cut[i]))  # little padding
    with torch.inference_mode():
        for start in range(0, len(order), batch):
            rows = order[start : start + batch]
            longest = max(len(cut[i]) for i in rows)
            ids = torch.zeros((len(rows), longest), dtype=torch.long)
            mask = torch.zeros_like(ids)
            for at, row in enumerate(rows):
                ids[at, : len(cut[row])] = torch.tensor(cut[row])
                mask[at, : len(cut[row])] = 1
            states = model(input_ids=ids.to(device), attention_mask=mask.to(device))
            weights = mask.to(device).unsqueeze(-1).float()
            mean = (states.last_hidden_state.float() * weights).sum(1) / weights.sum(1)
            out[rows] = mean.cpu().numpy()
    centred: npt.NDArray[np.float32] = out - out.mean(axis=0)
    return centred
