"""Several diverse instructions in one example (after Mosaic-IT, arXiv 2405.13326).

A model that answers a list of instructions in order has to keep them apart, which a single
instruction never asks of it. Rows of one source that stand near each other in the pool are
numbered in the prompt and answered under their numbers.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

REQUEST = "Answer each of these {count} requests, in this order, under its number."

Row = Mapping[str, Any]


def mosaic(rows: Iterable[Row], size: int) -> Iterator[dict[str, Any]]:
    """Examples of ``size`` rows each, as soon as a source has that many; what is left of a
    source at the end makes a smaller one. Rows with more than one turn, or with a system
    message, pass unchanged. No row is lost.
    """
    waiting: dict[str, list[Row]] = {}
    for row in rows:
        if size == 1 or [m["role"] for m in row["prompt"]] != ["user"]:
            yield dict(row)
            continue
        group = waiting.setdefault(row["source"], [])
        group.append(row)
        if len(group) == size:
            yield _join(waiting.pop(row["source"]))
    for group in waiting.values():
        yield _join(group)


def _join(rows: list[Row]) -> dict[str, Any]:
    """One row; it has the id and number of the first."""
    if len(rows) == 1:
        return dict(rows[0])
    asked = _numbered([r["prompt"][0]["content"] for r in rows])
    prompt = f"{REQUEST.format(count=len(rows))}\n\n{asked}"
    answer = _numbered([r["answer"] for r in rows])
    return {**rows[0], "prompt": [{"role": "user", "content": prompt}], "answer": answer}


def _numbered(texts: list[str]) -> str:
    return "\n\n".join(f"{number}. {text}" for number, text in enumerate(texts, start=1))
