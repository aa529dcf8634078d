"""The other side of the fine-tuning benchmark: TRL's ``SFTTrainer``, in an environment of its own.

Uses nothing of delia_ray. Trains LoRA adapters on rows that are tokens already, in the file's
order, and prints one line of JSON: tokens per second over the steps after the warm-up.

``padded``: what the paper's public code does, every micro-batch padded to its longest row.

``packed``: ``packing=True`` with TRL's default strategy, best-fit decreasing over every thousand
rows, without cutting a row. The collator joins the packs of a micro-batch to one sequence with
positions that begin anew at every row: flash attention takes the boundaries from them, ``sdpa``
gets a dense mask of (batch size x max length) squared. Rows never see each other either way,
but with ``sdpa`` a batch size of 1 and more accumulation is faster. Packs come longest rows
first; ``--order random`` trains packs as they come to a user who leaves the sampler alone.

    python -m venv trl && trl/bin/pip install torch trl peft datasets
    trl/bin/python benchmarks/trl_finetune.py --data rows.parquet --model FOLDER --mode padded
"""

import argparse
import importlib.util
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import datasets
import peft
import torch
import transformers
import trl


class MeasuredTrainer(trl.SFTTrainer):
    """Counts what every optimizer step trains, and times the preparation of the rows."""

    prepare_seconds = 0.0

    def __init__(self, **arguments: Any) -> None:
        self.micros: list[tuple[int, torch.Tensor]] = []  # step, its counts and loss
        super().__init__(**arguments)

    def _prepare_dataset(self, *arguments: Any, **options: Any) -> Any:
        """Labels, truncation and packs: all that TRL does with rows before it trains."""
        began = time.monotonic()
        prepared = super()._prepare_dataset(*arguments, **options)
        self.prepare_seconds += time.monotonic() - began
        return prepared

    def training_step(self, model: Any, inputs: dict[str, Any], *rest: Any) -> torch.Tensor:
        """One micro-batch. Counts stay on the device: reading them here would wait for it."""
        ids, mask = inputs["input_ids"], inputs.get("attention_mask")
        slots = torch.tensor(ids.numel(), device=ids.device)
        counts = [
            (inputs["labels"][:, 1:] != -100).sum(),
            slots if mask is None else mask.sum(),
            slots,
            (inputs["position_ids"] == 0).sum() if mask is None else mask[:, 0].sum(),
        ]
        loss = super().training_step(model, inputs, *rest)
        self.micros.append((self.state.global_step, torch.stack([*counts, loss.double()])))
        return loss

    def per_step(self) -> torch.Tensor:
        """Steps x (supervised tokens, tokens, slots, rows, loss)."""
        found = torch.zeros(self.state.global_step, 5, dtype=torch.float64)
        for step, counts in self.micros:
            found[step] += counts.cpu()
        return found


class Clock(transformers.TrainerCallback):
    """The start, then the end of every optimizer step, once the device has done its work."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def on_train_begin(self, *_: Any, **__: Any) -> None:
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        self.times.append(time.monotonic())

    on_step_end = on_train_begin


def main() -> None:
    parser = _parser()
    arguments = parser.parse_args()
    if arguments.steps <= arguments.warmup_steps:
        parser.error("nothing to measure: --steps counts the steps of warm-up too")
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    transformers.utils.logging.disable_progress_bar()
    datasets.disable_progress_bars()
    with tempfile.TemporaryDirectory(prefix="trl-finetune-") as work:
        clock = Clock()
        trainer = MeasuredTrainer(
            model=_model(arguments),
            processing_class=transformers.AutoTokenizer.from_pretrained(arguments.model),
            # A cache of its own: a second run prepares its rows anew.
            train_dataset=datasets.Dataset.from_parquet(arguments.data, cache_dir=work),
            args=_config(arguments, work),
            peft_config=_lora(arguments),
            callbacks=[clock],
        )
        trainer.remove_callback(transformers.PrinterCallback)  # it would print a line of its own
        trainer.train()
    print(json.dumps(_summary(arguments, trainer, clock.times)))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--data", required=True, help="parquet: input_ids, completion_mask")
    parser.add_argument("--model", type=Path, required=True, help="folder: weights and tokenizer")
    parser.add_argument("--random-config", help="random weights: a LlamaConfig, JSON or its file")
    parser.add_argument("--mode", choices=["padded", "packed"], required=True)
    parser.add_argument("--steps", type=int, default=20, help="in all, those of warm-up too")
    parser.add_argument("--warmup-steps", type=int, default=5, help="not counted; rate goes up")
    parser.add_argument("--batch-size", type=int, default=16, help="rows, or packs, at a time")
    parser.add_argument("--accumulate", type=int, default=4)
    parser.add_argument("--max-length", type=int, default=2048, help="of a row, or of a pack")
    parser.add_argument("--precision", choices=["fp32", "bf16"], default="fp32")
    parser.add_argument("--lora-r", type=int, default=16)
    parser.add_argument("--lora-alpha", type=int, default=16)
    parser.add_argument("--lr", type=float, default=2e-4)
    parser.add_argument("--order", choices=["sequential", "random"], default="sequential")
    parser.add_argument("--attention", help="default: flash_attention_2 where it can, else sdpa")
    parser.add_argument("--threads", type=int, default=0)
    return parser


def _model(arguments: argparse.Namespace) -> Any:
    """The frozen base, its weights in the precision that trains."""
    flash = torch.cuda.is_available() and importlib.util.find_spec("flash_attn") is not None
    options = {
        "attn_implementation": arguments.attention or ("flash_attention_2" if flash else "sdpa"),
        "dtype": torch.bfloat16 if arguments.precision == "bf16" else torch.float32,
    }
    given = arguments.random_config
    if not given:
        return transformers.AutoModelForCausalLM.from_pretrained(arguments.model, **options)
    values = json.loads(given if given.lstrip().startswith("{") else Path(given).read_text())
    transformers.set_seed(0)
    with torch.device("cuda" if torch.cuda.is_available() else "cpu"):
        return transformers.AutoModelForCausalLM.from_config(
            transformers.LlamaConfig(**values), **options
        )


def _lora(arguments: argparse.Namespace) -> peft.LoraConfig:
    return peft.LoraConfig(
        r=arguments.lora_r, lora_alpha=arguments.lora_alpha, lora_dropout=0.05,
        target_modules=["q_proj", "k_proj", "v_proj", "o_proj"], task_type="CAUSAL_LM",
    )  # fmt: skip


def _config(arguments: argparse.Namespace, work: str) -> trl.SFTConfig:
    """Where nothing is said, what TRL does by default: fused AdamW, gradients clipped at 1."""
    return trl.SFTConfig(
        output_dir=work,
        packing=arguments.mode == "packed",
        max_length=arguments.max_length,
        completion_only_loss=True,  # labels from the column completion_mask
        shuffle_dataset=False,
        train_sampling_strategy=arguments.order,
        per_device_train_batch_size=arguments.batch_size,
        gradient_accumulation_steps=arguments.accumulate,
        max_steps=arguments.steps,
        learning_rate=arguments.lr,
        lr_scheduler_type="constant_with_warmup",
        warmup_steps=arguments.warmup_steps,
        bf16=arguments.precision == "bf16",
        gradient_checkpointing=False,
        use_cpu=not torch.cuda.is_available(),
        dataloader_pin_memory=torch.cuda.is_available(),
        logging_strategy="no",
        save_strategy="no",
        eval_strategy="no",
        report_to="none",
        disable_tqdm=True,
    )


def _summary(
    arguments: argparse.Namespace, trainer: MeasuredTrainer, times: list[float]
) -> dict[str, Any]:
    first, steps = arguments.warmup_steps, trainer.per_step()
    seconds = times[-1] - times[first]
    supervised, tokens, slots, rows = (int(n) for n in steps[first:, :4].sum(0))
    summary = {
        "side": f"trl_{arguments.mode}",
        "steps": len(steps) - first,
        "seconds": round(seconds, 3),
        "supervised_tokens": supervised,
        "tokens": tokens,
        "slots": slots,
        "rows": rows,
        "supervised_tokens_per_second": round(supervised / seconds, 1),
        "tokens_per_second": round(tokens / seconds, 1),
        "padding": round(1 - tokens / slots, 4),
        "prepare_seconds": round(trainer.prepare_seconds, 2),
        "loss_first": round(float(steps[0, 4]), 4),
        "loss_last": round(float(steps[-1, 4]), 4),
        "attention": trainer.model.config._attn_implementation,
        "versions": f"trl {trl.__version__}, transformers {transformers.__version__}, "
        f"torch {torch.__version__}",
    }
    if torch.cuda.is_available():
        summary["peak_gib"] = round(torch.cuda.max_memory_allocated() / 2**30, 2)
    return summary


if __name__ == "__main__":
    main()
