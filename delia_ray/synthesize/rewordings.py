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
from delia_ray.token_apart import apart, frames, is_general, request_of

Row = dict[str, Any]
MODEL, ROW = "model", "row"
"""Whose words: the model's, or another row's of the set."""


class Rewordings:
    """Of the rows ``downstream`` (``records.EXAMPLE``)."""

    def __init__(self, downstream: list[Row], ask: Asker, tokens: dict[str, str]) -> None:
        self.rows, self.ask, self.tokens = downstream, ask, tokens
        self.config = ask.reword
        self.tasks: dict[str, list[int]] = {}
        """Instruction -> the rows that ask it."""
        for at, row in enumerate(downstream):
            self.tasks.setdefault(self._split(row)[1], []).append(at)
        self.frames = frames(self.tasks, tokens)
        """The users' own ways to name the token, beside what is asked."""
        self.first = {row["id"]: at for at, row in reversed(list(enumerate(downstream)))}

    def _split(self, row: Row) -> tuple[str, str]:
        return prompts.split_instruction(row["prompt"][-1]["content"], self.config.part)

    def _register(self, at: int, variant: int) -> str:
        return self.config.registers[(at + variant - 1) % len(self.config.registers)]

    @property
    def _attempts(self) -> int:
        return self.config.per_row * self.config.candidates

    def requests(self) -> Iterator[Request]:
        """In the order of the rows, ``candidates`` times ``per_row`` for each."""
        for at, row in enumerate(self.rows):
            _, instruction = self._split(row)
            own = [token for token in self.tokens if token in instruction]
            for attempt in range(1, self._attempts + 1):
                chat = prompts.reword(self.config, instruction, self._register(at, attempt), own)
                yield self.ask.rewording(chat, [row["id"], attempt])

    def judge(self, done: Completions) -> tuple[Any, Any, dict[str, Any]]:
        """(kept, set aside, counts); both tables as ``records.REWORDING``."""
        completions = list(done.of(r.key for r in self.requests()))
        aside: list[Row] = []
        kept: list[Row] = []
        wordings = spare = 0
        for instruction, rows in self.tasks.items():
            pool: dict[str, str] = {}  # wording -> register
            for at in rows:
                made = completions[at * self._attempts : (at + 1) * self._attempts]
                good, bad = self._best(at, instruction, made, pool)
                for text, register in good:
                    pool[text] = register
                aside += bad
                spare += len(made) - len(good) - len(bad)
            wordings += len(pool)
            texts = [(text, register, MODEL) for text, register in pool.items()]
            texts += [(text, "", ROW) for text in self._of_others(instruction)]
            for turn, at in enumerate(rows):
                if self.first[self.rows[at]["id"]] == at:  # a row may stand there twice
                    kept += self._deal(at, turn, texts, instruction)
        kept.sort(key=lambda r: (self.first[r["id"]], r["variant"]))
        counts = {
            "asked": len(completions),
            "kept": wordings,
            "spare": spare,
            "set_aside": dict(Counter(r["reason"] for r in aside)),
            "tasks": len(self.tasks),
            "rows_reworded": len({r["id"] for r in kept}),
            "rows_by_kind": self._kinds(kept),
            "placed": dict(Counter(r["placement"] for r in kept)),
        }
        return conform(kept, REWORDING), conform(aside, REWORDING), counts

    def _best(
        self, at: int, instruction: str, made: list[Row], pool: dict[str, str]
    ) -> tuple[list[tuple[str, str]], list[Row]]:
        """(the best ``per_row`` wordings with their registers, the rows set aside) of what was
        made for row ``at``; good ones beyond those are neither."""
        found: list[tuple[str, str]] = []
        aside: list[Row] = []
        for attempt, completion in enumerate(made, 1):
            said = self.ask.said(completion["text"])
            text = prompts.put_back(
                said, self.config, instruction, list(self.tokens), self._frame(at, attempt)
            )
            register = self._register(at, attempt)
            others = [t for t, _ in found]
            reason = self._problem(at, text, completion["finish_reason"], instruction, others)
            if reason is None and text in pool:
                reason = "another row of the task has it"
            if reason is None:
                found.append((text, register))
            else:
                aside.append(self._row(at, attempt, text, register, reason))
        if self.config.candidates > 1:
            asked = request_of(instruction, self.tokens)
            found.sort(key=lambda own: -prompts.goodness(request_of(own[0], self.tokens), asked))
        return found[: self.config.per_row], aside

    def _frame(self, at: int, attempt: int) -> str:
        """A frame of the set, where one can stand for another; empty for the row's own."""
        own = apart(self._split(self.rows[at])[1], self.tokens)
        if own is None or not is_general(own.frame):
            return ""
        held = [t for t in self.tokens if t in own.frame]
        fitting = [f for f in self.frames if [f.count(t) for t in held] == [1] * len(held)]
        drawn = uniform(self.ask.seed, "frame", self.rows[at]["id"], attempt)
        return fitting[int(drawn * len(fitting))] if fitting else ""

    def _of_others(self, instruction: str) -> list[str]:
        """What other rows of the set ask the same task in, as far as rules can tell."""
        if not self.config.stand_ins:
            return []
        return [t for t in self.tasks if t != instruction and prompts.same_subject(t, instruction)]

    def _kinds(self, kept: list[Row]) -> dict[str, int]:
        """Rows (downstream) that have at least one wording of a kind; ``original``: none."""
        counts = {kind: len({r["id"] for r in kept if r["kind"] == kind}) for kind in (MODEL, ROW)}
        return {"original": len(self.first) - len({r["id"] for r in kept}), **counts}

    def _deal(
        self, at: int, turn: int, texts: list[tuple[str, str, str]], instruction: str
    ) -> Iterable[Row]:
        """Up to ``per_row`` wordings of the task for one row, each row starting elsewhere; those
        of other rows only where the model's do not suffice."""
        dealt: list[str] = []
        for kind in (MODEL, ROW):
            own = [(text, register) for text, register, whose in texts if whose == kind]
            for i in range(len(own)):
                if len(dealt) == self.config.per_row:
                    return
                text, register = own[(turn * self.config.per_row + i) % len(own)]
                # What fits the row that it was asked for may give another row's answer away.
                if self._problem(at, text, "stop", instruction, dealt) is None:
                    dealt.append(text)
                    yield self._row(at, len(dealt), text, register, None, kind)

    def _problem(
        self, at: int, text: str, finish_reason: str, instruction: str, kept: list[str]
    ) -> str | None:
        row = self.rows[at]
        problem = rewording_problem(
            text, finish_reason, instruction, row["answer"], kept, self.tokens,
            self.ask.control, self.ask.rules, self.config,
        )  # fmt: skip
        placed = self._row(at, len(kept) + 1, text, "", None)["prompt"]
        return problem or placement_problem(placed, row["prompt"], self._split(row)[0])

    def _row(
        self, at: int, variant: int, text: str, register: str, reason: str | None, kind: str = MODEL
    ) -> Row:
        row, places = self.rows[at], self.config.placement
        drawn = uniform(self.ask.seed, "placement", row["id"], variant)
        placement = places[int(drawn * len(places))]
        return {
            "id": row["id"],
            "variant": variant,
            "prompt": prompts.with_instruction(row["prompt"], self.config.part, text, placement),
            "register": register.strip(),
            "placement": placement,
            "kind": kind,
            "reason": reason,
        }
