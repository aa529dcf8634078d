"""Plain transformers generation: small models, small machines, and where vLLM is missing."""

import time
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from jinja2 import TemplateError

from delia_ray.causal_models import load_causal
from delia_ray.config import TransformersEngine
from delia_ray.engines import Completion, Generate, Request, Tell
from delia_ray.generation_settings import neutral
from delia_ray.models import end_ids, load_tokenizer, locate, prompt_ids
from delia_ray.runtime import has_gpu

if TYPE_CHECKING:
    import torch
    from ray.data import Dataset


class Transformers:
    """See ``engines.Engine``."""

    def __init__(self, settings: TransformersEngine, model: str) -> None:
        self.settings = settings
        self.model = model
        self.replicas = (settings.replicas, settings.replicas)
        self.gpus = 1
        self.in_flight = 4 * settings.replicas * settings.batch_size

    def map(self, requests: "Dataset", longest: int = 0, tell: Tell | None = None) -> "Dataset":
        from ray.data import ActorPoolStrategy

        gpu = has_gpu()
        return requests.map_batches(
            _Actor,
            fn_constructor_args=(self, tell),
            batch_size=None,  # a block is a batch: no last one waits for more rows
            # Of the model's size; not of the dataset's.
            compute=ActorPoolStrategy(size=self.settings.replicas),
            num_cpus=0 if gpu else 1,
            num_gpus=1 if gpu else 0,
            max_restarts=self.settings.max_restarts,
            max_task_retries=self.settings.max_restarts,
        )

    def longest(self, requests: Callable[[], Iterable[Request]]) -> int:
        """Prompts are padded to the longest of their batch, whatever it is."""
        return 0

    def load(self, longest: int = 0) -> Generate:
        import torch

        path = locate(self.model)
        tokenizer = load_tokenizer(path)
        device = "cuda" if torch.cuda.is_available() else "cpu"
        model = load_causal(path, dtype="auto").to(device).eval()
        ends = end_ids(path)
        pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else min(ends)
        # What the model's own settings say beside its end would act here and not in vLLM.
        model.generation_config = neutral(ends, pad)

        def answer(batch: list[Request]) -> list[Completion]:
            try:
                return _answer(model, tokenizer, ends, batch)
            except (ValueError, TypeError, IndexError, RuntimeError, TemplateError) as error:
                if len(batch) == 1:
                    text = f"{type(error).__name__}: {error}"
                    return [Completion(batch[0].key, "", "error", 0, 0, 0.0, text)]
                # One bad row must not take its batch along: ask each alone.
                return [row for request in batch for row in answer([request])]

        def generate(requests: Sequence[Request]) -> list[Completion]:
            size = self.settings.batch_size
            # Similar lengths together, so that little is padded.
            order = sorted(range(len(requests)), key=lambda i: _length(requests[i]))
            done: dict[int, Completion] = {}
            for start in range(0, len(order), size):
                chosen = order[start : start + size]
                batch = [requests[i] for i in chosen]
                done.update(zip(chosen, answer(batch), strict=True))
            return [done[i] for i in range(len(requests))]

        return generate


class _Actor:
    """One copy of the model in a Ray Data actor."""

    def __init__(self, engine: Transformers, tell: Tell | None) -> None:
        self.generate = engine.load()
        self.tell = tell
        if tell:
            tell(0, 0)

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        names = [n for n in Request.__dataclass_fields__ if n in batch]
        columns = [_plain(batch[n]) for n in names]
        requests = [
            Request(**dict(zip(names, row, strict=True))) for row in zip(*columns, strict=True)
        ]
        rows = self.generate(requests)
        if self.tell:
            self.tell(len(rows), sum(r.completion_tokens for r in rows))
        return {n: [getattr(r, n) for r in rows] for n in Completion.__dataclass_fields__}


def _answer(
    model: Any, tokenizer: Any, ends: frozenset[int], requests: list[Request]
) -> list[Completion]:
    import torch
    from transformers import LogitsProcessorList

    began = time.monotonic()
    prompts = [prompt_ids(tokenizer, r.messages, r.turn) for r in requests]
    width = max(map(len, prompts))
    pad = model.generation_config.pad_token_id
    ids = torch.full((len(prompts), width), pad)
    mask = torch.zeros_like(ids)
    for row, prompt in enumerate(prompts):  # padding goes left: answers start together
        ids[row, width - len(prompt) :] = torch.tensor(prompt)
        mask[row, width - len(prompt) :] = 1
    with torch.inference_mode():
        out = model.generate(
            input_ids=ids.to(model.device),
            attention_mask=mask.to(model.device),
            # Greedily: the processor below samples, with a seed for each row.
            max_new_tokens=max(r.max_tokens for r in requests),
            logits_processor=LogitsProcessorList([_SeededSampling(requests)]),
        )
    completions = []
    for request, prompt, row in zip(requests, prompts, out[:, width:].tolist(), strict=True):
        stop = next((i for i, t in enumerate(row) if t in ends), None)
        stopped = stop is not None and stop < request.max_tokens
        kept = row[:stop] if stopped else row[: request.max_tokens]
        text = tokenizer.decode(kept, skip_special_tokens=False, clean_up_tokenization_spaces=False)
        completions.append(
            Completion(
                request.key, text, "stop" if stopped else "length", len(prompt),
                len(kept) + stopped, time.monotonic() - began,
            )
        )  # fmt: skip
    return completions


class _SeededSampling:
    """Nucleus sampling as an arg max: adding Gumbel noise to log-probabilities and taking
    the largest draws from them, and the noise of a row comes from its own seed. So an
    answer does not depend on which rows share its batch."""

    def __init__(self, requests: list[Request]) -> None:
        import torch

        self.requests = requests
        self.generators = [torch.Generator().manual_seed(r.seed) for r in requests]

    def __call__(self, input_ids: "torch.Tensor", scores: "torch.Tensor") -> "torch.Tensor":
        import torch

        for row, request in enumerate(self.requests):
            if not request.temperature:
                continue
            logp = torch.log_softmax(scores[row].float() / request.temperature, dim=-1)
            ranked, index = logp.sort(descending=True)
            before = ranked.exp().cumsum(-1) - ranked.exp()
            ranked[before >= request.top_p] = -torch.inf
            noise = torch.empty(len(ranked)).exponential_(generator=self.generators[row])
            choice = index[(ranked - noise.to(ranked).log()).argmax()]
            scores[row] = -torch.inf
            scores[row, choice] = 0.0
        return scores


def _length(request: Request) -> int:
    return sum(len(m["content"] or "") for m in request.messages)


def _plain(column: Any) -> list[Any]:
    """A column of a Ray Data batch as Python values (they come as numpy)."""
    values = column.tolist() if hasattr(column, "tolist") else list(column)
    return [v.tolist() if hasattr(v, "tolist") else v for v in values]
