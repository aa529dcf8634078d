"""One request asked in many ways: equal wordings, and places where a format may be named.

Two wordings of a request are equal by construction: the same content, task and wish, so the
same right answer. That makes the world an instrument for robustness to phrasing: nothing has
to be reworded by a model, and nothing has to be judged.
"""

import random
from collections import Counter
from dataclasses import dataclass, replace
from functools import cache
from itertools import product

from delia_ray.miniature import phrasings as say
from delia_ray.miniature.world import (
    NEW_FORMAT,
    Request,
    Turns,
    Wish,
    Wording,
    compose,
    draw_operation,
    draw_wording,
    turn,
)

TOGETHER = "together"
UNSEEN_PLACES = ("beginning", "between", "system")
"""Where the sentence about the format stands: with the task in the last paragraph, which is
how training rows have it; alone before the content; alone between content and task; as the
system message."""


@dataclass(frozen=True)
class Asked:
    """A request as it was worded, and the wordings that may stand in its place."""

    request: Request
    wish: Wish
    wording: Wording
    tasks: tuple[str, ...]
    """Wordings of the task, this one among them; the order says which index each has."""
    formats: tuple[str, ...] = ()
    """Wordings of the wish with the slot ``{f}``; none without a wish."""
    mention: str = "{f}"
    """How the format's name is written, around the slot ``{f}``."""
    place: str = TOGETHER

    def prompt(self) -> Turns:
        content, said = self.request.content, self.wording
        if self.place == TOGETHER or not said.format:
            return [turn("user", compose(self.request, said.instruction()))]
        if self.place == "system":
            return [turn("system", said.format), turn("user", compose(self.request, said.task))]
        parts = [content, said.task]
        parts.insert(0 if self.place == "beginning" else 1, said.format)
        return [turn("user", "\n\n".join(part for part in parts if part))]

    def messages(self) -> Turns:
        """The prompt and the right answer to it."""
        return [*self.prompt(), turn("assistant", self.wish.render(self.request.answer))]

    def rewordings(self, k: int) -> dict[int, Turns]:
        """Phrasing -> prompt: the original as 0, and up to `k` others as 1 to `k`.

        Phrasing `j` has the same wordings (by index) in every request with as many of them,
        so that a phrasing can be compared over rows. Where it is the original one, a spare
        wording takes its place; where there is none, the request lacks that phrasing.
        """
        orders = (True, False) if self.formats and self.place == TOGETHER else (True,)
        choices = _varied(len(self.tasks), max(1, len(self.formats)), len(orders))[: k + 1]
        worded = [Wording(self.tasks[t], self._format(f), orders[o]) for t, f, o in choices]
        first, spare = worded[:k], worded[k:]
        prompts = {0: self.prompt()}
        for number, wording in enumerate(first, 1):
            if wording != self.wording:
                prompts[number] = replace(self, wording=wording).prompt()
            elif spare:
                prompts[number] = replace(self, wording=spare[0]).prompt()
        return prompts

    def _format(self, index: int) -> str:
        if not self.formats:
            return ""
        return self.formats[index].format(f=self.mention.format(f=self.wish.name))


@cache
def _varied(*sizes: int) -> list[tuple[int, ...]]:
    """All combinations of indices below `sizes`, in an order that depends on `sizes` alone.

    In any beginning of it each index stands about as often as its fellows, so that even a few
    combinations have many different wordings.
    """
    left = list(product(*map(range, sizes)))
    random.Random(f"rewordings/{sizes}").shuffle(left)
    used: Counter[tuple[int, int]] = Counter()
    chosen = []
    while left:
        chosen.append(min(left, key=lambda c: sum(used[at] for at in enumerate(c))))
        left.remove(chosen[-1])
        used.update(enumerate(chosen[-1]))
    return chosen


def format_elsewhere(rng: random.Random, name: str = NEW_FORMAT) -> Asked:
    """Downstream's request with the sentence about the format where downstream never has it."""
    return _as_downstream(rng, name, place=rng.choice(UNSEEN_PLACES))


def format_doubled(rng: random.Random, name: str = NEW_FORMAT) -> Asked:
    return _as_downstream(rng, name, mention="{f} {f}")


def format_quoted(rng: random.Random, name: str = NEW_FORMAT) -> Asked:
    return _as_downstream(rng, name, mention='"{f}"')


def _as_downstream(
    rng: random.Random, name: str, mention: str = "{f}", place: str = TOGETHER
) -> Asked:
    """Held-out content, downstream's operations and wordings: only one thing is new."""
    request = draw_operation(rng, True, say.DOWNSTREAM_OPERATIONS)
    wish = Wish(name)
    n_task, n_format = say.N_DOWNSTREAM_OPERATION_WORDINGS, say.N_DOWNSTREAM_FORMAT_WORDINGS
    wordings = [w.replace("{f}", mention) for w in wish.wordings()[:n_format]]
    wording = draw_wording(rng, request.wordings()[:n_task], wish, wordings, task_first=1.0)
    return Asked(request, wish, wording, request.wordings(), wish.wordings(), mention, place)
