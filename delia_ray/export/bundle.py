"""``delia export``: one arm of a finished run as a folder that stands for itself."""

import contextlib
import json
import re
import shlex
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from delia_ray.artifacts import Folder
from delia_ray.config import RunConfig
from delia_ray.errors import UserError
from delia_ray.export import hub
from delia_ray.export.card import Base, Story, render
from delia_ray.export.layout import CARD, OWN, UNFINISHED, check_target
from delia_ray.export.modelfile import MODELFILE, modelfile
from delia_ray.models import load_tokenizer
from delia_ray.pipeline import finished, versions
from delia_ray.redaction import redact
from delia_ray.stored import reading

_SNAPSHOT = re.compile(r"(?:^|/)models--[^/]++/snapshots/([0-9a-f]{40})")
"""Where ``huggingface_hub`` keeps a model, with the commit it is of."""


@dataclass(frozen=True)
class Exported:
    """What was written, and where a plain model of the arm lies."""

    folder: Folder
    merged: Folder
    """In the export, or else in the run."""
    chat: list[str]
    """The arguments of ``delia chat``."""
    name: str
    url: str = ""
    """Of the repository on the hub; empty where it was not pushed."""

    def lines(self) -> list[str]:
        """Where things are and what to do with them, for the terminal."""
        shown = [
            (what, f"{self.folder}/{name}")
            for what, name in (
                ("adapter", "adapter"),
                ("merged", "merged"),
                ("card", CARD),
                ("ollama", MODELFILE),
            )
            if self.folder.exists(name)
        ]
        if self.url:
            shown.append(("hub", self.url))
        # vLLM reads folders.
        where = str(self.merged) if self.merged.is_local else "FOLDER"
        serve = shlex.join(["vllm", "serve", where, "--served-model-name", self.name])
        if not self.merged.is_local:
            serve += f"   with FOLDER a copy of {self.merged}"
        shown += [("serve", serve), ("try it", shlex.join(["delia", "chat", *self.chat]))]
        return [f" {what:<8} {text}" for what, text in shown]


def export(
    run: Folder, arm: str = "delia", to: Folder | None = None, merged: bool = False,
    repo: str = "", private: bool = False,
) -> Exported:  # fmt: skip
    """Write ``adapter/``, ``README.md`` and, where ``merged``, ``merged/`` of one arm.

    Args:
        run: a finished run.
        arm: one of its arms.
        to: the folder to fill: new, empty or an earlier export, which it replaces; None is
            ``exports/<arm>`` of the run.
        merged: also copy the plain model that the stage finetune left.
        repo: push the folder to this repository of the hub; empty for none.
        private: the repository must be private.

    Raises:
        UserError: something to mend, before anything is copied.
        DeliaError: the upload failed; the folder is whole.
    """
    config, folders = finished(run)
    trained = _trained(run, config, folders, arm, merged)
    target = (to or run / "exports" / arm).rooted()
    check_target(target)
    hub.check(repo, private)
    with reading(f"{run}"):
        story = Story.of(config, arm, folders)
    if repo:
        repo = hub.create(repo, private)
    with tempfile.TemporaryDirectory() as scratch:
        adapter = Path(scratch) / "adapter"
        if trained.exists("adapter"):
            with _local(trained, "adapter") as kept:
                shutil.copytree(kept, adapter)
        with reading(f"{run}"):
            base = _base(config, adapter, trained.read_json("merged/config.json"))
            card = redact(render(story, base, merged, repo))
            with _local(trained, "merged") as plain:
                tokens = config.downstream.special_tokens
                ollama = modelfile(
                    load_tokenizer(str(plain)), str(plain), merged, redact(config.model), tokens
                )
        _begin(target)
        if base.adapter:
            target.upload(adapter, "adapter")
        if merged:
            with _local(trained, "merged") as plain:
                target.upload(plain, "merged")
        target.write_text(CARD, card)
        target.write_text(MODELFILE, ollama)
        _end(target, story)
    url = ""
    if repo:
        with _local(target, "") as whole:
            url = hub.upload(repo, whole)
    source = target if merged else trained
    chat = [str(target)] if merged else [str(run), "--arm", arm]
    return Exported(target, source / "merged", chat, story.name, url)


# --- checks -----------------------------------------------------------------------------


def _trained(
    run: Folder, config: RunConfig, folders: dict[str, Folder], arm: str, merged: bool
) -> Folder:
    """The folder that the stage finetune left of ``arm``."""
    if arm not in config.arms:
        also = "; base is the untrained model, there is nothing to export" if arm == "base" else ""
        raise UserError(f"--arm {arm}: the run has {', '.join(config.arms)}{also}")
    done = folders.get("finetune")
    if done is None or done.manifest() is None or not (done / arm).exists("merged"):
        raise UserError(
            f"arm {arm} of {run} is not trained yet; finish it with `delia finetune` and the "
            "run's recipe"
        )
    if not merged and not (done / arm).exists("adapter"):
        raise UserError(
            f"arm {arm} of {run} has no adapter, because every weight was trained "
            "(finetune.method=full); export it with --merge"
        )
    return done / arm


# --- what is written ----------------------------------------------------------------------


def _base(config: RunConfig, adapter: Path, merged: dict[str, Any]) -> Base:
    """What the adapter in ``adapter`` stands on; its settings then name it as the recipe does.

    Args:
        config: the run's.
        adapter: a copy of the adapter; there is no such folder where every weight was trained.
        merged: ``config.json`` of the merged model.
    """
    file = adapter / "adapter_config.json"
    if not file.exists():
        return Base(redact(config.model))
    from transformers import AutoTokenizer

    from delia_ray.token_rows import PAD_TO

    settings = json.loads(file.read_text(encoding="utf-8"))
    snapshot = _SNAPSHOT.search(settings.get("base_model_name_or_path") or "")
    revision = snapshot.group(1) if snapshot else None
    settings |= {"base_model_name_or_path": redact(config.model), "revision": revision}
    file.write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
    rows = merged.get("vocab_size") or merged["text_config"]["vocab_size"]
    tokens = len(AutoTokenizer.from_pretrained(adapter))
    # Training gave it as many rows as its tokens need, or left it as large as it was.
    grown = rows == -(-tokens // PAD_TO) * PAD_TO
    return Base(redact(config.model), revision, rows if grown else None, settings)


def _begin(target: Folder) -> None:
    """From here on the folder does not look like an export."""
    target.write_json(UNFINISHED, {"stage": "export"})
    for name in OWN:
        target.remove(name)


def _end(target: Folder, story: Story) -> None:
    target.remove(UNFINISHED)
    target.publish(
        {
            "stage": "export",
            "run": story.config.name,
            "arm": story.arm,
            "stages": {stage: m["fingerprint"] for stage, m in story.manifests.items()},
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "versions": versions(),
        }
    )


@contextlib.contextmanager
def _local(folder: Folder, name: str) -> Iterator[Path]:
    """A local path of ``name`` in ``folder``, or of the folder; a copy goes again."""
    parent, _, last = folder.url.rstrip("/").rpartition("/")
    path = folder.download(name) if name else Folder(parent).download(last)
    try:
        yield Path(path)
    finally:
        if not folder.is_local:
            shutil.rmtree(Path(path).parent, ignore_errors=True)
