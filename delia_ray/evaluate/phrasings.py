"""Every row of a suite in several phrasings; pure, no Ray.

A phrasing has a number: 0 is the row as it stands in the suite, 1 to ``Suite.phrasings`` are
other wordings of its instruction. A number means the same wording in all rows with the same
instruction (in the miniature: with the same task), so the accuracy of one phrasing over such
rows says something. A row may lack some numbers.
"""

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from delia_ray import miniature
from delia_ray.chats.thoughts import Thoughts, separate
from delia_ray.config import RunConfig, Suite
from delia_ray.engines import Completion, Request
from delia_ray.errors import UserError
from delia_ray.evaluate.metrics import BatchMetric, make_metric
from delia_ray.evaluate.scoring import score_suite
from delia_ray.models import thoughts_of
from delia_ray.records import Message, digest
from delia_ray.rewording import (
    put_back,
    reword,
    rewording_problem,
    split_instruction,
    with_instruction,
)

Row = Mapping[str, Any]
"""``prompt`` and ``answer`` of ``records.EXAMPLE``."""
Prompts = dict[int, list[Message]]
"""Number of the phrasing -> prompt."""


@dataclass(frozen=True)
class Phrasings:
    """What a suite's rows are asked."""

    prompts: list[Prompts]
    """For each row, in order; all have 0."""
    counts: dict[str, Any]
    """``asked``, ``kept``, ``set_aside`` (reason -> number), which add up, of wordings;
    ``rows`` and ``rows_reworded`` (with at least one other phrasing)."""

    def cells(self) -> list[tuple[int, int]]:
        """(row, phrasing) of every prompt, row by row."""
        return [(row, number) for row, p in enumerate(self.prompts) for number in p]


def check_phrasings(suite: Suite) -> None:
    """
    Raises:
        UserError: the suite is to be asked in several phrasings, and its main metric says
            nothing of a single row.
    """
    if suite.phrasings and not isinstance(make_metric(suite.metrics[0]), BatchMetric):
        raise UserError(
            f"suite {suite.name}: phrasings={suite.phrasings} compares the scores of a row's "
            f"phrasings, and its main metric {suite.metrics[0].name} scores only whole suites; "
            "put a metric of rows first in `metrics` (exact_match, for example), or set "
            "phrasings=0"
        )


def reworded_by_model(suite: Suite) -> bool:
    """Whether the base model has to word the suite anew."""
    return suite.phrasings > 0 and suite.format != "miniature"


def phrasing_settings(config: RunConfig) -> dict[str, Any]:
    """What the wordings depend on, beside the suites, the model and the seed; empty where no
    suite is reworded by the model."""
    if not any(map(reworded_by_model, config.evaluate.suites)):
        return {}
    return {
        # How many, the suites say.
        "reword": config.synthesize.reword.model_dump(
            mode="json", exclude={"per_row", "placement"}
        ),
        "rules": config.synthesize.rules.model_dump(mode="json"),
        "special_tokens": config.downstream.special_tokens,
    }


def as_they_are(rows: Sequence[Row]) -> Phrasings:
    """Each row in its own wording only."""
    return Phrasings([{0: list(row["prompt"])} for row in rows], {})


def of_the_miniature(suite: Suite, rows: Sequence[Row]) -> Phrasings:
    """The world's own wordings of ``rows``, which are of a part of it; nothing is generated.

    Args:
        suite: with ``format: miniature``.
        rows: as ingest wrote them; some may have been left out.

    Raises:
        UserError: a row is not of the part that the suite names.
    """
    known = {
        _texts(prompts[0]): prompts
        for prompts in miniature.rewordings(suite.path, suite.rows or len(rows), suite.phrasings)
    }
    found: list[Prompts] = []
    for row in rows:
        prompts = known.get(_texts(row["prompt"]))
        if prompts is None:
            raise UserError(
                f"suite {suite.name}: the row {row['prompt'][-1]['content']!r} is not of the part "
                f"{suite.path} of the miniature; set phrasings=0"
            )
        found.append({n: [_message(m) for m in prompt] for n, prompt in prompts.items()})
    asked, kept = suite.phrasings * len(rows), sum(len(p) - 1 for p in found)
    aside = {"the world has no further wording": asked - kept} if kept < asked else {}
    return Phrasings(found, _counts(asked, kept, aside, found))


def phrasing_scores(
    suite: Suite,
    asked: Phrasings,
    references: Sequence[str],
    outputs: Sequence[str],
    failed: Sequence[bool],
    thoughts: Thoughts | None = None,
) -> list[dict[int, float]]:
    """The main metric of one arm for each row and phrasing, as ``robustness`` takes it.

    Args:
        references: of the rows.
        outputs, failed: of ``asked.cells()``, in this order; a failed one counts as wrong.
        thoughts: see ``scoring.score_suite``.
    """
    cells = asked.cells()
    scored = score_suite(
        suite.model_copy(update={"metrics": suite.metrics[:1]}),
        outputs,
        [references[row] for row, _ in cells],
        failed,
        prompts=[asked.prompts[row][number] for row, number in cells],
        thoughts=thoughts,
        resamples=1, confidence=0.5, seed=0,  # its interval is not used
    )  # fmt: skip
    if scored.rows is None:
        raise ValueError(f"suite {suite.name!r}: {suite.metrics[0].name} has no score of a row")
    found: list[dict[int, float]] = [{} for _ in asked.prompts]
    for (row, number), score in zip(cells, scored.rows, strict=True):
        found[row][number] = score
    return found


class ModelWordings:
    """Wordings of a suite's instructions by the base model: asked for, then judged.

    Each distinct instruction is asked for ``suite.phrasings`` times; what is judged bad is set
    aside and not replaced.
    """

    def __init__(
        self, config: RunConfig, suite: Suite, rows: Sequence[Row], control: Collection[str]
    ) -> None:
        """``control``: tokens that no wording may hold (``models.control_tokens``)."""
        self.suite, self.rows, self.control = suite, rows, control
        self.thoughts = thoughts_of(config.model)
        self.seed, self.tokens = config.seed, config.downstream.special_tokens
        self.reword = config.synthesize.reword.for_model(config.model)
        self.rules = config.synthesize.rules
        self.instructions = list(dict.fromkeys(map(self._instruction, rows)))

    def requests(self) -> Iterator[Request]:
        """In the order of the rows; keys begin with ``reword/`` and the suite's name."""
        sampling = self.reword.sampling
        for number, instruction in enumerate(self.instructions):
            own = [token for token in self.tokens if token in instruction]
            for variant in range(1, self.suite.phrasings + 1):
                # The same in all suites: the same instruction gets the same wordings.
                identity = ["phrasing", self.seed, instruction, variant]
                yield Request(
                    key=self._key(number, variant),
                    messages=reword(self.reword, instruction, self._register(variant), own),
                    max_tokens=sampling.max_tokens,
                    temperature=sampling.temperature,
                    top_p=sampling.top_p,
                    seed=int(digest(identity, 7), 16) if sampling.temperature else 0,
                )

    def judge(self, done: Mapping[str, Completion]) -> Phrasings:
        """The rows with the good wordings among ``done`` (by key).

        The counts have ``instructions`` (distinct ones) and ``withheld`` too: how often a good
        wording is kept from a row, by reason.
        """
        wordings: dict[str, list[str]] = {}
        aside: Counter[str] = Counter()
        for number, instruction in enumerate(self.instructions):
            kept = wordings.setdefault(instruction, [])
            for variant in range(1, self.suite.phrasings + 1):
                made = done[self._key(number, variant)]
                said = separate(made.text, self.thoughts)[1].strip()
                text = put_back(said, self.reword, instruction, list(self.tokens))
                # What fits the instruction may still give one row's answer away.
                problem = self._problem(text, made.finish_reason, instruction, "", kept)
                if problem is None:
                    kept.append(text)
                else:
                    aside[problem] += 1
        withheld: Counter[str] = Counter()
        found: list[Prompts] = []
        for row in self.rows:
            instruction = self._instruction(row)
            prompts: Prompts = {0: list(row["prompt"])}
            for number, text in enumerate(wordings[instruction], 1):
                answer = row["answer"] or ""
                if problem := self._problem(text, "stop", instruction, answer, []):
                    withheld[problem] += 1
                else:
                    prompts[number] = with_instruction(row["prompt"], self.reword.part, text)
            found.append(prompts)
        asked = len(self.instructions) * self.suite.phrasings
        counts = _counts(asked, sum(map(len, wordings.values())), aside, found)
        extra = {"instructions": len(self.instructions), "withheld": dict(withheld)}
        return Phrasings(found, counts | extra)

    def _instruction(self, row: Row) -> str:
        return split_instruction(row["prompt"][-1]["content"], self.reword.part)[1]

    def _register(self, variant: int) -> str:
        return self.reword.registers[(variant - 1) % len(self.reword.registers)]

    def _key(self, number: int, variant: int) -> str:
        return f"reword/{self.suite.name}/{number}/{variant}"

    def _problem(
        self, text: str, finish_reason: str, instruction: str, answer: str, kept: Sequence[str]
    ) -> str | None:
        return rewording_problem(
            text, finish_reason, instruction, answer, kept, self.tokens, self.control,
            self.rules, self.reword,
        )  # fmt: skip


def _counts(
    asked: int, kept: int, aside: Mapping[str, int], prompts: Sequence[Prompts]
) -> dict[str, Any]:
    return {
        "asked": asked,
        "kept": kept,
        "set_aside": dict(aside),
        "rows": len(prompts),
        "rows_reworded": sum(len(p) > 1 for p in prompts),
    }


def _texts(prompt: Sequence[Mapping[str, str]]) -> tuple[str, ...]:
    return tuple(m["content"] for m in prompt)


def _message(turn: Mapping[str, str]) -> Message:
    return {"role": turn["role"], "content": turn["content"]}
