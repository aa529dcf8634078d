"""``delia chat``: ask a model of a run by hand."""

import sys

from delia_ray.artifacts import Folder
from delia_ray.config import RunConfig, TransformersEngine
from delia_ray.engines import Request, make_engine
from delia_ray.errors import UserError
from delia_ray.records import Message


def chat(config: RunConfig, finetuned: Folder | None, arm: str, max_tokens: int) -> None:
    """Read user turns from standard input until its end; ``/new`` starts a new chat.

    A line that ends in a backslash goes on in the next one.

    Raises:
        UserError: the arm is not trained yet.
    """
    if arm == "base":
        model = config.model
    elif finetuned is not None:
        model = (finetuned / arm).download("merged")
    else:
        raise UserError(
            f"arm {arm} of this run is not trained yet; finish it with `delia finetune`"
        )
    from transformers.utils import logging

    logging.disable_progress_bar()
    generate = make_engine(TransformersEngine(), model).load()
    tty = sys.stdin.isatty()
    print(f"{arm} of {config.name}; /new for a new chat, Ctrl-D to leave")
    history: list[Message] = []
    while (text := _turn("> " if tty else "")) is not None:
        if text.strip() == "/new":
            history = []
            continue
        history.append({"role": "user", "content": text})
        answer = generate([Request("chat", history, max_tokens)])[0].text
        history.append({"role": "assistant", "content": answer})
        print(answer, flush=True)


def _turn(prompt: str) -> str | None:
    lines: list[str] = []
    try:
        while True:
            line = input(prompt if not lines else "")
            if not line.endswith("\\"):
                return "\n".join([*lines, line])
            lines.append(line[:-1])
    except EOFError:
        return "\n".join(lines) if lines else None
