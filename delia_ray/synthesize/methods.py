"""Ways to make diverse rows: where the queries come from, and which chat asks for an answer.

Adding one: a class with ``queries`` and ``chat`` as in ``Method``, a line in ``METHODS``, a
member of ``config.Synthesize.method``, a test.
"""

import math
from collections.abc import Iterable, Iterator
from typing import Any, Protocol

from delia_ray.artifacts import Folder
from delia_ray.records import Message, content_id
from delia_ray.synthesize import prompts
from delia_ray.synthesize.checks import answer_problem
from delia_ray.synthesize.generate import Generator
from delia_ray.synthesize.requests import Asker

Query = dict[str, Any]
"""``id``, ``source``, ``prompt`` and ``answer`` (the reference or None) of ``records.QUERY``."""

_TRIES = 20
"""Inventions per query needed before the model is given up as out of ideas."""


class Method(Protocol):
    """The contract. The pool of queries is one fixed sequence, whatever part is used."""

    rejected: list[dict[str, Any]]
    """Queries that were set aside, as ``records.ANSWER``."""

    def queries(self, count: int, generator: Generator | None) -> Iterable[Query]:
        """The first ``count`` queries of the pool, or all there are; may be iterated often.

        Without a generator: only what is known before anything is generated.
        """
        ...

    def chat(self, query: Query) -> list[Message]:
        """The chat whose next turn is the answer."""
        ...


class Plain:
    """The corpus's queries, each asked alone."""

    def __init__(self, corpus: Folder, ask: Asker, slack: float) -> None:
        self.corpus = corpus
        self.rejected: list[dict[str, Any]] = []

    def queries(self, count: int, generator: Generator | None) -> Iterable[Query]:
        return _Rows(self.corpus, count)

    def chat(self, query: Query) -> list[Message]:
        return prompts.self_sample(query["prompt"], None)


class SelfSample(Plain):
    """The corpus's queries, each asked again after its reference answer (paper, step 1)."""

    def chat(self, query: Query) -> list[Message]:
        return prompts.self_sample(query["prompt"], query["answer"])


class Magpie:
    """Queries that the model itself invents where a user would speak (arXiv 2406.08464)."""

    def __init__(self, corpus: Folder, ask: Asker, slack: float) -> None:
        self.ask, self.slack = ask, slack
        self.rejected: list[dict[str, Any]] = []

    def queries(self, count: int, generator: Generator | None) -> Iterable[Query]:
        """Invention i is a function of the seed and i, so more of them begin with the same."""
        tries = math.ceil(count * (1 + self.slack))
        while generator is not None:
            keys = [self.ask.invention(i).key for i in range(tries)]
            done = generator.complete(lambda n=tries: map(self.ask.invention, range(n)))  # type: ignore[misc]
            good = self._judge(done.of(keys))
            if len(good) >= count or tries >= _TRIES * count:
                return good[:count]
            share = max(len(good) / tries, 1 / _TRIES)
            tries = min(_TRIES * count, math.ceil(count / share * (1 + self.slack)) + 8)
        return []

    def chat(self, query: Query) -> list[Message]:
        return prompts.self_sample(query["prompt"], None)

    def _judge(self, inventions: Iterable[dict[str, Any]]) -> list[Query]:
        good: dict[str, Query] = {}
        self.rejected = []
        before = self.ask.opening
        for made in inventions:
            text = made["text"].strip()
            prompt: list[Message] = [*before, {"role": "user", "content": text}]
            identity = content_id(prompt, None)
            reason = answer_problem(text, made["finish_reason"], self.ask.control, self.ask.rules)
            if reason is None and identity in good:
                reason = "invented before"
            if reason is None:
                query = {"id": identity, "source": "magpie", "prompt": prompt, "answer": None}
                good[identity] = query
            else:
                self.rejected.append(
                    {"id": identity, "source": "magpie", "prompt": prompt, "answer": "",
                     "finish_reason": made["finish_reason"],
                     "completion_tokens": made["completion_tokens"], "reason": f"query: {reason}"}
                )  # fmt: skip
        return list(good.values())


METHODS: dict[str, type[Plain] | type[SelfSample] | type[Magpie]] = {
    "self_sample": SelfSample,
    "plain": Plain,
    "magpie": Magpie,
}
"""``synthesize.method`` -> class."""


class _Rows:
    """The first rows of a finished corpus; every iteration reads them anew, batch by batch."""

    def __init__(self, folder: Folder, count: int) -> None:
        self.folder, self.count = folder, count

    def __iter__(self) -> Iterator[Query]:
        left = self.count
        with self.folder.table("corpus.parquet") as table:
            for batch in table.batches(["id", "source", "prompt", "answer"], rows=4096):
                yield from batch.slice(0, left).to_pylist()
                left -= min(left, len(batch))
                if not left:
                    return
