"""vLLM: many engines fed by ``ray.data.llm`` (map), or one in this process (load)."""

import functools
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinja2 import TemplateError

from delia_ray.config import VllmEngine
from delia_ray.engines import Completion, Generate, Request
from delia_ray.models import end_ids, load_tokenizer, locate, prompt_ids
from delia_ray.runtime import WORKER_ENV, has_gpu

if TYPE_CHECKING:
    from ray.data import Dataset

CPU_ENV = {
    "VLLM_CPU_KVCACHE_SPACE": "1",  # GiB; the default takes a share of the machine
    "VLLM_LOGGING_LEVEL": "ERROR",
}


class Vllm:
    """See ``engines.Engine``."""

    def __init__(self, settings: VllmEngine, model: str) -> None:
        self.settings = settings
        self.model = model

    def map(self, requests: "Dataset") -> "Dataset":
        from ray.data.llm import build_processor, vLLMEngineProcessorConfig

        gpu = has_gpu()
        config = vLLMEngineProcessorConfig(
            model_source=locate(self.model),
            engine_kwargs=self._engine_kwargs(gpu),
            concurrency=self.settings.replicas,
            batch_size=self.settings.batch_size,
            should_continue_on_error=True,
            log_engine_metrics=False,
            # Only the engine is an actor. The other stages of the processor would hold one
            # more CPU each and starve the tasks that feed them on a small cluster; the
            # prompt is rendered in ``before`` and vLLM turns ids into text itself.
            chat_template_stage=False,
            tokenize_stage=False,
            detokenize_stage=False,
            # Without this the engine asks for a GPU and waits for one for ever.
            placement_group_config=None if gpu else {"bundles": [{"CPU": 1}]},
            runtime_env={"env_vars": {**WORKER_ENV, **({} if gpu else CPU_ENV)}},
        )
        # One process each: left alone, Ray Data would start ten to a CPU, and each would spend
        # more time on importing transformers than a whole pool of prompts takes to render.
        light = {"num_cpus": 0.1, "concurrency": 1}
        processor = build_processor(
            config,
            preprocess=functools.partial(_before, model=self.model),
            preprocess_map_kwargs=light,
        )
        stage = processor.get_stage_by_name("vLLMEngineStage")
        # The defaults restart a dying engine for ever.
        stage.map_batches_kwargs.update(max_restarts=3, max_task_retries=3)
        after = functools.partial(_after, ends=end_ids(locate(self.model)))
        return processor(requests).map(after, **light)

    def load(self) -> Generate:
        import os

        import torch

        gpu = torch.cuda.is_available()
        os.environ.update({} if gpu else CPU_ENV)
        from vllm import LLM, SamplingParams

        path = locate(self.model)
        tokenizer = load_tokenizer(path)
        llm = LLM(model=path, **self._engine_kwargs(gpu))

        def generate(requests: Sequence[Request]) -> list[Completion]:
            outputs = llm.generate(
                [{"prompt_token_ids": prompt_ids(tokenizer, r.messages)} for r in requests],
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

    def _engine_kwargs(self, gpu: bool) -> dict[str, Any]:
        """A fresh dict each time, because ``build_processor`` writes into it."""
        kwargs: dict[str, Any] = {"disable_log_stats": True}
        if self.settings.max_model_len:
            kwargs["max_model_len"] = self.settings.max_model_len
        if not gpu:
            model = json.loads((Path(locate(self.model)) / "config.json").read_text())
            longest = self.settings.max_model_len or model.get("max_position_embeddings", 4096)
            kwargs.update(
                # "auto" would round float32 weights to bfloat16.
                dtype=model.get("dtype") or model.get("torch_dtype") or "float32",
                enforce_eager=True,
                # vLLM 0.32 on a CPU dies when a prompt of a seeded request is scheduled in
                # parts ("CPU Generator does not use offset"), so none is. Every prompt then
                # has to fit into one step.
                enable_chunked_prefill=False,
                max_num_batched_tokens=max(8192, longest),
            )
        return {**kwargs, **self.settings.kwargs}


def _before(row: dict[str, Any], model: str) -> dict[str, Any]:
    tokenizer = _tokenizer(locate(model))
    ids, error = [], ""
    try:
        ids = prompt_ids(
            tokenizer, [{"role": m["role"], "content": m["content"]} for m in row["messages"]]
        )
    except (TemplateError, TypeError, ValueError) as problem:
        # Templates refuse some chats. The engine then refuses the empty prompt, and only this
        # row is lost; an exception here would end the whole dataset.
        error = f"{type(problem).__name__}: {problem}"
    return {
        "key": row["key"],
        "tokenized_prompt": ids,
        "sampling_params": _sampling(row),
        "prompt_error": error,
    }


def _sampling(request: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "temperature": float(request["temperature"]),
        "top_p": float(request["top_p"]),
        "max_tokens": int(request["max_tokens"]),
        "seed": int(request["seed"]),
        # The end-of-turn token is cut off by vLLM; any other control token in an answer is
        # the model's mistake and has to be seen.
        "skip_special_tokens": False,
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
        "error": str(error),
    }


@functools.cache
def _tokenizer(path: str) -> Any:
    return load_tokenizer(path)
