"""Rows to read, and the base of every settings class."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class Settings(BaseModel):
    """Base of every settings class: immutable, documented, no unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class Source(Settings):
    """Rows to read: a file, a glob, a folder, a URL, or a part of the miniature world."""

    path: str
    """File, glob or folder, local or any fsspec URL; relative paths start at the working
    folder. With ``format: miniature``, the name of a part of the built-in world."""
    format: Literal["auto", "messages", "alpaca", "prompt_completion", "miniature", "ifeval"] = (
        "auto"
    )
    """How a row is laid out; ``auto`` decides from the columns of the rows. The container
    (JSONL, JSON array, parquet, CSV/TSV; each plain or .gz) follows the content. ``ifeval``,
    for suites only: prompts with verifiable constraints, see the metric ``constraints``."""
    columns: dict[str, str] = {}
    """Renames before the layout is read, as wanted name -> name in the file (dots reach into
    nested ones), for example ``{prompt: question, completion: translation.is}``."""
    rows: int | None = Field(None, ge=1)
    """Take only the first this many records (after set-aside rows); None takes all."""
    weight: float = Field(1.0, gt=0)
    """How likely a row of this source comes early in the pool, relative to the other
    sources (weighted sampling without replacement). No effect on downstream rows or suites."""


class Downstream(Source):
    """The small set to adapt to."""

    path: str = "downstream"
    """File, glob, folder or URL of the rows; each needs an answer."""
    format: Literal["auto", "messages", "alpaca", "prompt_completion", "miniature"] = "miniature"
    """How a row is laid out, as for the corpus."""
    rows: int | None = Field(64, ge=1)
    """Take only the first this many records; None takes all."""
    also: list[Source] = []
    """Further sets to adapt to at the same time, each a task of its own; their rows come
    evenly, every row once in an epoch."""
    special_tokens: dict[str, str] = {"<sep>": "json"}
    """New tokens to add to the vocabulary, each with the description of what it stands
    for. The description initialises (``finetune.token_init: description``) and probes the
    token; it is never shown to the model in training."""
