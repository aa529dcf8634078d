"""Chat templates come with models, so they are programs of strangers: jinja2's sandbox keeps them
from the machine, and this one also from its time and memory.

jinja2 bounds neither loops (only a single ``range``) nor the size of what is made. Here every turn
of a loop and every call of a macro is counted, and whatever can make much out of little (``*``,
``+``, ``~``, ``**``, ``%``, ``join``, ``replace``, padding) is measured before it is done.
"""

import re
import time
from collections.abc import Callable, Iterable
from functools import wraps
from typing import Any

import jinja2
from jinja2 import nodes
from jinja2.sandbox import ImmutableSandboxedEnvironment

from delia_ray.errors import UserError

STEPS = 1_000_000
"""Turns of loops and calls of macros that one chat may take; a turn of a chat takes about ten."""
SIZE = 20_000_000
"""Characters, or elements of a list, that a value of a template or its result may have."""
SECONDS = 5.0
"""CPU seconds that rendering one chat may take."""
_WIDTH = re.compile(r"\d{6,}")
_GROWING = {
    "join",
    "replace",
    "format",
    "center",
    "ljust",
    "rjust",
    "zfill",
    "expandtabs",
    "indent",
    "batch",
    "slice",
    "translate",
    "format_map",
    "sum",
}
"""Methods and filters whose result is larger than what they get."""

_SLOW = ("wordwrap", "urlize", "striptags", "xmlattr", "pprint")
"""Filters of web pages that take more than linear time; no chat template needs them."""


class TemplateTooLarge(UserError):
    """A chat template takes more time or memory than any chat needs."""


class BoundedEnvironment(ImmutableSandboxedEnvironment):
    """An immutable sandbox whose templates end."""

    intercepted_binops = frozenset(("+", "*", "**", "%"))

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._steps, self._until = 0, float("inf")
        self.filters = _Measured({name: _measured(f) for name, f in self.filters.items()})
        self.filters["delia_step"] = self._step
        self.filters["delia_text"] = _joined
        self.globals.pop("lipsum", None)
        for name in _SLOW:
            self.filters.pop(name, None)
        self.globals["range"] = _range

    @jinja2.pass_context  # so that it is no constant, which jinja2 would compute once
    def _step(self, _context: Any, _: Any) -> str:
        self._steps += 1
        if self._steps > STEPS:
            raise _too_large(f"takes more than {STEPS:,} steps")
        if time.thread_time() > self._until:
            raise _too_large(f"takes more than {SECONDS:g} s")
        return ""

    def begin(self) -> None:
        """Count anew: another chat is rendered."""
        self._steps, self._until = 0, time.thread_time() + SECONDS

    def _parse(self, *args: Any) -> nodes.Template:
        template = _counted(super()._parse(*args))
        template.set_environment(self)
        return template

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        _check_binary(operator, left, right)
        return super().call_binop(context, operator, left, right)

    def call(__self, __context: Any, __obj: Any, *args: Any, **kwargs: Any) -> Any:
        name = getattr(__obj, "__name__", "")
        if name in _GROWING:
            _check_growth([getattr(__obj, "__self__", ""), *args, *kwargs.values()])
        return _checked(super().call(__context, __obj, *args, **kwargs))

    @staticmethod
    def concat(parts: Iterable[str]) -> str:
        """What a template's pieces are put together with."""
        return _joined(parts)


class BoundedTemplate(jinja2.Template):
    """A template whose every rendering is counted from the beginning."""

    def render(self, *args: Any, **kwargs: Any) -> str:
        try:
            return super().render(*args, **kwargs)
        except (RecursionError, MemoryError, OverflowError) as error:
            raise _too_large(f"fails with {type(error).__name__}") from None

    def new_context(self, *args: Any, **kwargs: Any) -> Any:
        # Every way to run a template begins with a context.
        environment = self.environment
        assert isinstance(environment, BoundedEnvironment)
        environment.begin()
        return super().new_context(*args, **kwargs)


BoundedEnvironment.template_class = BoundedTemplate


def bound_chat_templates() -> None:
    """Make transformers render every chat template of this process in the bounded sandbox.

    It builds its environment itself (``utils.chat_template_utils``, transformers 5.19) and takes
    no other; a test sees to it that this is the one in use.
    """
    from transformers.utils import chat_template_utils as theirs

    if theirs.ImmutableSandboxedEnvironment is not BoundedEnvironment:
        theirs.ImmutableSandboxedEnvironment = BoundedEnvironment
        theirs._compile_jinja_template.cache_clear()


def _too_large(why: str) -> TemplateTooLarge:
    return TemplateTooLarge(
        f"the chat template {why} for one chat (sandbox.STEPS, SIZE and SECONDS bound it); it is "
        "broken or means harm: choose another model, or put another chat_template.jinja into its "
        "folder"
    )


def _counted(template: nodes.Template) -> nodes.Template:
    """The same template with a step at the beginning of each body that can run again, and with
    ``~`` as a measured filter."""
    bodies: list[nodes.For | nodes.Macro | nodes.CallBlock] = [
        *template.find_all(nodes.For),
        *template.find_all(nodes.Macro),
        *template.find_all(nodes.CallBlock),
    ]
    for node in bodies:
        node.body.insert(0, _step_node(node.lineno))
    for concat in list(template.find_all(nodes.Concat)):
        # In place, since its parents are of many kinds.
        concat.nodes = [_filter("delia_text", nodes.List(concat.nodes, lineno=concat.lineno))]
    return template


def _step_node(line: int) -> nodes.Output:
    return nodes.Output([_filter("delia_step", nodes.Const(None, lineno=line))], lineno=line)


def _filter(name: str, of: nodes.Expr) -> nodes.Filter:
    return nodes.Filter(of, name, [], [], None, None, lineno=of.lineno)


def _range(*args: int) -> range:
    """As the sandbox's own, with an error that says more."""
    made = range(*args)
    if not made[:STEPS] == made:  # its length may be beyond what `len` counts
        raise _too_large(f"takes more than {STEPS:,} steps")
    return made


def _joined(parts: Iterable[Any]) -> str:
    texts, total = [], 0
    for part in parts:
        text = part if isinstance(part, str) else str(part)
        total += len(text)
        if total > SIZE:
            raise _too_large(f"makes a text of more than {SIZE:,} characters")
        texts.append(text)
    return "".join(texts)


def _checked(value: Any) -> Any:
    if isinstance(value, str | list | tuple | dict) and len(value) > SIZE:
        raise _too_large(f"makes a value of more than {SIZE:,} characters or elements")
    return value


def _size(value: Any) -> int:
    """Digits of a number, length of a text, all texts of a list."""
    if isinstance(value, str | bytes):
        return len(value)
    if isinstance(value, list | tuple):
        return sum(len(v) if isinstance(v, str) else 1 for v in value)
    return len(value) if isinstance(value, dict) else 1


def _check_binary(operator: str, left: Any, right: Any) -> None:
    if operator == "**" or (operator == "*" and _is_int(left) and _is_int(right)):
        bits = left.bit_length() if _is_int(left) else 64
        more = right if operator == "**" and _is_int(right) else 1
        if bits * max(more, 1) + (right.bit_length() if _is_int(right) else 0) > 10_000:
            raise _too_large("makes a number of more than 10,000 bits")
    elif operator == "*" and (_is_int(left) or _is_int(right)):
        count, value = (left, right) if _is_int(left) else (right, left)
        if _size(value) * max(count, 0) > SIZE:
            raise _too_large(f"makes a value of more than {SIZE:,} characters or elements")
    elif operator == "+" and _size(left) + _size(right) > SIZE:
        raise _too_large(f"makes a value of more than {SIZE:,} characters or elements")
    elif operator == "%" and isinstance(left, str | bytes):
        _check_growth([left, right])


def _check_growth(values: list[Any]) -> None:
    """Each may be repeated as often as another is long."""
    largest = 1
    for value in values:
        if isinstance(value, str) and _WIDTH.search(value):
            raise _too_large("pads a text to a million characters")
        largest *= max(1, value if _is_int(value) else _size(value))
    if largest > 50 * SIZE or any(_is_int(v) and v > SIZE for v in values):
        raise _too_large(f"makes a value of more than {SIZE:,} characters or elements")


def _is_int(value: Any) -> bool:
    return isinstance(value, int)


def _measured(function: Callable[..., Any]) -> Callable[..., Any]:
    name = getattr(function, "__name__", "").removeprefix("do_").removeprefix("sync_do_")

    @wraps(function)
    def run(*args: Any, **kwargs: Any) -> Any:
        if name in _GROWING:
            _check_growth([a for a in (*args, *kwargs.values()) if _is_value(a)])
        elif any(_is_int(a) and a > SIZE for a in (*args, *kwargs.values())):
            raise _too_large(f"makes a value of more than {SIZE:,} characters or elements")
        return _checked(function(*args, **kwargs))

    return run


def _is_value(value: Any) -> bool:
    return isinstance(value, str | bytes | int | list | tuple | dict)


class _Measured(dict[str, Any]):
    """Filters, of which those that are added later are measured too."""

    def __setitem__(self, name: str, function: Callable[..., Any]) -> None:
        super().__setitem__(name, function if name.startswith("delia_") else _measured(function))
