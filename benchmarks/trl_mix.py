"""The other side of ``mix_and_pack.py``: ``datasets`` and TRL, in an environment of its own.

Uses nothing of delia_ray. Arguments: the work folder and the length of a pack.
"""

import json
import sys
import time
from pathlib import Path
from typing import Any

import datasets
import torch
import transformers
import trl


def main() -> None:
    work, length = Path(sys.argv[1]), int(sys.argv[2])
    tokenizer = transformers.AutoTokenizer.from_pretrained(work / "model")
    model = transformers.AutoModelForCausalLM.from_pretrained(work / "model")
    began = time.monotonic()
    parts = [
        _load(work / "ingest" / "downstream.parquet"),
        _load(work / "synthesize" / "answers.parquet"),
    ]
    mixed = datasets.concatenate_datasets(parts).shuffle(seed=0)
    trainer = trl.SFTTrainer(
        model=model,
        processing_class=tokenizer,
        train_dataset=mixed,
        args=trl.SFTConfig(
            output_dir=str(work / "trl"), packing=True, max_length=length, dataset_num_proc=2,
            completion_only_loss=True, per_device_train_batch_size=4, report_to=[], bf16=False,
            use_cpu=True, dataloader_pin_memory=False,
        ),
    )  # fmt: skip
    tokens = slots = batches = 0
    for batch in trainer.get_train_dataloader():
        batches += 1
        slots += batch["input_ids"].numel()
        mask: Any = batch.get("attention_mask")
        if mask is None:
            mask = batch["input_ids"] != tokenizer.pad_token_id
        tokens += int(torch.as_tensor(mask).sum())
    print(
        json.dumps(
            {
                "seconds": round(time.monotonic() - began, 2),
                "tokens": tokens,
                "batches": batches,
                "packing_efficiency": round(tokens / slots, 4),
                "versions": f"trl {trl.__version__}, datasets {datasets.__version__}, "
                f"transformers {transformers.__version__}",
            }
        )
    )


def _load(path: Path) -> datasets.Dataset:
    loaded = datasets.load_dataset("parquet", data_files=str(path), split="train")
    return loaded.map(_example, remove_columns=loaded.column_names, num_proc=2)


def _example(row: dict[str, Any]) -> dict[str, Any]:
    return {
        "prompt": row["prompt"],
        "completion": [{"role": "assistant", "content": row["answer"]}],
    }


if __name__ == "__main__":
    main()
