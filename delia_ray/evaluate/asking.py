"""What is asked: every row of every suite, in its own wording and in others."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from delia_ray.config import RunConfig
from delia_ray.engines import Completion, Request
from delia_ray.evaluate.phrasings import (
    ModelWordings,
    Phrasings,
    as_they_are,
    of_the_miniature,
    reworded_by_model,
)
from delia_ray.models import control_tokens

Rows = Mapping[str, list[dict[str, Any]]]
"""Of each suite: ``prompt`` and ``answer``."""


@dataclass(frozen=True)
class Asked:
    """Suite -> what its rows are asked."""

    phrasings: dict[str, Phrasings]

    def requests(self, max_tokens: int) -> list[Request]:
        """The original of row i has the key ``<suite>/<i>``, its phrasing n ``<suite>/<i>~<n>``."""
        return [
            Request(key_of(suite, i, n), prompt, max_tokens)
            for suite, own in self.phrasings.items()
            for i, prompts in enumerate(own.prompts)
            for n, prompt in prompts.items()
        ]

    def counts(self) -> dict[str, Any]:
        """Of the suites that have phrasings."""
        return {name: own.counts for name, own in self.phrasings.items() if own.counts}


def key_of(suite: str, row: int, phrasing: int = 0) -> str:
    return f"{suite}/{row}" + (f"~{phrasing}" if phrasing else "")


class Asking:
    """Finds the phrasings; the base model is needed for those of suites of one's own."""

    def __init__(self, config: RunConfig, rows: Rows) -> None:
        self.config, self.rows = config, rows
        self.wordings: dict[str, ModelWordings] = {}
        for suite in config.evaluate.suites:
            if reworded_by_model(suite):
                control = control_tokens(config.model, config.downstream.special_tokens)
                own = rows[suite.name]
                self.wordings[suite.name] = ModelWordings(config, suite, own, control)

    def requests(self) -> list[Request]:
        """For the base model: wordings."""
        return [r for own in self.wordings.values() for r in own.requests()]

    def asked(self, done: Mapping[str, Completion]) -> Asked:
        """``done``: the completions of ``requests``."""
        found = {}
        for suite in self.config.evaluate.suites:
            rows = self.rows[suite.name]
            if suite.name in self.wordings:
                found[suite.name] = self.wordings[suite.name].judge(done)
            elif suite.phrasings:
                found[suite.name] = of_the_miniature(suite, rows)
            else:
                found[suite.name] = as_they_are(rows)
        return Asked(found)
