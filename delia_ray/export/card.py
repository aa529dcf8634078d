"""The model card: what the manifests of a run say about one arm, in the hub's format."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from delia_ray.artifacts import Folder
from delia_ray.config import RunConfig
from delia_ray.evaluate.table import table
from delia_ray.export.markdown import FILTERS, written
from delia_ray.report.words import number

HERE = Path(__file__).parent
_DATASET = re.compile(r"hf://datasets/([\w.-]+/[\w.-]+)")


@dataclass(frozen=True)
class Base:
    """The model that an adapter stands on."""

    name: str
    """As the recipe names it."""
    revision: str | None = None
    """The commit on the hub that was trained on; None where it is not known to be from there."""
    rows: int | None = None
    """Rows that its embedding is resized to; None where it has enough by itself."""
    adapter: Mapping[str, Any] | None = None
    """PEFT's settings; None where every weight was trained and there is no adapter."""

    @property
    def needs_locating(self) -> bool:
        """Whether transformers does not know the name, and ``models.locate`` does."""
        return self.name == "miniature" or "://" in self.name


@dataclass(frozen=True)
class Story:
    """One arm of a run, and what its finished stages left to say about it."""

    config: RunConfig
    arm: str
    manifests: Mapping[str, Mapping[str, Any]]
    """By stage; the report's own is left out."""
    scores: Mapping[str, Any] | None
    """None where nothing was evaluated yet."""

    @classmethod
    def of(cls, config: RunConfig, arm: str, folders: Mapping[str, Folder]) -> "Story":
        """Read manifests and scores of the stages in ``folders``."""
        found = {s: folder.manifest() for s, folder in folders.items() if s != "report"}
        manifests = {stage: manifest for stage, manifest in found.items() if manifest is not None}
        scores = None
        if "evaluate" in manifests:
            scores = folders["evaluate"].read_json("scores.json")
        return cls(config, arm, manifests, scores)

    @property
    def name(self) -> str:
        """Of the model, where it is served."""
        return f"{self.config.name}-{self.arm}"


def render(story: Story, base: Base, merged: bool, repo: str) -> str:
    """The card as Markdown with its YAML front matter.

    Args:
        story: what the run says.
        base: what the adapter stands on.
        merged: whether the export has ``merged/``.
        repo: where it is pushed to; empty where it stays a folder.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    env = Environment(
        loader=FileSystemLoader(HERE),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        finalize=written,
    )
    env.filters |= {"number": number, **FILTERS}
    page = env.get_template("card.md.jinja").render(
        **context(story), base=base, merged=merged, repo=repo
    )
    return f"---\n{front_matter(story, base)}\n---\n{page}"


def front_matter(story: Story, base: Base) -> str:
    """What the hub reads: YAML. The hub refuses a ``base_model`` that is not one of its own."""
    from huggingface_hub import ModelCardData

    sources = [story.config.downstream, *story.config.downstream.also, *story.config.corpus]
    names = [found.group(1) for s in sources if (found := _DATASET.match(s.path))]
    return ModelCardData(
        base_model=base.name if base.revision else None,
        library_name="peft" if base.adapter else "transformers",
        pipeline_tag="text-generation",
        tags=["delia", "instruction-tuning", *(["lora"] if base.adapter else [])],
        datasets=list(dict.fromkeys(names)) or None,
    ).to_yaml()


def context(story: Story) -> dict[str, Any]:
    """The template's variables; a stage that is not finished has no counts."""
    counts = {stage: m["counts"] for stage, m in story.manifests.items()}
    settings = {stage: m["settings"] for stage, m in story.manifests.items()}
    for stage, own in (("mix", story.config.mix), ("finetune", story.config.finetune)):
        if stage in settings:  # manifests of before have fewer settings
            own_settings = own.model_dump(mode="json") | settings[stage][stage]
            settings[stage] = {**settings[stage], stage: own_settings}
    mix = counts.get("mix")
    return {
        "config": story.config,
        "arm": story.arm,
        "settings": story.config.arms[story.arm],
        "name": story.name,
        "sources": _sources(counts.get("ingest", {})),
        "synthesized": counts.get("synthesize"),
        "synthesis": settings.get("synthesize"),
        "mixed": mix,
        "mixing": settings.get("mix"),
        "own": mix and mix["arms"][story.arm],
        "shares": mix and _shares(mix["arms"][story.arm]),
        "schedule": _schedule(settings.get("mix"), story.arm),
        "finetuned": counts["finetune"],
        "trained": counts["finetune"]["arms"][story.arm],
        "training": settings["finetune"],
        "scores": story.scores,
        "results": story.scores and table(story.scores, story.scores["arms"]),
        "suites": counts.get("evaluate", {}).get("suites", {}),
        "versions": story.manifests["finetune"].get("versions", {}),
    }


def _sources(ingest: Mapping[str, Any]) -> list[dict[str, Any]]:
    """A row for each source of training data: where each row that was read went."""
    return [
        {"role": role, "path": path, **found}
        for group, role in (("downstream", "downstream"), ("corpus", "diverse"))
        for path, found in ingest.get(group, {}).items()
    ]


def _shares(own: Mapping[str, Any]) -> list[list[str]]:
    """What training saw: downstream, diverse, and how much of one for one of the other."""
    lines = [["different rows", *(number(own["unique_rows"][k]) for k in _KINDS), ""]]
    for what in ("rows", "tokens", "supervised_tokens"):
        parts = [own[what][kind] for kind in _KINDS]
        whole = max(1, sum(parts))
        ratio = f"{parts[1] / parts[0]:.1f}" if parts[0] else ""
        cells = [f"{part:,} ({part / whole:.1%})" for part in parts]
        lines.append([what.replace("_", " "), *cells, ratio])
    return lines


_KINDS = ("downstream", "diverse")


def _schedule(mixing: Mapping[str, Any] | None, arm: str) -> list[dict[str, Any]]:
    """The phases of the arm's ratio; empty where one ratio holds throughout."""
    if mixing is None or mixing["arms"][arm]["ratio"] is not None:
        return []
    return list(mixing["mix"].get("schedule", []))
