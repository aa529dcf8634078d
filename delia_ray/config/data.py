"""Rows to read, and the base of every settings class."""

import codecs
import re
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, field_validator

from delia_ray import names, redaction
from delia_ray.config.paths import RecipePath

Name = Annotated[str, AfterValidator(names.name)]
"""What files and folders are named after."""


def _storage(url: str) -> str:
    if redaction.redact(url) == url:
        return url
    raise ValueError(
        f"{redaction.redact(url)} holds credentials, and a storage's URL stands in many places; "
        "leave them out and give them by the environment (AWS_ACCESS_KEY_ID and so on), or by the "
        "filesystem's own configuration"
    )


Storage = Annotated[str, AfterValidator(_storage)]
"""Folder or fsspec URL without credentials."""


class Settings(BaseModel):
    """Base of every settings class: immutable, documented, no unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class Turns(Settings):
    """What happens to chats that are more than a question and its answer."""

    system: Literal["keep", "drop", "set_aside"] = "keep"
    """A system turn at the beginning: part of the prompt, left out, or the row is set aside."""
    several: Literal["keep", "first", "set_aside"] = "keep"
    """More than one exchange: the last answer with all before it as its prompt, the first
    exchange alone, or the row is set aside."""
    empty: Literal["keep", "set_aside"] = "keep"
    """Empty turns before the last question. An empty answer at the end is no answer: the row
    is a query, or set aside where answers are needed."""
    reasoning: Literal["keep", "drop", "set_aside"] = "keep"
    """Reasoning that stands apart from its answer (``reasoning_content``): written as the model's
    chat template writes it, or the row is set aside where the template knows none; left out; or
    the row is set aside. The last two take reasoning within ``<think>`` at the beginning of an
    answer too."""


class Parallel(Settings):
    """A text and its translation as an instruction."""

    path: RecipePath | None = None
    """The translation of ``path``, line by line; None where both stand in one file. A glob or
    folder pairs with as many files, in the order of their names."""
    source: str | None = None
    """Language code (or column) of the text to translate; None takes the first language that
    the columns or the files' names give."""
    target: str | None = None
    """Language code (or column) of the translation; None takes the second."""
    reverse: bool = False
    """Ask for the other direction."""
    templates: list[str] = Field(
        [
            "Translate the following {source} text into {target}.\n\n{text}",
            "{text}\n\nTranslate this from {source} into {target}.",
            "How would you say this in {target}?\n\n{text}",
            "Please give the {target} translation of the following text.\n\n{text}",
        ],
        min_length=1,
    )
    """Instructions, of which each row takes one by its content. ``{text}`` is the text;
    ``{source}`` and ``{target}`` are the languages' English names."""

    @field_validator("templates")
    @classmethod
    def _hold_the_text(cls, templates: list[str]) -> list[str]:
        if without := [t for t in templates if "{text}" not in t]:
            raise ValueError(f"{without[0]!r} has no {{text}}, where the text would stand")
        return templates


class Limits(Settings):
    """How much a file may become when it is opened. One that goes beyond is not read on from
    there, which is an error unless ``damaged`` allows it."""

    unpacked_gib: float = Field(256.0, gt=0)
    """Most GiB that a compressed file or an archive may hold."""
    ratio: float = Field(250.0, gt=1)
    """Most bytes that one compressed byte may become; not looked at in the first 256 MiB."""
    members: int = Field(100_000, ge=1)
    """Most files in an archive."""
    nesting: int = Field(3, ge=1)
    """Most compressions and archives within each other."""
    value_mib: float = Field(64.0, gt=0)
    """Longest line, cell or JSON value, in MiB of text."""
    columns: int = Field(10_000, ge=1)
    """Most columns of a table."""
    depth: int = Field(200, ge=1)
    """Most lists and objects within each other in one JSON row."""


class Source(Settings):
    """Rows to read: a file, a glob, a folder, a URL, or a part of the miniature world."""

    path: RecipePath
    """File, glob or folder, local or any fsspec URL; relative paths start at the working
    folder. A folder may be one that ``datasets`` saved; ``hf://datasets/<owner>/<name>`` is a
    data set of the hub. With ``format: miniature``, a part of the built-in world."""
    format: Literal[
        "auto",
        "messages",
        "alpaca",
        "prompt_completion",
        "parallel",
        "marked",
        "miniature",
        "ifeval",
    ] = "auto"
    """How a row is laid out; ``auto`` decides from the columns of the rows and what they hold.
    ``messages``: OpenAI's or ShareGPT's turns; ``prompt_completion``: a query and its answer under
    the usual names, or the query alone; ``parallel``: a text and its translation; ``marked``: one
    text with marks where turns begin (``### Human:``). ``ifeval``, for suites only: prompts with
    verifiable constraints, see the metric ``constraints``."""
    container: Literal[
        "auto",
        "jsonl",
        "array",
        "objects",
        "csv",
        "tsv",
        "parquet",
        "arrow",
        "lines",
        "tmx",
        "xlsx",
    ] = "auto"
    """What holds the rows; ``auto`` follows the content, not the name. All may be plain, gzip,
    zst, bzip2 or xz, or members of a zip or tar archive. ``array`` and ``objects`` are JSON
    values over several lines; of an ``xlsx`` the first sheet is read; ``lines`` holds a query
    a line, which ``auto`` takes text for that is named ``.txt`` or after a language and is
    neither a chat log nor markup."""
    encoding: str = "auto"
    """Encoding of text files, for example ``cp1252``. ``auto`` knows UTF-8, and UTF-16 and
    UTF-32 where there is no doubt; older ones cannot be told with certainty."""
    header: bool | None = None
    """Whether the first line of a CSV or TSV names its columns. None: it does; with ``format:
    parallel`` only if it holds a known name."""
    quoting: Literal["auto", "standard", "none"] = "auto"
    """Whether quotation marks of a CSV or TSV enclose cells (``standard``) or are text
    (``none``). ``auto``: they enclose, except in a TSV that as a whole makes sense only without."""
    columns: dict[str, str] = {}
    """Renames before the layout is read, as wanted name -> name in the file (dots reach into
    nested ones), for example ``{prompt: frage, completion: texts.antwort}``."""
    template: str | None = None
    """The prompt with ``{column}`` for each column's text, for example ``Summarise this
    dialogue.\\n\\n{dialogue}``; the answer is the column that ``columns`` gives as ``completion``,
    or one of the usual names."""
    without: list[str] = []
    """Columns to leave out that the layout would use, or that set the row aside (``image``)."""
    split: str = "train"
    """Which split to take of a data set of the hub, or of a folder that holds several, as
    ``datasets`` tells them: by its README's ``configs``, else by names such as ``test.jsonl``."""
    subset: str | None = None
    """Which configuration to take of a data set that has several; None: the default one."""
    parallel: Parallel = Parallel()
    """Where a translation stands, and how it is asked for."""
    turns: Turns = Turns()
    """Rules for system turns, several turns, empty ones and reasoning."""
    control_tokens: Literal["set_aside", "strip", "keep"] = "set_aside"
    """What becomes of rows whose text holds the chat template's own tokens (``<|im_end|>``),
    which would end a turn in the middle: set the row aside, take the tokens out, or keep."""
    unreadable: Literal["error", "set_aside"] = "error"
    """A file that gives not one record ends the run, or is counted like any other."""
    damaged: Literal["error", "set_aside"] = "error"
    """A file that is cut off or cannot be read to its end ends the run, as nobody knows what
    stood behind; or what stands before is taken and the fault counted."""
    limits: Limits = Limits()
    """How much a file may become when it is opened."""
    rows: int | None = Field(None, ge=1)
    """Take only the first this many records (after set-aside rows); None takes all."""
    cap: int | None = Field(None, ge=1)
    """Most records of this source in the pool, after curation; those early in the pool's order
    stay. No effect on downstream rows or suites."""
    weight: float = Field(1.0, gt=0)
    """How likely a row of this source comes early in the pool, relative to the other
    sources (weighted sampling without replacement). No effect on downstream rows or suites."""

    @field_validator("template")
    @classmethod
    def _names_a_column(cls, template: str | None) -> str | None:
        if template is not None and not re.search(r"\{[^{}]+\}", template):
            raise ValueError(
                f"{template!r} names no column; write {{column}} where its text stands"
            )
        return template

    @field_validator("encoding")
    @classmethod
    def _known_encoding(cls, name: str) -> str:
        if name == "auto":
            return name
        try:
            b"".decode(name)
            return codecs.lookup(name).name
        except LookupError:
            raise ValueError(
                f"{name!r} is no text encoding; for example utf-8, utf-16, cp1252, gb18030"
            ) from None

    @property
    def label(self) -> str:
        """What it is called in tables, counts and pages: its path without credentials."""
        return redaction.identity(self.path)


class Downstream(Source):
    """The small set to adapt to."""

    path: RecipePath = "downstream"
    """File, glob, folder or URL of the rows; each needs an answer. A run that names none is
    about the miniature's world: what it leaves out of ``downstream``, ``corpus`` and
    ``evaluate`` is then as in ``jobs/recipes/miniature.yaml``."""
    format: Literal[
        "auto", "messages", "alpaca", "prompt_completion", "parallel", "marked", "miniature"
    ] = "auto"
    """How a row is laid out, as for the corpus."""
    also: list[Source] = []
    """Further sets to adapt to at the same time, each a task of its own; their rows come
    evenly, every row once in an epoch."""
    special_tokens: dict[str, str] = {}
    """New tokens to add to the vocabulary, each with the description of what it stands
    for, such as ``{"<sep>": "a JSON object"}``. The description initialises
    (``finetune.token_init: description``) and probes the token; it is never shown to the model
    in training."""
