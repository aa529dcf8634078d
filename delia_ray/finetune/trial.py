"""One training step of a small copy of a model, from its loading to the reloading of what it
leaves, with the functions of a real training: what is impossible shows before anything is done.
"""

import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch

from delia_ray.causal_models import config_of, load_causal
from delia_ray.config import Finetune
from delia_ray.errors import UserError
from delia_ray.finetune.attention import FLAT
from delia_ray.finetune.batches import IGNORED, Micro
from delia_ray.finetune.layout import STAND_INS, Layout
from delia_ray.finetune.model import attach, load_base
from delia_ray.finetune.objective import Objective, run
from delia_ray.finetune.result import merge, write_adapter, write_whole
from delia_ray.finetune.small import build, few_layers, is_small, narrow, one_thread
from delia_ray.generation_settings import FILE
from delia_ray.token_rows import initialise_rows, token_ids

_WEIGHTS = (".safetensors", ".bin", ".pth", ".gguf", ".safetensors.index.json", ".md")
_LENGTHS = (11, 9, 8)
"""Tokens of the documents that are trained on."""
_RATE = 0.05
_SHOWN = 240
"""Characters of a library's error that are shown."""
_CLOSE = 1e-3
"""Most that logits may change by when the model is saved, merged and loaded again."""


def sizes(path: str) -> list[Any]:
    """Configurations of small copies of the model in folder ``path``, the smallest first; only
    the last is known to be possible."""
    few = few_layers(config_of(path))
    return [few] if is_small(few) else list(narrow(few))


@contextmanager
def small_folder(path: str, config: Any) -> Iterator[Path]:
    """A model folder like ``path`` for as long as it is needed: of ``config``, with random
    weights, and all other files as they are."""
    with tempfile.TemporaryDirectory(prefix="delia-trial-") as scratch:
        folder = Path(scratch) / "model"
        folder.mkdir()
        with _phase("making a small copy"):
            build(config, None).save_pretrained(folder)
        # A fresh model's settings can always be saved; the folder's own are what is tried.
        (folder / FILE).unlink(missing_ok=True)
        for file in Path(path).iterdir():
            if file.is_file() and file.name != "config.json" and not file.name.endswith(_WEIGHTS):
                shutil.copyfile(file, folder / file.name)
        yield folder


def try_step(
    path: str, settings: Finetune, special_tokens: Mapping[str, str], layout: Layout
) -> list[str]:
    """Train a small copy of the model in folder ``path`` for one step as ``settings`` say, save
    it, and load it again; returns the names of the layers that got an adapter.

    Raises:
        UserError: it cannot be done; the message names the family, what failed, and a setting
            with which it was done, where one was found.
    """
    settings = settings.model_copy(update={"quantize": "none", "adapter": None})
    *smaller, last = sizes(path)
    with one_thread():
        for config in smaller:
            # What fails here may be the widths, which do not go together in every family.
            with suppress(_Failed), small_folder(path, config) as folder:
                return _whole_life(folder, settings, special_tokens, layout)
        return _last_try(path, last, settings, special_tokens, layout)


def _last_try(
    path: str, config: Any, settings: Finetune, special_tokens: Mapping[str, str], layout: Layout
) -> list[str]:
    advice = "choose a model of another family"
    try:
        with small_folder(path, config) as folder:
            try:
                return _whole_life(folder, settings, special_tokens, layout)
            except _Failed:
                advice = _other_way(folder, settings, special_tokens, layout) or advice
                raise
    except _Failed as failed:
        raise UserError(
            f"model={path}: of the family {config.model_type}, {failed.phase} fails "
            f"({failed.reason}); {advice}"
        ) from failed


class _Failed(Exception):
    def __init__(self, phase: str, problem: Exception | str) -> None:
        said = problem if isinstance(problem, str) else f"{type(problem).__name__}: {problem}"
        self.phase, self.reason = phase, said.strip().splitlines()[0][:_SHOWN]
        super().__init__(phase)


def _other_way(
    folder: Path, settings: Finetune, special_tokens: Mapping[str, str], layout: Layout
) -> str:
    """The first change of the settings under which the step works, as advice; empty for none."""
    changes: list[dict[str, Any]] = []
    if settings.gradient_checkpointing:
        changes.append({"gradient_checkpointing": False})
    changes += [{"method": m} for m in ("lora", "full") if m != settings.method]
    for change in changes:
        try:
            _whole_life(folder, settings.model_copy(update=change), special_tokens, layout)
        except (_Failed, UserError):
            continue
        (name, value), *_ = change.items()
        return f"set finetune.{name}={str(value).lower()}"
    if special_tokens:
        try:
            _whole_life(folder, settings, {}, layout)
        except (_Failed, UserError):
            pass
        else:
            return "it works without new tokens (downstream.special_tokens={})"
    return ""


@contextmanager
def _phase(name: str) -> Iterator[None]:
    try:
        yield
    except (UserError, _Failed):
        raise
    except Exception as problem:  # whatever the family's own code raises
        raise _Failed(name, problem) from problem


def _whole_life(
    folder: Path, settings: Finetune, special_tokens: Mapping[str, str], layout: Layout
) -> list[str]:
    kernel = STAND_INS.get(layout.kernel, layout.kernel)
    base = str(folder)
    with _phase("loading"):
        model, tokenizer = load_base(base, special_tokens, torch.float32, kernel)
    with _phase("adding new tokens"):
        how = settings.token_init
        initialise_rows(model, base, tokenizer, special_tokens, how, seed=0)
    with _phase(f"preparing method={settings.method}"):
        torch.manual_seed(0)
        tuned = attach(model, tokenizer, special_tokens, settings)
    flat = layout.apart or kernel in FLAT
    micro = _documents(len(tokenizer), token_ids(tokenizer, special_tokens), flat)
    objective = Objective(tuned, apart=layout.apart)
    with _phase("a training step"):
        _step(objective, micro)
    tuned.eval()
    with _phase("saving"):
        _save(folder, tuned, tokenizer, special_tokens, settings)
    with _phase("loading what was saved"), torch.no_grad():
        # By the same kernel: others may differ by more than rounding.
        again = load_causal(str(folder / "merged"), dtype=torch.float32, attn_implementation=kernel)
        before = objective.states(micro.input_ids, micro.position_ids, micro.borders)
        reloaded = Objective(again.eval(), apart=layout.apart)
        after = reloaded.states(micro.input_ids, micro.position_ids, micro.borders)
        gap = float((before - after).abs().max() / before.std())
        if not gap <= _CLOSE:
            raise _Failed("loading what was saved", f"states differ by {gap:.1g} deviations")
    if settings.method == "full":
        return []
    return sorted(tuned.peft_config["default"].target_modules)


def _documents(vocabulary: int, tokens: list[int], flat: bool) -> Micro:
    """Random documents, each with every new token, in one row."""
    random = torch.Generator().manual_seed(2)
    documents = []
    for length in _LENGTHS:
        ids = torch.randint(3, vocabulary, (length + len(tokens),), generator=random)
        ids[2 : 2 + len(tokens)] = torch.tensor(tokens, dtype=torch.int64)
        documents.append(ids)
    lengths = [len(d) for d in documents]
    positions = torch.cat([torch.arange(n) for n in lengths])[None]
    whole = torch.cat(documents)[None]
    labels = torch.where(positions > 0, whole, IGNORED)
    borders = torch.tensor([0, *lengths]).cumsum(0).int() if flat else None
    return Micro(whole, positions, labels, torch.ones_like(whole, dtype=torch.bool), borders)


def _step(objective: Objective, micro: Micro) -> None:
    trained = [p for p in objective.parameters() if p.requires_grad]
    objective.train()
    # Twice: of a fresh adapter only one half has a gradient.
    for _ in range(2):
        loss = run(objective, micro).sum() / (micro.labels != IGNORED).sum()
        if not torch.isfinite(loss):
            raise ValueError(f"the loss is {float(loss)}")
        torch.autograd.backward(loss)
        gradients = [p.grad if p.grad is not None else torch.zeros_like(p) for p in trained]
        if not any(float(g.abs().max()) > 0 for g in gradients):
            raise ValueError("no weight that is trained has a gradient")
        with torch.no_grad():
            for p, g in zip(trained, gradients, strict=True):
                p.add_(g, alpha=-_RATE / (float(g.norm()) + 1e-12))
                p.grad = None


def _save(
    folder: Path, tuned: Any, tokenizer: Any, special_tokens: Mapping[str, str], settings: Finetune
) -> None:
    for name in ("adapter", "merged"):
        shutil.rmtree(folder / name, ignore_errors=True)
    if settings.method == "full":
        parameters = {n: p.detach() for n, p in tuned.named_parameters()}
        write_whole(tuned, tokenizer, folder / "merged", parameters)
    else:
        write_adapter(tuned, tokenizer, folder / "adapter")
        merge(str(folder), folder / "adapter", special_tokens, folder / "merged")
