"""vLLM: many engines fed by ``ray.data.llm`` (map), or one in this process (load)."""

import contextlib
import functools
import json
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
from jinja2 import TemplateError

from delia_ray.config import VllmEngine
from delia_ray.engines import Completion, Generate, Request, Tell
from delia_ray.engines.sizes import (
    SEQUENCES,
    Cores,
    cache_bytes,
    cache_bytes_per_token,
    cores,
    dtype_of,
    model_length,
    positions_of,
)
from delia_ray.engines.sizes import longest as longest_of
from delia_ray.machine_memory import memory
from delia_ray.models import end_ids, load_tokenizer, locate, prompt_ids, prompts_ids
from delia_ray.runtime import WORKER_ENV, cpus_here, cpus_of_cluster, has_gpu, smallest_memory

if TYPE_CHECKING:
    from ray.data import Dataset

QUIET = {"VLLM_LOGGING_LEVEL": "ERROR"}


def cpu_env(threads: int) -> dict[str, str]:
    """Environment of an engine that computes with so many threads on a CPU.

    Left alone, vLLM keeps a core free for its own scheduler, which is half of a small machine,
    and binds every engine of a machine to the same cores; and Ray lets an actor have as many
    threads as it asked for CPUs.
    """
    return {**QUIET, "VLLM_CPU_OMP_THREADS_BIND": "nobind", "OMP_NUM_THREADS": str(threads)}


class Vllm:
    """See ``engines.Engine``."""

    def __init__(self, settings: VllmEngine, model: str) -> None:
        self.settings = settings
        self.model = model
        self.replicas = settings.replica_range
        kwargs = settings.kwargs
        self.gpus = int(kwargs.get("tensor_parallel_size", 1)) * int(
            kwargs.get("pipeline_parallel_size", 1)
        )
        # Ray Data hands an actor twice what it may work on at once.
        self.in_flight = (
            self.replicas[1] * settings.batch_size * (2 * settings.max_concurrent_batches + 1)
        )

    def longest(self, requests: Callable[[], Iterable[Request]]) -> int:
        if self.settings.max_model_len != "auto":
            return 0
        path = locate(self.model)
        found = longest_of(requests, functools.partial(_count, path))
        return model_length(found, positions_of(path)) if found else 0

    def map(self, requests: "Dataset", longest: int = 0, tell: Tell | None = None) -> "Dataset":
        from ray.data.llm import build_processor, vLLMEngineProcessorConfig

        gpu = has_gpu()
        least, most = self.replicas
        own = self._cores()
        config = vLLMEngineProcessorConfig(
            model_source=locate(self.model),
            engine_kwargs=self._engine_kwargs(gpu, longest, smallest_memory()),
            concurrency=(least, most),
            batch_size=self.settings.batch_size,
            max_concurrent_batches=self.settings.max_concurrent_batches,
            # All that is here, so that vLLM can fill every step from a queue. The default, a
            # tenth more than runs at once, spares the streams that ``_final_only`` closes.
            max_pending_requests=self.settings.batch_size * self.settings.max_concurrent_batches,
            should_continue_on_error=True,
            log_engine_metrics=False,
            # Only the engine is an actor. The other stages of the processor would hold one
            # more CPU each and starve the tasks that feed them on a small cluster; prompts
            # are rendered before it and vLLM turns ids into text itself.
            chat_template_stage=False,
            tokenize_stage=False,
            detokenize_stage=False,
            # Without this the engine asks for a GPU and waits for one for ever.
            placement_group_config=None
            if gpu
            else {"bundles": [{"CPU": own.reserved}] * self.gpus},
            runtime_env={"env_vars": {**WORKER_ENV, **({} if gpu else cpu_env(own.threads))}},
        )
        # A process for every four engines: left alone, Ray Data would start ten to a CPU, and
        # each would spend more time on importing transformers than many prompts take to render.
        before = {"num_cpus": 0.1, "concurrency": -(-most // 4)}
        behind = {"num_cpus": 0.1, "concurrency": -(-most // 8)}
        processor = build_processor(
            config, preprocess_map_kwargs=before, postprocess_map_kwargs=behind
        )
        # A block is a batch: with a number here, Ray Data would hold a smaller last block back
        # until more rows come, and they may depend on its answers.
        config.__dict__["batch_size"] = None
        stage = processor.get_stage_by_name("vLLMEngineStage")
        # Not by assignment: that validates the stage again, which asks for a GPU.
        stage.__dict__["fn"] = _final_only(stage.fn, tell)
        # The defaults restart a dying engine for ever.
        restarts = self.settings.max_restarts
        stage.map_batches_kwargs.update(max_restarts=restarts, max_task_retries=restarts)
        rendered = requests.map_batches(
            functools.partial(
                _render, model=self.model, lora="enable_lora" in self._engine_kwargs(gpu)
            ),
            batch_size=None,
            batch_format="pyarrow",
            **before,
        )
        after = functools.partial(_after, ends=end_ids(locate(self.model)))
        return processor(rendered).map(after, **behind)

    def _cores(self) -> Cores:
        cluster, node = cpus_of_cluster()
        found = cores(cluster, node, self.replicas[1], self.gpus)
        return Cores(self.settings.cpus, found.reserved) if self.settings.cpus else found

    def load(self, longest: int = 0) -> Generate:
        import os

        import torch

        gpu = torch.cuda.is_available()
        threads = self.settings.cpus or cores(cpus_here(), cpus_here(), 1, self.gpus).threads
        os.environ.update({} if gpu else cpu_env(threads))
        from vllm import LLM, SamplingParams

        path = locate(self.model)
        tokenizer = load_tokenizer(path)
        free = memory().free
        llm = LLM(model=path, **self._engine_kwargs(gpu, longest, free))

        def generate(requests: Sequence[Request]) -> list[Completion]:
            outputs = llm.generate(
                [{"prompt_token_ids": prompt_ids(tokenizer, r.messages, r.turn)} for r in requests],
                [SamplingParams(**_sampling(vars(r))) for r in requests],
                use_tqdm=False,
            )
            return [
                Completion(
                    key=request.key,
                    text=output.outputs[0].text,
                    finish_reason=output.outputs[0].finish_reason or "error",
                    prompt_tokens=len(output.prompt_token_ids),
                    completion_tokens=len(output.outputs[0].token_ids),
                )
                for request, output in zip(requests, outputs, strict=True)
            ]

        return generate

    def _engine_kwargs(self, gpu: bool, longest: int = 0, free: float = 0.0) -> dict[str, Any]:
        """A fresh dict each time, because ``build_processor`` writes into it.

        Args:
            gpu: whether engines have one.
            longest: tokens of the longest request; 0 where nobody knows.
            free: bytes of memory on a machine without a GPU; 0 where nobody knows.
        """
        # Prompts share their beginnings: a system message, the request to reword.
        kwargs: dict[str, Any] = {"disable_log_stats": True, "enable_prefix_caching": True}
        # Sampling is what the recipe says; of the model's own settings only its ends count.
        kwargs["generation_config"] = "vllm"
        path, wanted = locate(self.model), self.settings.max_model_len
        length = longest if wanted == "auto" else wanted
        if length:
            kwargs["max_model_len"] = length
        if not gpu:
            most = length or positions_of(path) or 4096
            # vLLM's own default takes a share of the machine, whatever the model.
            kwargs["kv_cache_memory_bytes"] = cache_bytes(
                cache_bytes_per_token(path), most, free, self.replicas[1]
            )
            kwargs.update(
                # "auto" would round float32 weights to bfloat16.
                dtype=dtype_of(path),
                enforce_eager=True,
                # vLLM 0.32 on a CPU dies when a prompt of a seeded request is scheduled in
                # parts ("CPU Generator does not use offset"), so none is. Every prompt then
                # has to fit into one step.
                enable_chunked_prefill=False,
                max_num_batched_tokens=max(8192, most),
                # vLLM's own default on a CPU differs between its two entry points.
                max_num_seqs=SEQUENCES,
            )
        if self.settings.adapters:
            ranks = [json.loads((Path(a) / "adapter_config.json").read_text())["r"]
                     for a in self.settings.adapters]  # fmt: skip
            kwargs.update(
                enable_lora=True,
                # vLLM 0.32 on a CPU takes the last slot for a row without an adapter ("-1"), so
                # one more than is used must stay empty, or base rows would speak as an adapter.
                max_loras=len(ranks) + (not gpu),
                max_lora_rank=_lora_rank(max(ranks)),
            )
        return {**kwargs, **self.settings.kwargs}


def _count(path: str, request: Request) -> int:
    """Tokens of a request's prompt; 0 where the template refuses it."""
    try:
        return len(prompt_ids(_tokenizer(path), request.messages, request.turn))
    except (TemplateError, TypeError, ValueError):
        return 0


def _lora_rank(rank: int) -> int:
    """The smallest rank vLLM has kernels for that holds ``rank``."""
    return next((r for r in (8, 16, 32, 64, 128, 256, 320, 512) if r >= rank), rank)


def _final_only(stage: type[Any], tell: Tell | None) -> type[Any]:
    """The engine actor of ``ray.data.llm``, told to report a request once, and to ``tell``.

    Left alone, vLLM hands out every request again for each of its tokens, and the actor
    drops all but the last.
    """

    class FinalOnly(stage):  # type: ignore[misc]
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            from vllm.sampling_params import RequestOutputKind

            generate = self.llm.engine.generate

            def final_only(*, sampling_params: Any, **others: Any) -> Any:
                sampling_params.output_kind = RequestOutputKind.FINAL_ONLY
                return generate(sampling_params=sampling_params, **others)

            self.llm.engine.generate = final_only
            if tell is None:
                return
            counts = _Counts(tell)

            def counted(**arguments: Any) -> Any:
                return _telling(final_only(**arguments), counts)

            self.llm.engine.generate = counted

    return FinalOnly


class _Counts:
    """What an engine finished and did not tell of yet."""

    def __init__(self, tell: Tell) -> None:
        self.tell, self.rows, self.tokens = tell, 0, 0
        self.told = time.monotonic()
        tell(0, 0)

    def add(self, tokens: int) -> None:
        """One more request; all of it is told at most once a second."""
        self.rows += 1
        self.tokens += tokens
        if time.monotonic() - self.told >= 1.0:
            self.told = time.monotonic()
            self.tell(self.rows, self.tokens)
            self.rows = self.tokens = 0


async def _telling(outputs: Any, counts: _Counts) -> Any:
    """``outputs`` of one request as they are, counted when they end."""
    async for output in outputs:
        yield output
        if output.finished:
            counts.add(len(output.outputs[0].token_ids))


def _render(batch: pa.Table, model: str, lora: bool) -> pa.Table:
    """Requests to rows of the processor: token ids and sampling parameters only."""
    path = locate(model)
    tokenizer = _tokenizer(path)
    requests = batch.to_pylist()
    ids, errors = _ids(tokenizer, requests)
    columns: dict[str, Any] = {
        "key": [r["key"] for r in requests],
        "tokenized_prompt": pa.array(ids, pa.list_(pa.int32())),
        "sampling_params": [_sampling(r) for r in requests],
        "prompt_error": errors,
    }
    if lora:  # a row must name the base model where others name adapters
        columns["model"] = [r["adapter"] or path for r in requests]
    return pa.table(columns)


def _ids(tokenizer: Any, requests: list[dict[str, Any]]) -> tuple[list[list[int]], list[str]]:
    """Prompts as ids; a chat that the template refuses gets none and an error.

    The engine then refuses the empty prompt, and only this row is lost; an exception here
    would end the whole dataset.
    """
    if all(r["turn"] == "assistant" for r in requests):
        with contextlib.suppress(TemplateError, TypeError, ValueError):
            return prompts_ids(tokenizer, [r["messages"] for r in requests]), [""] * len(requests)
    ids: list[list[int]] = []
    errors: list[str] = []
    for request in requests:
        try:
            ids.append(prompt_ids(tokenizer, request["messages"], request["turn"]))
            errors.append("")
        except (TemplateError, TypeError, ValueError) as problem:
            ids.append([])
            errors.append(f"{type(problem).__name__}: {problem}")
    return ids, errors


def _sampling(request: Mapping[str, Any]) -> dict[str, Any]:
    schema = request["schema"]
    return {
        "temperature": float(request["temperature"]),
        "top_p": float(request["top_p"]),
        "max_tokens": int(request["max_tokens"]),
        "seed": int(request["seed"]),
        # The end-of-turn token is cut off by vLLM; any other control token in an answer is
        # the model's mistake and has to be seen.
        "skip_special_tokens": False,
        # As text: as a dict, Arrow would merge the schemas of all rows into one.
        "structured_outputs": {"json": schema} if schema else None,
    }


def _after(row: dict[str, Any], ends: frozenset[int]) -> dict[str, Any]:
    error = row["prompt_error"] or row.get("__inference_error__") or ""
    ids = row.get("generated_tokens")
    # ray.data.llm does not hand on vLLM's finish_reason; the last id tells it, since vLLM
    # keeps the end-of-turn token among the ids though not in the text.
    ended = ids is not None and len(ids) > 0 and int(ids[-1]) in ends
    return {
        "key": row["key"],
        "text": "" if error else row["generated_text"],
        "finish_reason": "error" if error else "stop" if ended else "length",
        "prompt_tokens": 0 if error else int(row["num_input_tokens"]),
        "completion_tokens": 0 if error else int(row["num_generated_tokens"]),
        "seconds": 0.0 if error else float(row["time_taken_llm"]),
        "error": str(error),
    }


@functools.cache
def _tokenizer(path: str) -> Any:
    return load_tokenizer(path)
