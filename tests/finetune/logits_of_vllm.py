"""Logits of several models by vLLM, each loaded by its own loader.

python -m tests.finetune.logits_of_vllm OUT.npz IDS.json FOLDER ...
"""

import gc
import json
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np


def main(out: str, ids: str, *folders: str) -> None:
    os.environ.update(
        VLLM_ENABLE_V1_MULTIPROCESSING="0", VLLM_CPU_KVCACHE_SPACE="1", VLLM_LOGGING_LEVEL="ERROR"
    )
    from vllm import SamplingParams

    prompt = json.loads(Path(ids).read_text())
    asked = SamplingParams(max_tokens=1, temperature=0.0, prompt_logprobs=-1)
    found, engine, is_tied = {}, None, True
    for folder in folders:
        # Of untied models one engine serves all, which saves two seconds for each. A tied
        # output matrix is kept twice by vLLM 0.32, and the copy is not loaded again.
        was_tied, is_tied = is_tied, _config(folder)["tie_word_embeddings"]
        if engine is None or is_tied or was_tied:
            engine = _engine(folder, engine)
        else:
            engine.collective_rpc("reload_weights", kwargs={"weights_path": folder})
        (answer,) = engine.generate([{"prompt_token_ids": prompt}], asked, use_tqdm=False)
        # Line i holds the logits of what follows the tokens before it; the first has none.
        lines = answer.prompt_logprobs[1:]
        found[folder] = np.array([[line[i].logprob for i in sorted(line)] for line in lines])
    np.savez(out, refusal=_refusal(folders[0].replace("merged", "adapter")), **found)


def _refusal(adapter: str) -> str:
    """What vLLM's loader of adapters says of one with trained token rows."""
    from vllm.lora.lora_model import LoRAModel
    from vllm.lora.peft_helper import PEFTHelper

    helper = PEFTHelper.from_local_dir(adapter, 128)
    modules = {"q_proj", "k_proj", "v_proj", "o_proj", "embed_tokens", "lm_head"}
    try:
        LoRAModel.from_local_checkpoint(adapter, modules, helper, device="cpu")
    except ValueError as problem:
        return str(problem)
    return ""


def _config(folder: str) -> Any:
    return json.loads((Path(folder) / "config.json").read_text())


def _engine(folder: str, before: Any) -> Any:
    from vllm import LLM

    if before is not None:
        before.llm_engine.engine_core.shutdown()
        gc.collect()
    return LLM(
        model=folder, dtype="float32", enforce_eager=True, max_model_len=128,
        enable_prefix_caching=False, max_logprobs=-1, logprobs_mode="raw_logits",
    )  # fmt: skip


if __name__ == "__main__":
    main(*sys.argv[1:])
