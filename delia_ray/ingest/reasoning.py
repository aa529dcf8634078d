"""How a model's chat template writes the reasoning before an answer."""

import itertools
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from delia_ray import models
from delia_ray.chats.format import REFUSALS

_KEY = "reasoning_content"
"""The name under which templates look for it."""
_ASKED, _THOUGHT, _SAID = "\u2058asked\u2058", "\u2058thought\u2058", "\u2058said\u2058"


def marks_of(model: str) -> tuple[str, str] | None:
    """What the template of ``model`` writes before and after reasoning; None where it knows none.

    Raises:
        UserError: the model is not there.
    """
    folder = models.locate(model)
    if _KEY not in _template(Path(folder)):  # loading a tokenizer takes seconds
        return None
    return marks_in(models.published_tokenizer(folder))


def _template(folder: Path) -> str:
    """The text of all that may hold the chat template."""
    found = [file.read_text("utf-8", "replace") for file in folder.glob("*.jinja")]
    config = folder / "tokenizer_config.json"
    if config.exists():
        found.append(json.dumps(json.loads(config.read_text("utf-8")).get("chat_template")))
    return "".join(found)


def marks_in(tokenizer: Any) -> tuple[str, str] | None:
    """The same, of a tokenizer with a chat template.

    An answer that holds its reasoning between the two is rendered exactly as one whose reasoning
    stands apart in ``reasoning_content``; where it is not, the answer counts as None too.
    """

    def render(said: Mapping[str, str], prompt: bool = False) -> str:
        turns: Sequence[Mapping[str, str]] = [{"role": "user", "content": _ASKED}]
        turns = turns if prompt else [*turns, {"role": "assistant", **said}]
        found = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=prompt)
        return str(found)

    try:
        whole = render({"content": _SAID, _KEY: _THOUGHT})
        opened = render({}, prompt=True)
        at, end = whole.find(_THOUGHT), whole.find(_SAID)
        if not 0 <= at < end:
            return None
        same = itertools.takewhile(
            lambda pair: pair[0] == pair[1], zip(whole, opened, strict=False)
        )
        begin = sum(1 for _ in same)
        before, after = whole[begin:at], whole[at + len(_THOUGHT) : end]
        if render({"content": f"{before}{_THOUGHT}{after}{_SAID}"}) != whole:
            return None
    except REFUSALS:
        return None
    return before, after
