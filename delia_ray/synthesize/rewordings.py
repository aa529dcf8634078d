"""The downstream instructions in other words: what is asked, and which wordings are kept.

Rows with the same instruction are one task. Its wordings come from the requests of all its
rows; each that is kept is kept once, and the rows take them in turn.
"""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from delia_ray.engines import Request
from delia_ray.records import REWORDING, conform, uniform
from delia_ray.request_rules import language
from delia_ray.synthesize import prompts
from delia_ray.synthesize.checks import placement_problem, rewording_problem
from delia_ray.synthesize.generate import Completions
from delia_ray.synthesize.model_checks import ROWS, Seen, Task
from delia_ray.synthesize.requests import Asker
from delia_ray.token_apart import apart, frames, is_general, request_of

Row = dict[str, Any]
MODEL, ROW, FRAME, TEMPLATE = "model", "row", "frame", "template"
KINDS = (MODEL, ROW, FRAME, TEMPLATE)
"""Whose words: the model's; another row's of the set; the row's own request beside other rows' ways
to name the token; a template around the row's own instruction. Earlier ones are taken first."""
Look = Callable[[list[Task]], list[list[Seen]]]
Looked = Mapping[tuple[str, str], Seen]
"""(instruction, wording) -> what the model makes of it."""


@dataclass(frozen=True)
class _Made:
    """One wording that the model made for a row."""

    attempt: int
    text: str
    register: str
    reason: str | None
    """Why the rules refuse it."""


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

    def judge(self, done: Completions, look: Look | None = None) -> tuple[Any, Any, dict[str, Any]]:
        """(kept, set aside, counts); both tables as ``records.REWORDING``.

        Args:
            look: what the model makes of the wordings that the rules let pass; None does not ask.
        """
        completions = list(done.of(r.key for r in self.requests()))
        made = {
            at: list(self._made(at, completions[at * self._attempts : (at + 1) * self._attempts]))
            for at in range(len(self.rows))
        }
        seen = self._look(made, look) if look else {}
        aside: list[Row] = []
        kept: list[Row] = []
        wordings = spare = 0
        for instruction, rows in self.tasks.items():
            pool: dict[str, str] = {}  # wording -> register
            for at in rows:
                good, bad = self._best(at, instruction, made[at], pool, seen)
                pool.update((m.text, m.register) for m in good)
                aside += bad
                spare += len(made[at]) - len(good) - len(bad)
            wordings += len(pool)
            texts = [(text, register, MODEL) for text, register in pool.items()]
            texts += [(text, "", kind) for text, kind in self._stand_ins(instruction)]
            for turn, at in enumerate(rows):
                if self.first[self.rows[at]["id"]] == at:  # a row may stand there twice
                    kept += self._deal(at, turn, texts, instruction, seen)
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

    def _made(self, at: int, completions: list[Row]) -> Iterator[_Made]:
        """What the model said for row ``at``, judged by the rules alone."""
        instruction = self._split(self.rows[at])[1]
        passed: list[str] = []
        for attempt, completion in enumerate(completions, 1):
            said = self.ask.said(completion["text"])
            text = prompts.put_back(
                said, self.config, instruction, list(self.tokens), self._frame(at, attempt)
            )
            reason = self._problem(at, text, completion["finish_reason"], instruction, passed)
            if reason is None:
                passed.append(text)
            yield _Made(attempt, text, self._register(at, attempt), reason)

    def _look(self, made: dict[int, list[_Made]], look: Look) -> Looked:
        """(instruction, wording) -> what the model makes of it, of those that passed the rules."""
        tasks: list[Task] = []
        for instruction, rows in self.tasks.items():
            passed = [m.text for at in rows for m in made[at] if m.reason is None]
            if passed:
                tasks.append(self._task(instruction, tuple(dict.fromkeys(passed)), rows))
        return {
            (task.original, text): one
            for task, seen in zip(tasks, look(tasks), strict=True)
            for text, one in zip(task.wordings, seen, strict=True)
        }

    def _task(self, instruction: str, wordings: tuple[str, ...], rows: list[int]) -> Task:
        some = [self.rows[at] for at in rows[:ROWS]]
        part = self.config.part
        return Task(
            instruction,
            wordings,
            tuple(prompts.with_instruction(r["prompt"], part, "") for r in some),
            tuple(
                tuple(prompts.with_instruction(r["prompt"], part, text) for r in some)
                for text in (instruction, *wordings)
            ),
            tuple(r["answer"] for r in some),
        )

    def _best(
        self, at: int, instruction: str, made: list[_Made], pool: Collection[str], seen: Looked
    ) -> tuple[list[_Made], list[Row]]:
        """(the best ``per_row`` wordings, the rows set aside) of what was made for row ``at``;
        good ones beyond those are neither."""
        found: list[_Made] = []
        aside: list[Row] = []
        for one in made:
            own = seen.get((instruction, one.text))
            reason = one.reason or (own.problem(self.config) if own else None)
            if reason is None and one.text in pool:
                reason = "another row of the task has it"
            if reason is None:
                found.append(one)
            else:
                aside.append(self._row(at, one.attempt, one.text, one.register, reason, seen=own))
        if self.config.candidates > 1:
            asked = request_of(instruction, self.tokens)
            found.sort(key=lambda m: -prompts.goodness(request_of(m.text, self.tokens), asked))
        return found[: self.config.per_row], aside

    def _frame(self, at: int, attempt: int) -> str:
        """A frame of the set, where one can stand for another; empty for the row's own."""
        own = apart(self._split(self.rows[at])[1], self.tokens)
        fitting = self._fitting(own.frame) if own else []
        drawn = uniform(self.ask.seed, "frame", self.rows[at]["id"], attempt)
        return fitting[int(drawn * len(fitting))] if fitting else ""

    def _fitting(self, frame: str) -> list[str]:
        """Frames of the set that can stand for ``frame``, with it; none where it says more than
        how to answer."""
        if not is_general(frame):
            return []
        held = [t for t in self.tokens if t in frame]
        return [f for f in self.frames if [f.count(t) for t in held] == [1] * len(held)]

    def _stand_ins(self, instruction: str) -> Iterator[tuple[str, str]]:
        """(text, kind) of what is there without the model: what other rows of the set ask the
        same task in, as far as rules can tell; the instruction's request beside their ways to name
        the token; templates around it."""
        if not self.config.stand_ins:
            return
        for text in self.tasks:
            if text != instruction and prompts.same_subject(text, instruction):
                yield text, ROW
        own = apart(instruction, self.tokens)
        if own is not None:
            for frame in self._fitting(own.frame):
                if frame != own.frame:
                    yield own.joined(own.request, frame), FRAME
        if language(instruction) in (None, "English") or self.config.has_own_templates:
            for template in self.config.templates:
                yield template.replace("{request}", instruction.strip()), TEMPLATE

    def _kinds(self, kept: list[Row]) -> dict[str, int]:
        """Rows (downstream) that have at least one wording of a kind; ``original``: none."""
        counts = {kind: len({r["id"] for r in kept if r["kind"] == kind}) for kind in KINDS}
        return {"original": len(self.first) - len({r["id"] for r in kept}), **counts}

    def _deal(
        self,
        at: int,
        turn: int,
        texts: list[tuple[str, str, str]],
        instruction: str,
        seen: Looked,
    ) -> Iterable[Row]:
        """Up to ``per_row`` wordings of the task for one row, each row starting elsewhere; those
        of a later kind only where the ones before do not suffice."""
        dealt: list[str] = []
        for kind in KINDS:
            own = [(text, register) for text, register, whose in texts if whose == kind]
            for i in range(len(own)):
                if len(dealt) == self.config.per_row:
                    return
                text, register = own[(turn * self.config.per_row + i) % len(own)]
                if self._may_stand(at, text, kind, instruction, dealt):
                    dealt.append(text)
                    looked = seen.get((instruction, text)) if kind == MODEL else None
                    yield self._row(at, len(dealt), text, register, None, kind, looked)

    def _may_stand(self, at: int, text: str, kind: str, instruction: str, dealt: list[str]) -> bool:
        """Whether a wording of the task can be this row's. What fits the row that it was asked for
        may give another row's answer away."""
        if kind in (MODEL, ROW):
            return self._problem(at, text, "stop", instruction, dealt) is None
        # The request itself is in it, so it cannot be new; another frame or template is.
        return text not in (instruction, *dealt)

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
        self,
        at: int,
        variant: int,
        text: str,
        register: str,
        reason: str | None,
        kind: str = MODEL,
        seen: Seen | None = None,
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
            "loss_increase": seen.loss if seen else None,
            "nearness": seen.nearness if seen else None,
            "reason": reason,
        }
