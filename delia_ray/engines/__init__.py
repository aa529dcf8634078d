"""Engines: chat in, text out. One file per engine, one line in ``ENGINES``.

Adding one: a class with ``map`` and ``load`` as in ``Engine``, a line in the table, a
member of ``delia_ray.config.Engine``, a test.
"""

import importlib
import importlib.util
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from delia_ray.config import AutoEngine, TransformersEngine, VllmEngine
from delia_ray.errors import UserError
from delia_ray.records import Message

if TYPE_CHECKING:
    from ray.data import Dataset

ENGINES = {
    "vllm": "delia_ray.engines.vllm:Vllm",
    "transformers": "delia_ray.engines.transformers:Transformers",
}
"""Engine type -> class; resolved where it is used, so nothing heavy loads before."""


@dataclass(frozen=True)
class Request:
    """One chat to answer. As a row of a Dataset: the same names as columns."""

    key: str
    """Comes back with the completion; results arrive in any order."""
    messages: list[Message]
    max_tokens: int
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0
    """Of this request alone, so an answer does not depend on its neighbours."""
    schema: str = ""
    """JSON schema (as JSON text) that the answer has to follow; empty for none."""
    adapter: str = ""
    """Folder of a LoRA adapter of the model that answers; empty for the model itself."""
    turn: str = "assistant"
    """Whose next turn is generated: ``assistant``, or ``user`` to have a query invented."""


@dataclass(frozen=True)
class Completion:
    """The answer as the chat template delimits it: text up to the end-of-turn token."""

    key: str
    text: str
    finish_reason: str
    """``stop``: the model ended its turn; ``length``: cut off; ``error``: see ``error``."""
    prompt_tokens: int
    completion_tokens: int
    seconds: float = 0.0
    """From the engine's getting the request to the last token."""
    error: str = ""


OWN_FAULT = ("VLLMValidationError", "ValueError", "TypeError", "KeyError", "TemplateError",
             "TemplateSyntaxError", "UndefinedError")  # fmt: skip
"""Errors of a request itself, as ``Completion.error`` begins: a prompt that is too long or that
the template refuses. Asking again is in vain; after any other error it is not."""


Generate = Callable[[Sequence[Request]], list[Completion]]
Tell = Callable[[int, int], None]
"""Is told of requests and tokens; can be pickled."""


class Engine(Protocol):
    """The contract."""

    settings: Any
    replicas: tuple[int, int]
    """Fewest and most engines that run side by side."""
    gpus: int
    """GPUs of each engine where the cluster has any."""
    in_flight: int
    """Requests that keep all engines busy and their queues full."""

    def __init__(self, settings: Any, model: str) -> None:
        """``model`` is a name for ``models.locate`` or a folder every node can read."""

    def map(self, requests: "Dataset", longest: int = 0, tell: Tell | None = None) -> "Dataset":
        """Rows of ``Request`` columns to rows of ``Completion`` columns, lazily, on many
        actors, a block of the dataset at a time; a request that fails becomes a row with
        ``error``, never an exception. None needs more than ``longest`` tokens, prompt and
        answer together; 0 where nobody knows. ``tell`` is called in the engine's process: with
        zeros when it is up, then with what it finished since the last call."""
        ...

    def load(self, longest: int = 0) -> Generate:
        """One copy of the model in this process, for a Ray task; ``longest`` as for ``map``."""
        ...

    def longest(self, requests: Callable[[], Iterable[Request]]) -> int:
        """What ``map`` and ``load`` take as ``longest``, rounded up, and at most what the model
        can take; 0 where they do not need it. ``requests`` may be called more than once."""
        ...


def make_engine(settings: Any, model: str) -> Engine:
    """The engine that ``settings`` (a member of ``config.Engine``) asks for.

    Raises:
        UserError: its package is not installed.
    """
    settings = resolve(settings)
    module, name = ENGINES[settings.type].split(":")
    engine: type[Engine] = getattr(importlib.import_module(module), name)
    return engine(settings, model)


def resolve(settings: Any) -> VllmEngine | TransformersEngine:
    """``auto`` made definite.

    Raises:
        UserError: vLLM is asked for and not installed.
    """
    installed = importlib.util.find_spec("vllm") is not None
    if isinstance(settings, AutoEngine):
        return VllmEngine() if installed else TransformersEngine()
    if settings.type == "vllm" and not installed:
        raise UserError(
            "engine.type=vllm, but vLLM is not installed here; install it (`make setup` or "
            "`pip install delia-ray[gpu]`) or set engine.type=transformers"
        )
    return settings  # type: ignore[no-any-return]
