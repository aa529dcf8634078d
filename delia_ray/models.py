"""Base models by name: where they are, what identifies them, their tokenizer."""

import functools
import hashlib
import json
import math
import os
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from delia_ray.artifacts import Folder
from delia_ray.chats.format import adapt, source
from delia_ray.chats.thoughts import Thoughts, marks_in
from delia_ray.errors import UserError
from delia_ray.generation_settings import read
from delia_ray.miniature import MODEL_PATH
from delia_ray.records import Message, digest

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_MARK = "\u2058delia\u2058"
"""Stands for a user's words while a template is cut where they begin."""
_WHOLE = 8 * 2**20  # files up to this size are hashed whole


@functools.cache
def locate(model: str) -> str:
    """The local folder of ``model``: ``miniature``, a folder, a URL or a hub id.

    Raises:
        UserError: there is no such model, or the folder is not a model's.
    """
    if model == "miniature":
        path = str(MODEL_PATH)
    elif "://" in model:
        parent, _, name = model.rstrip("/").rpartition("/")
        path = Folder(parent).download(name)
    elif os.path.isdir(model):
        path = os.path.abspath(model)
    elif model.startswith((".", "/", "~")):
        raise UserError(f"model={model}: no such folder")
    else:
        path = _from_hub(model)
    if not (Path(path) / "config.json").exists():
        raise UserError(f"model={model}: {path} has no config.json, so it is not a model folder")
    _check_weights(model, Path(path))
    return path


def _check_weights(model: str, path: Path) -> None:
    """All weights are there, and none are pickles.

    Raises:
        UserError: as its text says.
    """
    files = {file.name for file in path.glob("*.safetensors")}
    index = path / "model.safetensors.index.json"
    wanted = (
        set(json.loads(index.read_text("utf-8"))["weight_map"].values())
        if index.exists()
        else set()
    )
    missing = sorted(wanted - files)
    if (
        not files
        and not missing
        and any(any(path.glob(kind)) for kind in ("*.bin", "*.pth", "*.pt"))
    ):
        raise UserError(
            f"model={model}: {path} has no .safetensors file. Weights in pickles (.bin, .pth) can "
            "run code when they are loaded, so they are not taken; convert them once where you "
            "trust them, with AutoModelForCausalLM.from_pretrained(...).save_pretrained(folder)"
        )
    if missing or not files:
        lacks = f"{len(missing)} of {len(wanted)} files ({missing[0]} ...)" if missing else "all"
        raise UserError(
            f"model={model}: {path} lacks weights: {lacks}. Its download was not finished, or it "
            f"has none in .safetensors; `hf download {model}` finishes one from the hub"
        )


def _from_hub(model: str) -> str:
    from huggingface_hub import snapshot_download

    try:
        return str(
            snapshot_download(model, ignore_patterns=["*.bin", "*.gguf", "*.pth", "original/*"])
        )
    except Exception as error:
        raise UserError(
            f"model={model}: neither a folder here nor a model on the hub that can be reached "
            f"({type(error).__name__}); give a folder, a URL, a hub id, or `miniature`"
        ) from None


@functools.cache
def locate_adapter(adapter: str) -> str:
    """The local folder of a PEFT adapter, given as a folder or a URL.

    Raises:
        UserError: there is none.
    """
    parent, _, name = adapter.rstrip("/").rpartition("/")
    try:
        path = Folder(parent).download(name) if "://" in adapter else os.path.abspath(adapter)
    except FileNotFoundError:
        path = ""
    files = ("adapter_config.json", "adapter_model.safetensors")
    if not all((Path(path) / file).exists() for file in files):
        raise UserError(
            f"finetune.adapter={adapter} is not a PEFT adapter; give a folder or URL with "
            "adapter_config.json and adapter_model.safetensors"
        )
    return path


@functools.cache
def fingerprint(model: str) -> str:
    """16 hex digits of the model's files.

    Large files enter by size and their first and last 8 MiB, which hold the header and
    real weights: hashing tens of gigabytes would cost minutes at every start.
    """
    return folder_digest(locate(model))


def folder_digest(folder: str) -> str:
    """16 hex digits of the files in ``folder``, a model's or an adapter's."""
    state = hashlib.sha256()
    root = Path(folder)
    for path in sorted(p for p in root.rglob("*") if p.is_file() and ".git" not in p.parts):
        if path.suffix in (".md", ".lock"):
            continue
        size = path.stat().st_size
        state.update(f"{path.relative_to(root)}:{size}:".encode())
        with open(path, "rb") as stream:
            state.update(stream.read(_WHOLE))
            if size > _WHOLE:
                stream.seek(max(_WHOLE, size - _WHOLE))
                state.update(stream.read())
    return state.hexdigest()[:16]


def parameter_count(model: str) -> int | None:
    """Numbers in the model's safetensors files, from their headers; None without such files."""
    from safetensors import safe_open

    files = sorted(Path(locate(model)).glob("*.safetensors"))
    if not files:
        return None
    total = 0
    for file in files:
        with safe_open(file, "np") as opened:
            total += sum(math.prod(opened.get_slice(k).get_shape()) for k in opened.keys())  # noqa: SIM118
    return total


def load_tokenizer(path: str, new_tokens: Iterable[str] = ()) -> "PreTrainedTokenizerBase":
    """The tokenizer in folder ``path``, its chat template mended (see ``chats.format``), with
    ``new_tokens`` added as special tokens.

    Raises:
        UserError: it has no chat template, so nobody can say what an answer is.
    """
    from transformers import AddedToken

    tokenizer = published_tokenizer(path)
    adapt(tokenizer)
    known = tokenizer.get_vocab()
    missing = [t for t in new_tokens if t not in known]
    if missing:
        tokenizer.add_tokens(
            [AddedToken(t, special=True, normalized=False) for t in missing], special_tokens=True
        )
    return tokenizer


def published_tokenizer(path: str) -> "PreTrainedTokenizerBase":
    """The tokenizer in folder ``path`` as it is.

    Raises:
        UserError: it has no chat template, so nobody can say what an answer is.
    """
    from transformers import AutoTokenizer

    from delia_ray.sandbox import bound_chat_templates

    bound_chat_templates()
    tokenizer = AutoTokenizer.from_pretrained(path)
    if not source(tokenizer):
        raise UserError(
            f"model={path} has no chat template; choose a chat model, or put a "
            "chat_template.jinja into its folder"
        )
    return tokenizer


@functools.cache
def thoughts_of(model: str) -> Thoughts | None:
    """The marks around the thoughts of ``model``, None where its template knows none; read from
    its files, since loading the tokenizer takes seconds.

    Raises:
        UserError: as ``locate``.
    """
    folder = Path(locate(model))
    files = [folder / n for n in ("chat_template.jinja", "tokenizer_config.json")]
    texts = [file.read_text("utf-8") for file in files if file.exists()]
    return next((marks for text in texts if (marks := marks_in(text)) is not None), None)


@functools.cache
def prompting(model: str) -> str:
    """What the prompts of ``model`` depend on beside its files: a digest of its template as it
    was mended; empty where it is used as it is.

    Raises:
        UserError: as ``locate`` and ``load_tokenizer``.
    """
    tokenizer = published_tokenizer(locate(model))
    return digest(source(tokenizer), 8) if adapt(tokenizer) else ""


def control_tokens(model: str, wanted: Collection[str] = ()) -> list[str]:
    """Special tokens of ``model``'s tokenizer that no generated text may hold, less ``wanted``.

    Raises:
        UserError: as ``locate`` and ``load_tokenizer``.
    """
    return [t for t in load_tokenizer(locate(model)).all_special_tokens if t not in wanted]


def template_tokens(model: str) -> list[str]:
    """Every token of ``model`` that its tokenizer never makes out of pieces of text, such as
    those that begin and end a turn; read from its files, since loading it takes seconds.

    Raises:
        UserError: as ``locate``.
    """
    found: list[str] = []
    for name, key in (("tokenizer.json", "added_tokens"),
                      ("tokenizer_config.json", "added_tokens_decoder")):  # fmt: skip
        file = Path(locate(model)) / name
        tokens = json.loads(file.read_text("utf-8")).get(key) or [] if file.exists() else []
        entries = tokens.values() if isinstance(tokens, dict) else tokens
        found += [t["content"] for t in entries if t.get("special") and t.get("content")]
    return list(dict.fromkeys(found))


def prompt_ids(tokenizer: Any, messages: Sequence[Message], turn: str = "assistant") -> list[int]:
    """Token ids of the chat up to where the next turn of ``turn`` begins.

    Ids rather than text go to the engines: a template that writes the begin-of-sequence
    token would otherwise get a second one from the engine's own tokenizer.

    With ``turn="user"`` it ends where the user would speak, so that an aligned model goes on
    with a query it was trained on (the pre-query template of Magpie, arXiv 2406.08464).
    """
    if turn == "user":
        text: str = tokenizer.apply_chat_template(
            [*messages, {"role": "user", "content": _MARK}], tokenize=False
        )
        return list(tokenizer(text[: text.index(_MARK)], add_special_tokens=False)["input_ids"])
    return prompts_ids(tokenizer, [messages])[0]


def prompts_ids(tokenizer: Any, chats: Sequence[Sequence[Message]]) -> list[list[int]]:
    """``prompt_ids`` of many chats, for the assistant's turn, several times as fast."""
    encoded = tokenizer.apply_chat_template(
        [list(c) for c in chats], add_generation_prompt=True, tokenize=True, return_dict=True
    )
    return [list(ids) for ids in encoded["input_ids"]]


def described(ids: Iterable[int], tokens: Mapping[int, Sequence[int]]) -> list[int]:
    """``ids`` with, in place of each of ``tokens``, the ids that it maps to (its description)."""
    return [word for i in ids for word in tokens.get(int(i), (int(i),))]


@functools.cache
def end_ids(path: str) -> frozenset[int]:
    """Token ids that end an answer of the model in folder ``path``: those of its generation
    config (chat models often have several) and its tokenizer's end-of-sequence token."""
    from transformers import AutoTokenizer

    ids = {AutoTokenizer.from_pretrained(path).eos_token_id}
    configured = read(path).get("eos_token_id")
    ids.update(configured if isinstance(configured, list) else [configured])
    return frozenset(i for i in ids if i is not None)
