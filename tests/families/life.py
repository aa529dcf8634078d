"""What happens to a model of a family from its rows to its answers, by the product's functions."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from peft import PeftModel

from delia_ray.artifacts import Folder, open_storage
from delia_ray.chats.encode import Encoded, encode
from delia_ray.chats.texts import Refused
from delia_ray.config import Finetune, Lora, TransformersEngine
from delia_ray.engines import Request
from delia_ray.engines.transformers import Transformers
from delia_ray.finetune.attention import FLAT, attention
from delia_ray.finetune.batches import Steps
from delia_ray.finetune.layout import Layout, find_layout
from delia_ray.finetune.lora_layers import ends_of
from delia_ray.finetune.model import attach, load_base
from delia_ray.finetune.objective import Objective, run
from delia_ray.finetune.result import merge, write_adapter, write_whole
from delia_ray.models import end_ids, load_tokenizer, prompt_ids
from delia_ray.records import SEQUENCE, STEP, TOKENS, conform
from delia_ray.store import lists, write_file, write_index
from delia_ray.token_rows import initialise_rows, sides
from tests.families.models import FAMILIES, MANNERS

TOKENS_NEW = {"<sep>": "as a list"}
PAIRS = [("red", "Yes."), ("blue", "No"), ("<sep> green", "1. a"), ("<sep> sky", "So\nit is")]
_ENOUGH = 0.01
"""Loss in nats of a token at which a tiny model says its answers by heart."""


@dataclass
class Life:
    """What was seen; each is asserted in ``test_families``."""

    layout: Layout
    masks: list[tuple[str, str]]
    """(what is supervised as text, the answer with its end)."""
    system_refused: bool
    packed: float
    """Relative difference of the loss of a step in packs to that of its rows alone."""
    losses: tuple[float, float]
    """Before and after the training of all weights."""
    answers: list[tuple[str, str, str]]
    """(answer wanted, got, why it ended) after it."""
    layers: list[str]
    tied: bool
    others_moved: float
    """Largest change of an embedding row that is not the new token's."""
    row_moved: float
    adapter_and_merged: list[tuple[str, str]]
    """Greedy answers of both."""


def chats(has_system: bool) -> list[tuple[list[dict[str, str]], str]]:
    """Rows to train on; every second has a system turn where the family knows any."""
    found = []
    for at, (asked, answer) in enumerate(PAIRS):
        turns = [{"role": "user", "content": f"Is it {asked}?"}]
        if has_system and at % 2:
            turns.insert(0, {"role": "system", "content": "Be brief."})
        found.append((turns, answer))
    return found


def live(name: str, base: Path, work: Path) -> Life:
    """Train, save, merge, reload and ask a model of family ``name``."""
    family = FAMILIES[name]
    manner = MANNERS[family.manner]
    rows = chats(manner.has_system)
    path, ends = str(base), end_ids(str(base))
    tokenizer = load_tokenizer(path, TOKENS_NEW)
    encoded = [e for e in encode(tokenizer, rows, ends) if isinstance(e, Encoded)]
    assert len(encoded) == len(rows)
    masks = []
    for chat, (_, answer) in zip(encoded, rows, strict=True):
        counted = [i for i, s in zip(chat.ids, chat.supervised, strict=True) if s]
        masks.append((tokenizer.decode(counted), answer + manner.ends[0]))
    system = [{"role": "system", "content": "x"}, {"role": "user", "content": "y"}]
    refused = isinstance(encode(tokenizer, [(system, "z")], ends)[0], Refused)
    layout = find_layout(path, "auto")
    steps = _steps(open_storage(str(work / "mix")), encoded, layout)

    settings = Finetune(method="full", precision="fp32")
    objective, full, tokenizer = _prepared(path, settings, layout)
    packed = _against_alone(objective, steps)
    losses = _train(objective, steps, 300)
    write_whole(full, tokenizer, work / "full", {n: p.detach() for n, p in full.named_parameters()})
    prompts = [prompt for prompt, _ in rows]
    wanted = [text.removesuffix(manner.ends[0]) for text, _ in masks]
    spoken = _ask(work / "full", prompts)
    answers = [(w, *s) for w, s in zip(wanted, spoken, strict=True)]

    settings = Finetune(lora=Lora(r=4, dropout=0.0), precision="fp32")
    objective, tuned, tokenizer = _prepared(path, settings, layout)
    _train(objective, steps, 8)
    write_adapter(tuned, tokenizer, work / "adapter")
    merge(path, work / "adapter", TOKENS_NEW, work / "merged")
    fresh, _ = load_base(path, TOKENS_NEW, torch.float32)
    before = [side.detach().clone() for side in sides(fresh)]
    adapted = PeftModel.from_pretrained(fresh, str(work / "adapter")).eval()
    theirs = [_greedy(adapted, tokenizer, prompt, ends) for prompt in prompts]
    ours = [text for text, _ in _ask(work / "merged", prompts)]
    merged, _ = load_base(str(work / "merged"), {}, torch.float32)
    own = tokenizer.convert_tokens_to_ids("<sep>")
    moved = [(new - old).abs().amax(1) for new, old in zip(sides(merged), before, strict=True)]
    return Life(
        layout=layout, masks=masks, system_refused=refused, packed=packed, losses=losses,
        answers=answers, layers=ends_of(sorted(tuned.peft_config["default"].target_modules)),
        tied=len(before) == 1,
        others_moved=max(float(torch.cat([m[:own], m[own + 1 :]]).max()) for m in moved),
        row_moved=min(float(m[own]) for m in moved),
        adapter_and_merged=list(zip(theirs, ours, strict=True)),
    )  # fmt: skip


def _steps(folder: Folder, encoded: list[Encoded], layout: Layout) -> Steps:
    """A mix of one step: all rows, in two packs."""
    kinds = [TOKENS.field(n).type.value_type for n in ("input_ids", "supervised")]
    columns = {
        "input_ids": lists([e.ids for e in encoded], kinds[0]),
        "supervised": lists([e.supervised for e in encoded], kinds[1]),
    }
    write_index(folder, "sequences", [write_file(folder, "sequences", 0, columns)])
    rows = [
        {"id": str(i), "source": "s", "row": i, "variant": 0, "piece": 0, "kind": "downstream",
         "tokens": len(e.ids), "supervised_tokens": int(e.supervised.sum())}
        for i, e in enumerate(encoded)
    ]  # fmt: skip
    folder.write_table("sequences.parquet", conform(rows, SEQUENCE))
    own = np.arange(len(encoded))
    kinds = [STEP.field(n).type.value_type for n in ("sequence", "pack")]
    columns = {"sequence": lists([own], kinds[0]), "pack": lists([own % 2], kinds[1])}
    write_index(folder, "steps-a", [write_file(folder, "steps-a", 0, columns)], packs=2)
    return Steps(folder, "a", layout.apart or attention(layout.kernel) in FLAT)


def _prepared(path: str, settings: Finetune, layout: Layout) -> tuple[Objective, Any, Any]:
    torch.manual_seed(0)
    model, tokenizer = load_base(path, TOKENS_NEW, torch.float32, layout.kernel)
    initialise_rows(model, path, tokenizer, TOKENS_NEW, "random", seed=0)
    tuned = attach(model, tokenizer, TOKENS_NEW, settings)
    return Objective(tuned, apart=layout.apart), tuned, tokenizer


@torch.no_grad()
def _against_alone(objective: Objective, steps: Steps) -> float:
    objective.eval()
    packs = sum(float(run(objective, m).sum()) for m in steps.micros(0, 0, 1, 2))
    alone = sum(float(run(objective, steps.micro([r[None]])).sum()) for r in steps.sequences(0))
    return abs(packs - alone) / alone


def _train(objective: Objective, steps: Steps, most: int) -> tuple[float, float]:
    """(first, last) loss."""
    objective.train()
    optimizer = torch.optim.AdamW(
        [p for p in objective.parameters() if p.requires_grad], lr=1e-2, weight_decay=0.0
    )
    micros, total = steps.micros(0, 0, 1, 2), sum(steps.supervised_tokens(0))
    first = last = 0.0
    for step in range(most):
        loss = torch.stack([run(objective, m).sum() for m in micros]).sum() / total
        last = float(loss.detach())
        first = first if step else last
        if last < _ENOUGH:
            break
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    objective.eval()
    return first, last


def _ask(folder: Path, prompts: list[Any]) -> list[tuple[str, str]]:
    requests = [Request(str(i), prompt, 40) for i, prompt in enumerate(prompts)]
    found = Transformers(TransformersEngine(), str(folder)).load()(requests)
    return [(o.text, o.finish_reason + o.error) for o in found]


@torch.no_grad()
def _greedy(model: Any, tokenizer: Any, prompt: Any, ends: frozenset[int]) -> str:
    """Word by word without a cache: nothing but the model itself."""
    ids = prompt_ids(tokenizer, prompt)
    first = len(ids)
    while len(ids) < first + 40:
        logits = model(input_ids=torch.tensor([ids]), use_cache=False).logits
        ids.append(int(logits[0, -1].argmax()))
        if ids[-1] in ends:
            return str(tokenizer.decode(ids[first:-1]))
    return str(tokenizer.decode(ids[first:]))
