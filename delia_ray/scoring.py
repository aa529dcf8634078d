"""What a base model makes of sequences: its loss on what it should say, and a vector of what it
was asked. The mix ranks rows by it, the synthesis judges wordings by it."""

import functools
import inspect
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from delia_ray.causal_models import load_causal
from delia_ray.models import load_tokenizer, locate

Floats = npt.NDArray[np.float32]
_TOKENS_AT_ONCE = 16_384
_LOGITS_AT_ONCE = 2**28
"""Numbers; 1 GiB in fp32."""


@dataclass(frozen=True)
class Scored:
    """Of n sequences, in their order."""

    loss: Floats
    """(n,) mean loss of the supervised tokens; 0 without any."""
    state: Floats
    """(n, hidden) mean over the other tokens of the last layer's states."""


class Scorer:
    """A base model, loaded once, on this process's GPU where it has one."""

    def __init__(self, model: str, special_tokens: Sequence[str] = ()) -> None:
        import torch

        path = locate(model)
        tokenizer = load_tokenizer(path, special_tokens)
        self.model: Any = load_causal(path, dtype="auto")
        if len(tokenizer) > self.model.get_input_embeddings().num_embeddings:
            self.model.resize_token_embeddings(len(tokenizer))  # a row may hold a new token
        self.model.to("cuda" if torch.cuda.is_available() else "cpu").eval()
        self.keeps = "logits_to_keep" in inspect.signature(self.model.forward).parameters
        config = self.model.config.get_text_config()
        self.hidden = int(config.hidden_size)
        self.tokens_at_once = min(_TOKENS_AT_ONCE, _LOGITS_AT_ONCE // config.vocab_size)

    def score(self, ids: Sequence[npt.ArrayLike], supervised: Sequence[npt.ArrayLike]) -> Scored:
        """Of sequences of token ids, with which of them the model should say."""
        loss = np.zeros(len(ids), np.float32)
        state = np.zeros((len(ids), self.hidden), np.float32)
        tokens = [np.asarray(one, np.int64) for one in ids]
        counted = [np.asarray(one, bool) for one in supervised]
        for own in batches([len(one) for one in tokens], self.tokens_at_once):
            batch = [tokens[i] for i in own], [counted[i] for i in own]
            loss[own], state[own] = self._forward(*batch)
        return Scored(loss, state)

    def _forward(
        self, tokens: list[npt.NDArray[Any]], counted: list[npt.NDArray[Any]]
    ) -> tuple[Floats, Floats]:
        import torch

        ids = np.zeros((len(tokens), max(map(len, tokens))), np.int64)
        counts, real = np.zeros(ids.shape, bool), np.zeros(ids.shape, bool)
        for line, (own, supervised) in enumerate(zip(tokens, counted, strict=True)):
            ids[line, : len(own)], real[line, : len(own)] = own, True
            counts[line, : len(own)] = supervised
        put = functools.partial(torch.as_tensor, device=self.model.device)
        before = np.flatnonzero(counts[:, 1:].any(0))
        # Places after which some row says something: of a vocabulary's logits only those.
        kept = {"logits_to_keep": put(before)} if self.keeps else {}
        with torch.inference_mode():
            out = self.model(
                input_ids=put(ids),
                attention_mask=put(real.astype(np.int64)),
                output_hidden_states=True,
                use_cache=False,
                **kept,
            )
            logits = out.logits if self.keeps else out.logits[:, before]
            target = put(np.where(counts, ids, -100)[:, before + 1])
            loss = torch.nn.functional.cross_entropy(
                logits.float().transpose(1, 2), target, reduction="none"
            ).sum(1) / (target != -100).sum(1).clamp(min=1)
            asked = put(real & ~counts)[..., None]
            state = (out.hidden_states[-1].float() * asked).sum(1) / asked.sum(1).clamp(min=1)
        return loss.cpu().numpy(), state.cpu().numpy()


def batches(lengths: list[int], tokens: int) -> Iterator[list[int]]:
    """Rows of like length, of up to ``tokens`` with padding for one forward pass; at least one."""
    batch: list[int] = []
    for i in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        if batch and (len(batch) + 1) * lengths[batch[0]] > tokens:
            yield batch
            batch = []
        batch.append(i)
    if batch:
        yield batch


@functools.cache
def scorer(model: str, special_tokens: tuple[str, ...] = ()) -> Scorer:
    """One for each process."""
    return Scorer(model, special_tokens)
