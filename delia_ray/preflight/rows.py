"""What only the rows can tell, looked at once they are read and before anything is generated."""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from delia_ray.artifacts import Folder
from delia_ray.chats.encode import Encoded, encode
from delia_ray.chats.format import look
from delia_ray.chats.texts import REFUSES, Refused, render
from delia_ray.chats.thoughts import separate
from delia_ray.config import RunConfig
from delia_ray.errors import UserError
from delia_ray.evaluate.scoring import check_suite
from delia_ray.mix.advice import advice_for
from delia_ray.models import thoughts_of
from delia_ray.preflight.positions import positions
from delia_ray.preflight.problem import Problem
from delia_ray.preflight.subject import Subject
from delia_ray.synthesize.prompts import self_sample

LOOKED_AT = 2000
"""Rows of a table that are tokenised, evenly over it."""
_PROMPTS = 200


def downstream_rows(subject: Subject, ingest: Folder) -> Iterator[Problem]:
    """Rows that the chat template refuses, or that are too long, and tokens in no row."""
    if not subject.trains:
        return
    config = subject.config
    table = ingest.read_table("downstream.parquet", ["prompt", "answer"])
    yield from _unused_tokens(config, table)
    rows = _some(table, LOOKED_AT)
    chats = [(row["prompt"], row["answer"] or "") for row in rows]
    found = encode(subject.tokenizer, chats, subject.ends, config.mix.turns)
    yield from _refused(found)
    yield from _thoughts(subject, rows)
    lengths = [len(e.ids) for e in found if isinstance(e, Encoded)]
    longer = sum(length > config.mix.max_length for length in lengths)
    if longer and (config.mix.overlong == "error" or longer == len(lengths)):
        limit = positions(subject)
        fits = limit is None or max(lengths) <= limit
        yield Problem(
            f"{longer:,} of {len(lengths):,} downstream rows are longer, the longest has "
            f"{max(lengths):,} tokens", f"mix.max_length={config.mix.max_length}",
            (f"set mix.max_length={max(lengths)}, or " if fits else "set ")
            + ("mix.overlong=set_aside or split" if longer < len(lengths) else
               "mix.overlong=split"),
        )  # fmt: skip


def diverse_rows(subject: Subject, ingest: Folder) -> Iterator[Problem]:
    """Queries that the chat template refuses, all of them: nothing would be generated."""
    config = subject.config
    if not any(config.arm_ratio(name) for name in config.arms):
        return
    if config.synthesize.method == "magpie" or config.synthesize.model:
        return
    rows = ingest.read_first("corpus.parquet", ["prompt", "answer"], _PROMPTS).to_pylist()
    shown = config.synthesize.method == "self_sample"
    chats = [self_sample(row["prompt"], row["answer"] if shown else None) for row in rows]
    texts = render(subject.tokenizer, chats, True)
    reasons = _reasons(texts)
    if rows and sum(reasons.values()) == len(rows):
        yield _impossible("corpus", reasons, len(rows), "corpus.turns.system=drop")
        return
    limit = positions(subject)
    lengths = _lengths(subject, texts)
    long = sum(length >= limit for length in lengths) if limit is not None else 0
    if long:
        yield Problem(
            f"the model has positions for {limit:,} tokens, and {long:,} of {len(lengths):,} "
            f"queries are as long (the longest has {max(lengths):,}), so they get no answer",
            "corpus", "take shorter ones"
            + (", or set synthesize.method=plain, which does not show the reference" if shown
               else ""),
            fatal=long == len(rows),
        )  # fmt: skip


def suite_rows(subject: Subject, ingest: Folder) -> Iterator[Problem]:
    """Suites that a metric cannot judge, and prompts that leave no room for an answer."""
    limit = positions(subject)
    config = subject.config
    asks = config.evaluate.base or bool(config.arms)
    for suite in config.evaluate.suites if asks else ():
        name = f"suite-{suite.name}.parquet"
        table = ingest.read_table(name, ["prompt", "answer"])
        try:
            check_suite(suite, table["answer"].to_pylist(), table["prompt"].to_pylist())
        except UserError as error:
            yield Problem(str(error))
            continue
        rows = table.slice(0, _PROMPTS).to_pylist()
        texts = render(subject.tokenizer, [row["prompt"] for row in rows], True)
        reasons = _reasons(texts)
        if rows and sum(reasons.values()) == len(rows):
            yield _impossible(
                f"evaluate.suites, {suite.name}", reasons, len(rows), "turns.system=drop for it"
            )
            continue
        if limit is None:
            continue
        lengths = _lengths(subject, texts)
        room = limit - config.evaluate.max_tokens
        if tight := sum(length > room for length in lengths):
            yield Problem(
                f"the model has positions for {limit:,} tokens, and with so many for the answer "
                f"{tight:,} of {len(lengths):,} prompts of the suite {suite.name} do not fit (the "
                f"longest has {max(lengths):,})",
                f"evaluate.max_tokens={config.evaluate.max_tokens}",
                "lower it, or take the long rows out", fatal=tight == len(lengths),
            )  # fmt: skip


def _unused_tokens(config: RunConfig, table: pa.Table) -> Iterator[Problem]:
    texts = pc.struct_field(pc.list_flatten(table["prompt"]), "content")
    for token in config.downstream.special_tokens:
        held = [pc.any(pc.match_substring(c, token)).as_py() for c in (texts, table["answer"])]
        if not any(held):
            yield Problem(
                f"the token is declared, and none of {len(table):,} downstream rows holds it, so "
                "it would not be trained", f"downstream.special_tokens={token!r}",
                "write it as the rows do, or leave it out (downstream.special_tokens={})",
            )  # fmt: skip


def _thoughts(subject: Subject, rows: Sequence[dict[str, Any]]) -> Iterator[Problem]:
    marks = thoughts_of(subject.config.model)
    held = sum(bool(separate(row["answer"] or "", marks)[0]) for row in rows)
    if held and look(subject.tokenizer).head.rstrip().endswith(marks.end if marks else "\0"):
        yield Problem(
            f"{held:,} of {len(rows):,} answers begin with thoughts, which are learned; in "
            "synthesis and evaluation the prompt closes an empty one, so models answer at once",
            "downstream", fatal=False,
        )  # fmt: skip


def _refused(found: Sequence[Encoded | Refused]) -> Iterator[Problem]:
    reasons = _reasons(found)
    lost = sum(reasons.values())
    if not lost:
        return
    if lost == len(found):
        yield _impossible("downstream", reasons, lost, "downstream.turns.system=drop")
        return
    said = ", ".join(f"{n:,}: {reason}" for reason, n in reasons.most_common(3))
    yield Problem(
        f"{lost:,} of {len(found):,} rows cannot be trained on and will be set aside ({said})",
        "downstream", "; or ".join(advice_for(reasons)), fatal=False,
    )  # fmt: skip


def _impossible(setting: str, reasons: Counter[str], rows: int, drop: str) -> Problem:
    said = ", ".join(reason for reason, _ in reasons.most_common(2))
    advice = advice_for(reasons)
    if all(r.startswith(REFUSES) and "system" in r.lower() for r in reasons):
        advice = [f"set {drop}"]
    return Problem(f"none of {rows:,} rows can be used ({said})", setting, "; or ".join(advice))


def _reasons(found: Sequence[Any]) -> Counter[str]:
    return Counter(one.reason for one in found if isinstance(one, Refused))


def _lengths(subject: Subject, texts: Sequence[str | Refused]) -> list[int]:
    """Tokens of the prompts that the template takes."""
    said = [text for text in texts if isinstance(text, str)]
    if not said:
        return []
    ids = subject.tokenizer(said, add_special_tokens=False)["input_ids"]
    return [len(own) for own in ids]


def _some(table: pa.Table, most: int) -> list[dict[str, Any]]:
    """Up to ``most`` rows, evenly over the table."""
    step = max(1, -(-len(table) // most))
    rows: list[dict[str, Any]] = table.take(pa.array(range(0, len(table), step))).to_pylist()
    return rows
