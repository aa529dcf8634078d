"""``delia chat``: ask a model of a run, or one that was exported, by hand."""

import sys

from delia_ray.artifacts import Folder
from delia_ray.chats.thoughts import separate
from delia_ray.config import RunConfig, TransformersEngine
from delia_ray.engines import Request, make_engine
from delia_ray.errors import UserError
from delia_ray.models import thoughts_of
from delia_ray.records import Message
from delia_ray.redaction import is_redacted


def model_of(config: RunConfig, finetuned: Folder | None, arm: str) -> str:
    """What ``models.locate`` takes for an arm of a run.

    Args:
        config: the run's.
        finetuned: the folder of its finished stage finetune, if there is one.
        arm: ``base``, or an arm of the run.

    Raises:
        UserError: there is no such arm, or it is not trained yet.
    """
    if arm == "base":
        if is_redacted(config.model):
            raise UserError(
                f"--arm base: the run's recipe names its model {config.model}, and credentials are "
                "not kept with a run; choose an arm, or download the model and chat with its folder"
            )
        return config.model
    if arm not in config.arms:
        raise UserError(f"--arm {arm}: the run has base, {', '.join(config.arms)}")
    if finetuned is None:
        raise UserError(
            f"arm {arm} of this run is not trained yet; finish it with `delia finetune`"
        )
    return str(finetuned / arm / "merged")


def chat(model: str, title: str, max_tokens: int) -> None:
    """Read user turns from standard input until its end; ``/new`` starts a new chat.

    A line that ends in a backslash goes on in the next one.

    Args:
        model: a name for ``models.locate``.
        title: what to call it.
        max_tokens: longest answer.

    Raises:
        UserError: there is no such model.
    """
    from transformers.utils import logging

    logging.disable_progress_bar()
    thoughts = thoughts_of(model)
    generate = make_engine(TransformersEngine(), model).load()
    tty = sys.stdin.isatty()
    print(f"{title}; /new for a new chat, Ctrl-D to leave")
    history: list[Message] = []
    while (text := _turn("> " if tty else "")) is not None:
        if text.strip() == "/new":
            history = []
            continue
        history.append({"role": "user", "content": text})
        made = generate([Request("chat", history, max_tokens)])[0].text
        thought, answer = separate(made, thoughts)
        history.append({"role": "assistant", "content": answer})
        if thought:
            print(f"[thought] {thought}")
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
