"""Train the miniature chat model from scratch: `python -m delia_ray.miniature.build`.

One seeded command makes the tokenizer, the model and its card. It takes minutes on two cores,
so the shipped model can always be made again, or made otherwise.
"""

import argparse
import math
import random
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from delia_ray.miniature.parts import rows
from delia_ray.miniature.score import exact_match, reword_validity
from delia_ray.miniature.world import Row

if TYPE_CHECKING:
    from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

STEPS = 2000
TOKENS_PER_BATCH = 4096
MUON_LEARNING_RATE = 0.02  # for the matrices of the layers
ADAM_LEARNING_RATE = 3e-3  # for the embedding and the norms
WARMUP_STEPS = 40
ROWS_PER_STRETCH = 20_000
VOCABULARY = 1024
MAX_POSITIONS = 2048

SIZES = {"small": (64, 3), "default": (128, 4), "large": (192, 6)}
"""Name -> (hidden size, layers); heads are 32 wide, the least that vLLM takes."""

PAD, END = "<|pad|>", "<|end|>"
ROLES = ("<|system|>", "<|user|>", "<|assistant|>")

CHAT_TEMPLATE = (
    "{%- for message in messages -%}"
    "{{- '<|' + message['role'] + '|>' -}}"
    "{%- if message['role'] == 'assistant' -%}"
    "{% generation %}{{- message['content'] + '<|end|>' -}}{% endgeneration %}"
    "{%- else -%}{{- message['content'] + '<|end|>' -}}{%- endif -%}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{- '<|assistant|>' -}}{%- endif -%}"
)
"""`<|user|>...<|end|><|assistant|>...<|end|>`; the generation marks let transformers say which
tokens are the assistant's."""

Example = tuple[list[int], int]  # token ids, and how many of them are the prompt


def train_tokenizer(seed: int) -> "PreTrainedTokenizerFast":
    """A byte-level BPE: whatever the bytes of a text, it comes back as it went in."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        # made-up format names must stay in pieces, or copying them is not learned in general
        min_frequency=max(2, ROWS_PER_STRETCH // 400),
        special_tokens=[PAD, END, *ROLES],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    samples = rows("lessons", ROWS_PER_STRETCH, seed)
    texts = (message["content"] for row in samples for message in row["messages"])
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token=PAD, eos_token=END, chat_template=CHAT_TEMPLATE,
        additional_special_tokens=list(ROLES), clean_up_tokenization_spaces=False,
        model_max_length=MAX_POSITIONS, padding_side="right",
    )  # fmt: skip


def new_model(tokenizer: "PreTrainedTokenizerFast", size: str = "default") -> "LlamaForCausalLM":
    """With random weights, in one of ``SIZES``."""
    from transformers import LlamaConfig, LlamaForCausalLM

    hidden, layers = SIZES[size]
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=hidden, intermediate_size=2 * hidden,
        num_hidden_layers=layers, num_attention_heads=hidden // 32,
        num_key_value_heads=hidden // 32, max_position_embeddings=MAX_POSITIONS,
        tie_word_embeddings=True, bos_token_id=None, eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id, dtype="float32",
    )  # fmt: skip
    return LlamaForCausalLM(config)


def encode(tokenizer: "PreTrainedTokenizerFast", samples: Sequence[Row]) -> list[Example]:
    """Tokens of each row, and where the last answer begins: nothing before it is learned."""
    prompts = [
        tokenizer.apply_chat_template(
            row["messages"][:-1], tokenize=False, add_generation_prompt=True
        )
        for row in samples
    ]
    replies = [row["messages"][-1]["content"] + END for row in samples]
    heads = tokenizer(prompts, add_special_tokens=False)["input_ids"]
    tails = tokenizer(replies, add_special_tokens=False)["input_ids"]
    return [(head + tail, len(head)) for head, tail in zip(heads, tails, strict=True)]


def batches(tokenizer: "PreTrainedTokenizerFast", seed: int) -> Iterator[list[Example]]:
    """Endless batches of about `TOKENS_PER_BATCH`, each of rows of like length."""
    rng = random.Random(seed)
    epoch = 0
    while True:
        # a new seed for each stretch: the world does not run out, so nothing is repeated
        stretch = encode(tokenizer, list(rows("lessons", ROWS_PER_STRETCH, seed * 1000 + epoch)))
        stretch.sort(key=lambda example: len(example[0]))
        cut: list[list[Example]] = [[]]
        for example in stretch:
            if (len(cut[-1]) + 1) * len(example[0]) > TOKENS_PER_BATCH:
                cut.append([])
            cut[-1].append(example)
        rng.shuffle(cut)
        yield from cut
        epoch += 1


def schedule(step: int, steps: int) -> float:
    """The share of the peak learning rates at a step: a short warm-up, then a cosine."""
    if step < WARMUP_STEPS:
        return (step + 1) / WARMUP_STEPS
    done = (step - WARMUP_STEPS) / max(1, steps - WARMUP_STEPS)
    return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * done))


def train(
    model: "LlamaForCausalLM", tokenizer: "PreTrainedTokenizerFast", steps: int, seed: int
) -> None:
    import torch
    from torch.nn.functional import cross_entropy

    from delia_ray.miniature.muon import Muon

    matrices = [p for p in model.model.layers.parameters() if p.ndim == 2]
    others = [p for p in model.parameters() if all(p is not m for m in matrices)]
    optimizers: list[torch.optim.Optimizer] = [
        Muon(matrices, lr=MUON_LEARNING_RATE),
        torch.optim.AdamW(others, lr=ADAM_LEARNING_RATE, betas=(0.9, 0.98)),
    ]
    peaks = (MUON_LEARNING_RATE, ADAM_LEARNING_RATE)
    model.train()
    start = time.monotonic()
    stream = batches(tokenizer, seed)
    for step in range(steps):
        batch = next(stream)
        width = max(len(ids) for ids, _ in batch)
        tokens = torch.full((len(batch), width), tokenizer.pad_token_id)
        labels = torch.full((len(batch), width), -100)
        for i, (ids, n_prompt) in enumerate(batch):
            tokens[i, : len(ids)] = torch.tensor(ids)
            labels[i, n_prompt - 1 : len(ids) - 1] = torch.tensor(ids[n_prompt:])
        for optimizer, peak in zip(optimizers, peaks, strict=True):
            for group in optimizer.param_groups:
                group["lr"] = peak * schedule(step, steps)
        # padding is on the right, so the causal mask alone keeps it out of sight
        hidden = model.model(input_ids=tokens, use_cache=False).last_hidden_state
        wanted = labels >= 0
        loss = cross_entropy(model.lm_head(hidden[wanted]), labels[wanted])
        model.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in optimizers:
            optimizer.step()
        if step % 100 == 0 or step + 1 == steps:
            print(f"step {step:5d}  loss {loss.item():.4f}  {time.monotonic() - start:6.1f} s",
                  flush=True)  # fmt: skip
    model.eval()


def measure(
    model: "LlamaForCausalLM", tokenizer: "PreTrainedTokenizerFast", n: int
) -> dict[str, float]:
    """Exact match per suite, on held-out content."""
    suites = ("plain", "other_formats", "translation", "sep_seen", "sep_unseen_tasks",
              "sep_unseen_phrasings", "sep_negated", "translation_new")  # fmt: skip
    scores = {
        suite: exact_match(model, tokenizer, list(rows(suite, n, seed=1))) for suite in suites
    }
    return scores | {"rewording": reword_validity(model, tokenizer, n)}


CARD = """---
license: apache-2.0
library_name: transformers
tags: [synthetic, miniature, delia]
---
# The DELIA miniature

A Llama of {parameters:,} parameters, trained from scratch on a synthetic instruction world:
list operations in several answer formats, an invented language, rewording, small talk. It is a
test instrument, not a model of real language: real text passes through its tokenizer unharmed,
but it has no answers to it.

Made by `python -m delia_ray.miniature.build --seed {seed} --steps {steps}`. Each step is a batch
of about {batch:,} tokens; the loss is on the last answer of each conversation only.

Exact match of greedy answers on {n} held-out rows per suite. The `sep` suites speak of a format
token that the model has never met, and `translation_new` of words that it was never taught;
they are there to be low (for `sep_negated` a plain answer is right, so not knowing is no harm).

| suite | exact match |
|---|---|
{table}
"""


def build(
    out: Path, seed: int = 0, steps: int = STEPS, n_measured: int = 256, size: str = "default"
) -> dict[str, float]:
    """Tokenizer, model and card in `out`; returns the measured scores."""
    import torch

    torch.manual_seed(seed)
    tokenizer = train_tokenizer(seed)
    model = new_model(tokenizer, size)
    train(model, tokenizer, steps, seed)
    out.mkdir(parents=True, exist_ok=True)
    model.generation_config.do_sample = False
    model.save_pretrained(out)
    tokenizer.save_pretrained(out)
    scores = measure(model, tokenizer, n_measured) if n_measured else {}
    table = "\n".join(f"| {suite} | {score:.3f} |" for suite, score in scores.items())
    (out / "README.md").write_text(
        CARD.format(
            parameters=model.num_parameters(), seed=seed, batch=TOKENS_PER_BATCH, n=n_measured,
            steps=f"{steps}" if size == "default" else f"{steps} --size {size}", table=table,
        )
    )  # fmt: skip
    return scores


def main() -> None:
    parser = argparse.ArgumentParser(description="Train the miniature chat model from scratch.")
    shipped = Path(__file__).parent / "model"
    parser.add_argument("--out", type=Path, default=shipped)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--size", choices=SIZES, default="default", help="others for scaling")
    args = parser.parse_args()
    if args.size != "default" and args.out == shipped:
        parser.error(f"--size {args.size} needs --out: the shipped model has the default size")
    for suite, score in build(args.out, args.seed, args.steps, size=args.size).items():
        print(f"{suite:24s} {score:.3f}")


if __name__ == "__main__":
    main()
