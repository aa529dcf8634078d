"""The rows at each boundary between stages, as Arrow schemas with column meanings.

A stage checks what it writes against these (``conform``), so a column that is missing,
misspelt or of another type fails where it is made, not three stages later.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypedDict

import pyarrow as pa


class Message(TypedDict):
    """One turn of a chat; ``role`` is system, user or assistant."""

    role: str
    content: str


MESSAGES = pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))


def _complete(*columns: tuple[str, pa.DataType]) -> pa.Schema:
    """A schema of columns that are never null."""
    return pa.schema([pa.field(name, kind, nullable=False) for name, kind in columns])


def _field(name: str, kind: pa.DataType, meaning: str, nullable: bool = False) -> pa.Field:
    return pa.field(name, kind, nullable=nullable, metadata={"meaning": meaning})


_ORIGIN = [
    _field("source", pa.string(), "the source's path as the config gives it"),
    _field("file", pa.string(), "the file within the source"),
    _field("row", pa.int64(), "1-based line (JSONL) or record number in the file"),
]

EXAMPLE = pa.schema(
    [
        _field("id", pa.string(), "content_id of prompt and answer"),
        *_ORIGIN,
        _field("prompt", MESSAGES, "the turns up to and including the last user turn"),
        _field("answer", pa.string(), "the assistant turn after it; null where none", True),
        _field(
            "unsupervised",
            pa.list_(pa.int32()),
            "places in prompt of assistant turns that are never learned from; null where none",
            True,
        ),
    ]
)
"""ingest -> downstream and suites. In the corpus the answer is the *reference*."""

QUERY = EXAMPLE.append(
    _field("key", pa.float64(), "place in the pool order, see ``pool_key``; ascending")
)
"""ingest -> the corpus, sorted by ``key``: a ratio is a prefix of this table."""

REJECT = pa.schema(
    [
        *_ORIGIN,
        _field("reason", pa.string(), "why the row was set aside, in words"),
        _field("excerpt", pa.string(), "the beginning of the row as read"),
    ]
)
"""ingest -> what could not become a record."""

REMOVED = pa.schema(
    [
        *_ORIGIN,
        _field("step", pa.string(), "the step of curation that removed it"),
        _field("detail", pa.string(), "what that step saw"),
    ]
)
"""ingest -> records of the corpus that curation took out; not those of equal content."""

LEAK = pa.schema(
    [
        *_ORIGIN,
        _field("id", pa.string(), "of the query"),
        _field("of", pa.string(), "the downstream or evaluation row that it holds or is held by"),
        _field("held", pa.float64(), "share of that text's own n-grams that the query has"),
        _field(
            "holds",
            pa.float64(),
            "share of the n-grams of the query's last turn that such texts have",
        ),
        _field("excerpt", pa.string(), "the beginning of the query"),
    ]
)
"""ingest -> what of the downstream set and the suites is in the corpus."""

ANSWER = pa.schema(
    [
        _field("id", pa.string(), "of the query; further samples of it end in -2, -3 ..."),
        _field("source", pa.string(), "of the query"),
        _field("prompt", MESSAGES, "the query as training sees it (without the reference turn)"),
        _field("answer", pa.string(), "the model's own answer"),
        _field("finish_reason", pa.string(), "stop, length or error"),
        _field("completion_tokens", pa.int64(), "tokens generated"),
        _field("reason", pa.string(), "why it was set aside; null for kept rows", True),
    ]
)
"""synthesize -> self-sampled answers in pool order; kept ones have no ``reason``."""

REWORDING = pa.schema(
    [
        _field("id", pa.string(), "of the downstream row"),
        _field("variant", pa.int32(), "1 .. synthesize.reword.per_row; 0 is the original"),
        _field("prompt", MESSAGES, "the reworded prompt; content and system turns unchanged"),
        _field("register", pa.string(), "the way to speak that was asked for"),
        _field("placement", pa.string(), "where the instruction stands: after or before content"),
        _field("kind", pa.string(), "whose words: model, row, frame or template", True),
        _field("loss_increase", pa.float64(), "of the answer, against the original; nats", True),
        _field("nearness", pa.float64(), "of the model's states to the original's", True),
        _field("reason", pa.string(), "why it was set aside; null for kept rows", True),
    ]
)
"""synthesize -> other wordings of the downstream prompts."""

_WORDING = [
    _field("id", pa.string(), "of the downstream row or the query"),
    _field("source", pa.string(), "of the row"),
    _field("kind", pa.string(), "downstream, diverse (own answers), reference (the corpus's)"),
    _field("variant", pa.int32(), "the wording; 0 is the original"),
]

SEQUENCE = pa.schema(
    [
        *_WORDING,
        _field("row", pa.int64(), "number among the rows of its kind, as synthesised; a "
               "reference has that of the model's own answer to the query"),
        _field("piece", pa.int32(), "of a row that was split; 0 is the first"),
        _field("tokens", pa.int32(), "length of the sequence"),
        _field("supervised_tokens", pa.int32(), "those of answers, see mix.turns"),
    ]
)  # fmt: skip
"""mix -> what stands at each position of the store of sequences; sorted by position."""

TOKENS = pa.schema(
    [
        _field("input_ids", pa.list_(pa.int32()), "token ids of the whole chat"),
        _field("supervised", pa.list_(pa.bool_()), "whether the token is of an answer"),
    ]
)
"""mix -> the store ``sequences``: tokens of each sequence."""

STEP = pa.schema(
    [
        _field("sequence", pa.list_(pa.int64()), "positions in the store of sequences, in order"),
        _field("pack", pa.list_(pa.int32()), "which pack of the step each is in"),
    ]
)
"""mix -> the stores ``steps-<arm>``: what one optimizer step trains on."""

UNTRAINED = pa.schema(
    [
        *_WORDING,
        _field("tokens", pa.int64(), "length of the whole chat; 0 where it has none"),
        _field("reason", pa.string(), "why no token, or only a part of it, is trained on"),
    ]
)
"""mix -> rows that training sees not at all, or not wholly."""

SHARE = pa.schema(
    [
        _field("position", pa.int64(), "first position of the stretch"),
        _field("source", pa.string(), "of the rows"),
        _field("kind", pa.string(), "downstream, diverse or reference"),
        _field("rows", pa.int64(), "in the stretch"),
        _field("tokens", pa.int64(), "of these rows"),
        _field("supervised_tokens", pa.int64(), "of these rows"),
    ]
)
"""mix -> the realised mix of each arm, by stretches of 1,000 positions."""

GENERATION = pa.schema(
    [
        _field("suite", pa.string(), "name of the suite"),
        _field("arm", pa.string(), "base, or an arm of the config"),
        _field("index", pa.int64(), "of the example in the suite, from 0"),
        _field("prompt", MESSAGES, "what was asked"),
        _field("reference", pa.string(), "the right answer"),
        _field("output", pa.string(), "what the model answered"),
        _field("finish_reason", pa.string(), "stop, length or error"),
        _field("score", pa.float64(), "main metric of this row; null where only a whole "
               "suite has a score", True),
    ]
)  # fmt: skip
"""evaluate -> every output of every arm."""

METRIC_POINT = pa.schema(
    [
        _field("step", pa.int64(), "optimizer steps done"),
        _field("loss", pa.float64(), "mean over the step's supervised tokens"),
        _field("loss_downstream", pa.float64(), "the same over downstream rows", True),
        _field("loss_diverse", pa.float64(), "the same over diverse rows", True),
        _field("lr", pa.float64(), "learning rate of the step"),
        _field("grad_norm", pa.float64(), "L2 norm of the gradient", True),
        _field("tokens", pa.int64(), "in the step, without padding"),
        _field("supervised_tokens", pa.int64(), "in the step"),
        _field("supervised_downstream", pa.int64(), "of them, in downstream rows"),
        _field("regularisation", pa.float64(), "mixup's part, for each supervised token", True),
        _field("seconds", pa.float64(), "wall time of the step"),
        _field("checkpoint_seconds", pa.float64(), "that a checkpoint held it up after", True),
        _field("memory_gib", pa.float64(), "most that rank 0 has held so far"),
        _field("mfu", pa.float64(), "of the GPUs' peak operations; null on CPUs", True),
        _field("token_distance", pa.float64(), "state after a token and its description", True),
        _field("gradient_cosine", pa.float64(), "of downstream and diverse rows", True),
        _field("gradient_norm_downstream", pa.float64(), "of their mean loss", True),
        _field("gradient_norm_diverse", pa.float64(), "of their mean loss", True),
    ]
)
"""finetune -> one row per optimizer step."""

COMPLETION = _complete(
    ("key", pa.string()), ("text", pa.string()), ("finish_reason", pa.string()),
    ("prompt_tokens", pa.int64()), ("completion_tokens", pa.int64()),
    ("seconds", pa.float64()), ("error", pa.string()),
)  # fmt: skip
"""What an engine answered; in the cache of syntheses and in parts of an evaluation."""

TIMELINE = _complete(("seconds", pa.float64()), ("rows", pa.int64()), ("tokens", pa.int64()))
"""synthesize -> what had been generated when, since the first engine was ready."""

SCORED = _complete(("loss", pa.float32()), ("vector", pa.list_(pa.float32())))
"""mix -> what the base model makes of each sequence: mean loss and a vector of its prompt."""

TABLES: dict[str, pa.Schema] = {
    "corpus": QUERY, "downstream": EXAMPLE, "rejects": REJECT, "removed": REMOVED, "leaks": LEAK,
    "answers": ANSWER, "answers_set_aside": ANSWER, "held_out": ANSWER,
    "rewordings": REWORDING, "rewordings_set_aside": REWORDING, "timeline": TIMELINE,
    "sequences": SEQUENCE, "untrained": UNTRAINED, "scores": SCORED,
    "curve": METRIC_POINT, "generations": GENERATION,
}  # fmt: skip
"""Name of a table's file, without ``.parquet`` -> its schema."""
_FAMILIES = {"suite-": EXAMPLE, "shares-": SHARE, "part-": COMPLETION, "pack-": COMPLETION}


def schema_of(file: str) -> pa.Schema | None:
    """What a table of ours by the name ``file`` must have; None where names say nothing."""
    name = file.rsplit("/", 1)[-1].removesuffix(".parquet")
    families = (schema for start, schema in _FAMILIES.items() if name.startswith(start))
    return TABLES.get(name) or next(families, None)


def content_id(prompt: Sequence[Message], answer: str | None) -> str:
    """16 hex digits that name a row by its content, wherever it was read from."""
    return digest([[m["role"], m["content"]] for m in prompt] + [answer])


_CANONICAL = json.JSONEncoder(sort_keys=True, ensure_ascii=False, separators=(",", ":"))


def digest(value: Any, length: int = 16) -> str:
    """First ``length`` hex digits of the SHA-256 of ``value`` as canonical JSON."""
    return hashlib.sha256(_CANONICAL.encode(value).encode()).hexdigest()[:length]


def uniform(*parts: Any) -> float:
    """A number in (0, 1) that is a pure function of ``parts``."""
    # 52 bits: with all 64 the largest would round to 1.
    return ((int(digest(list(parts)), 16) >> 12) + 0.5) / 2.0**52


def conform(rows: Iterable[Mapping[str, Any]], schema: pa.Schema) -> pa.Table:
    """Rows as a table of exactly ``schema``; a key that may be null may be missing.

    Raises:
        ValueError: a row has other keys, or a null where the schema allows none.
    """
    rows = list(rows)
    needed = {field.name for field in schema if not field.nullable}
    for row in rows:
        if not needed <= set(row) <= set(schema.names):
            raise ValueError(f"row has keys {sorted(row)}, the schema {sorted(schema.names)}")
    table = pa.Table.from_pylist(rows, schema=schema)
    for field in schema:
        if not field.nullable and table.column(field.name).null_count:
            raise ValueError(f"column {field.name} must not be null ({field.metadata})")
    return table
