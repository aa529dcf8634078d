"""The loss of a pass, as the one module that DeepSpeed trains.

Logits are made only where a token counts, and of long vocabularies a few positions at a time: they
would else be the largest thing in memory. Where the head is trained or does more than multiply,
they are computed again in the backward pass; else ``head_loss`` needs them once.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.nn.functional import cross_entropy
from torch.nn.utils.rnn import pad_sequence
from torch.utils.checkpoint import checkpoint

from delia_ray.causal_models import decoder_of
from delia_ray.finetune.batches import IGNORED, Micro
from delia_ray.finetune.head_loss import frozen_head
from delia_ray.finetune.mixup import mixup

AT_ONCE = 2**26
"""Logits that are held at once; 256 MiB in fp32."""


def at_once(device: torch.device) -> int:
    """Logits that are held at once after a frozen head. A CPU is as fast with few of them, and
    faster while they are in its cache."""
    return AT_ONCE if device.type == "cuda" else AT_ONCE // 4


Losses = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""(n, d) states and (n,) target ids to (n,) losses."""


class Objective(torch.nn.Module):
    """A causal language model with its loss.

    Args:
        model: of transformers, with an adapter of PEFT or without.
        mixup: add the regularisation of SFTMix.
        apart: compute each document as a row of its own (``layout.Layout``).
        in_step: ranks have to call the model equally often (ZeRO-3 gathers weights in it).
    """

    def __init__(
        self, model: Any, mixup: bool = False, apart: bool = False, in_step: bool = False
    ) -> None:
        super().__init__()
        self.model = model
        self.mixup, self.apart, self.in_step = mixup, apart, in_step
        self.plain: bool | None = None  # whether logits are the head's output as it is

    def forward(
        self,
        input_ids: torch.Tensor,
        position_ids: torch.Tensor,
        labels: torch.Tensor,
        downstream: torch.Tensor,
        borders: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """(3,) sums of the cross-entropy over downstream tokens, over diverse tokens, and the
        weighted regularisation; of a ``Micro``."""
        target, owner = labels[:, 1:], downstream[:, 1:]
        counted = target != IGNORED
        states = self.states(input_ids, position_ids, borders)[:, :-1]
        if self.plain is None:
            self.plain = self._head_is_all(input_ids)
        states, target, owner = states[counted], target[counted], owner[counted]
        losses = self.losses(states, target)
        extra = losses.new_zeros(())
        if self.mixup:
            documents = (position_ids == 0).flatten().cumsum(0).view_as(position_ids)
            extra = mixup(states, target, losses.detach(), documents[:, 1:][counted], self.losses)
        return torch.stack([losses[owner].sum(), losses[~owner].sum(), extra])

    def states(
        self, input_ids: torch.Tensor, position_ids: torch.Tensor, borders: torch.Tensor | None
    ) -> torch.Tensor:
        """(b, t, d) last hidden states, after the final norm."""
        if self.apart and borders is not None:
            return self._states_apart(input_ids, borders)
        # Without a cache: transformers looks for packed documents only where there is none.
        more: dict[str, Any] = {"use_cache": False}
        if borders is not None:
            longest = int(borders.diff().max())
            more |= {"cu_seq_lens_q": borders, "cu_seq_lens_k": borders}
            more |= {"max_length_q": longest, "max_length_k": longest}
        decoder = decoder_of(self.causal())
        states: torch.Tensor = decoder(
            input_ids=input_ids, position_ids=position_ids, **more
        ).last_hidden_state
        return states

    def _states_apart(self, input_ids: torch.Tensor, borders: torch.Tensor) -> torch.Tensor:
        """``states`` of one flat row, each document a row of its own. Documents of like length
        are computed together, padded right, where nothing that comes before can see it."""
        documents = torch.split(input_ids[0], borders.diff().tolist())
        groups = alike([len(d) for d in documents])
        decoder, found = decoder_of(self.causal()), [documents[0].new_empty(0)] * len(documents)
        for group in groups:
            rows = pad_sequence([documents[i] for i in group], batch_first=True)
            states = decoder(input_ids=rows, use_cache=False).last_hidden_state
            for line, i in enumerate(group):
                found[i] = states[line, : len(documents[i])]
        whole = torch.cat(found)[None]
        for _ in range(self._most(len(groups), input_ids.device) - len(groups)):
            whole = whole + 0.0 * decoder(input_ids=input_ids[:, :1]).last_hidden_state
        return whole

    def _most(self, passes: int, device: torch.device) -> int:
        """Passes of the rank that makes most, where ranks have to keep in step."""
        if not self.in_step:
            return passes
        most = torch.tensor(passes, device=device)
        torch.distributed.all_reduce(most, torch.distributed.ReduceOp.MAX)
        return int(most)

    def losses(self, states: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """(n,) cross-entropy of ``target`` (n,) after ``states`` (n, d), in fp32."""
        if self.plain and torch.is_grad_enabled() and not torch.compiler.is_compiling():
            head = frozen_head(self.causal().get_output_embeddings())
            if head is not None:
                return head.losses(states, target, at_once(states.device))
        rows = max(1, AT_ONCE // self.causal().config.get_text_config().vocab_size)
        if len(states) <= rows:
            return self._losses(states, target)
        parts = zip(torch.split(states, rows), torch.split(target, rows), strict=True)
        return torch.cat([checkpoint(self._losses, *p, use_reentrant=False) for p in parts])

    def _losses(self, states: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        logits = self.causal().get_output_embeddings()(states).float()
        if not self.plain:
            logits = _after_head(logits, self.causal().config.get_text_config())
        return cross_entropy(logits, target, reduction="none")

    def causal(self) -> Any:
        """The language model, with adapters inside its layers where there are any."""
        inner = getattr(self.model, "get_base_model", None)
        return self.model if inner is None else inner()

    @torch.no_grad()
    def _head_is_all(self, input_ids: torch.Tensor) -> bool:
        """Whether the model's logits are its head's output, and not scaled or capped after it.

        Looked at once, on the real model.

        Raises:
            NotImplementedError: it does something to them that is not known here.
        """
        was_training = self.training
        self.eval()  # the same without dropout
        causal, few = self.causal(), input_ids[:1, :8]
        own = causal(input_ids=few, use_cache=False).logits.float()
        alone = self.states(few, torch.arange(few.shape[1], device=few.device)[None], None)
        alone = causal.get_output_embeddings()(alone).float()
        self.train(was_training)
        near = 1e-2 * float(own.std())
        if torch.allclose(alone, own, rtol=1e-2, atol=near):
            return True
        alone = _after_head(alone, causal.config.get_text_config())
        if torch.allclose(alone, own, rtol=1e-2, atol=near):
            return False
        raise NotImplementedError(
            f"{type(causal).__name__} changes its logits in a way that is not known here"
        )


def _after_head(logits: torch.Tensor, config: Any) -> torch.Tensor:
    """What some families do to their logits: Cohere multiplies, Granite divides, Gemma 2 and
    RecurrentGemma cap."""
    logits = logits * getattr(config, "logit_scale", 1.0) / getattr(config, "logits_scaling", 1.0)
    cap = getattr(config, "final_logit_softcapping", getattr(config, "logits_soft_cap", None))
    return logits if cap is None else torch.tanh(logits / cap) * cap


def alike(lengths: Sequence[int]) -> list[list[int]]:
    """Documents in groups in which none is shorter than half the longest."""
    groups: list[list[int]] = []
    for at in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        if groups and 2 * lengths[at] >= lengths[groups[-1][0]]:
            groups[-1].append(at)
        else:
            groups.append([at])
    return groups


def run(objective: Any, micro: Micro) -> torch.Tensor:
    """``Objective.forward`` (or DeepSpeed's engine around it) on ``micro``."""
    found: torch.Tensor = objective(**vars(micro))
    return found
