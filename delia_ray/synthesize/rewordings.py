"""The downstream instructions in other words: what is asked, and which wordings are kept.

Rows with the same instruction are one task. Its wordings come from the requests of all its
rows; each that is kept is kept once, and the rows take them in turn.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

from delia_ray.engines import Request
from delia_ray.records import REWORDING, conform, uniform
from delia_ray.synthesize import prompts
from delia_ray.synthesize.checks import placement_problem, rewording_problem
from delia_ray.synthesize.generate import Completions
from delia_ray.synthesize.requests import Asker

Row = dict[str, Any]


class Rewordings:
    """Of the rows ``downstream`` (``records.EXAMPLE``)."""

    def __init__(self, downstream: list[Row], ask: Asker, tokens: dict[str, str]) -> None:
        self.rows, self.ask, self.tokens = downstream, ask, tokens
        self.config = ask.config.reword
        self.tasks: dict[str, list[int]] = {}
        """Instruction -> the rows that ask it."""
        for at, row in enumerate(downstream):
            self.tasks.setdefault(self._split(row)[1], []).append(at)
        self.first = {row["id"]: at for at, row in reversed(list(enumerate(downstream)))}

    def _split(self, row: Row) -> tuple[str, str]:
        return prompts.split_instruction(row["prompt"][-1]["content"], self.config.part)

    def _register(self, at: int, variant: int) -> str:
        return self.config.registers[(at + variant - 1) % len(self.config.registers)]

    def requests(self) -> Iterator[Request]:
        """In the order of the rows, ``per_row`` for each."""
        for at, row in enumerate(self.rows):
            for variant in range(1, self.config.per_row + 1):
                _, instruction = self._split(row)
                chat = prompts.reword(self.config.prompt, instruction, self._register(at, variant))
                yield self.ask.rewording(chat, [row["id"], variant])

    def judge(self, done: Completions) -> tuple[Any, Any, dict[str, Any]]:
        """(kept, set aside, counts); both tables as ``records.REWORDING``."""
        completions = list(done.of(r.key for r in self.requests()))
        aside: list[Row] = []
        kept: list[Row] = []
        wordings = 0
        for instruction, rows in self.tasks.items():
            pool: dict[str, str] = {}  # wording -> register
            for at in rows:
                mine: list[str] = []
                for variant in range(1, self.config.per_row + 1):
                    made = completions[at * self.config.per_row + variant - 1]
                    text = self.ask.said(made["text"])
                    register = self._register(at, variant)
                    reason = self._problem(at, text, made["finish_reason"], instruction, mine)
                    if reason is None and text in pool:
                        reason = "another row of the task has it"
                    if reason is None:
                        mine.append(text)
                        pool[text] = register
                    else:
                        aside.append(self._row(at, variant, text, register, reason))
            wordings += len(pool)
            texts = list(pool.items())
            for turn, at in enumerate(rows):
                if self.first[self.rows[at]["id"]] == at:  # a row may stand there twice
                    kept += self._deal(at, turn, texts, instruction)
        kept.sort(key=lambda r: (self.first[r["id"]], r["variant"]))
        counts = {
            "asked": len(completions),
            "kept": wordings,
            "set_aside": dict(Counter(r["reason"] for r in aside)),
            "tasks": len(self.tasks),
            "rows_reworded": len({r["id"] for r in kept}),
            "placed": dict(Counter(r["placement"] for r in kept)),
        }
        return conform(kept, REWORDING), conform(aside, REWORDING), counts

    def _deal(
        self, at: int, turn: int, texts: list[tuple[str, str]], instruction: str
    ) -> Iterable[Row]:
        """Up to ``per_row`` wordings of the task for one row, each row starting elsewhere."""
        dealt: list[str] = []
        for i in range(len(texts)):
            text, register = texts[(turn * self.config.per_row + i) % len(texts)]
            if len(dealt) == self.config.per_row:
                break
            # What fits the row that it was asked for may give another row's answer away.
            if self._problem(at, text, "stop", instruction, dealt) is None:
                dealt.append(text)
                yield self._row(at, len(dealt), text, register, None)

    def _problem(
        self, at: int, text: str, finish_reason: str, instruction: str, kept: list[str]
    ) -> str | None:
        row = self.rows[at]
        problem = rewording_problem(
            text, finish_reason, instruction, row["answer"], kept, self.tokens,
            self.ask.control, self.ask.rules, self.config.max_similarity,
        )  # fmt: skip
        placed = self._row(at, len(kept) + 1, text, "", None)["prompt"]
        return problem or placement_problem(placed, row["prompt"], self._split(row)[0])

    def _row(self, at: int, variant: int, text: str, register: str, reason: str | None) -> Row:
        row, places = self.rows[at], self.config.placement
        drawn = uniform(self.ask.seed, "placement", row["id"], variant)
        placement = places[int(drawn * len(places))]
        return {
            "id": row["id"],
            "variant": variant,
            "prompt": prompts.with_instruction(row["prompt"], self.config.part, text, placement),
            "register": register.strip(),
            "placement": placement,
            "reason": reason,
        }
