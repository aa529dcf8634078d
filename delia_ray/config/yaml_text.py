"""YAML as people write it in recipes: what it takes for something else than it says is an error.

PyYAML follows YAML 1.1. Here a key that stands twice is an error and not the last one, ``1e-1`` is
a number as in YAML 1.2, ``12:30`` is no number in base 60, ``007`` no octal one, and what ``no``
and ``on`` stand for is told where a text was wanted.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import yaml

_TAG = "tag:yaml.org,2002:"
_NUMBERS = {
    "int": re.compile(r"\A[-+]?(?:0b[01_]+|0x[0-9a-fA-F_]+|0|[1-9][0-9_]*)\Z"),
    "float": re.compile(
        r"\A[-+]?(?:(?:\.[0-9][0-9_]*|[0-9][0-9_]*\.[0-9_]*)(?:[eE][-+]?[0-9]+)?"
        r"|[0-9][0-9_]*[eE][-+]?[0-9]+|\.(?:inf|Inf|INF))\Z|\A\.(?:nan|NaN|NAN)\Z"
    ),
}
_NO_KEYS = {f"{_TAG}{kind}": kind for kind in ("bool", "null", "timestamp")}


class BadYaml(ValueError):
    """Says what is wrong, and where."""


class _Loader(yaml.SafeLoader):
    """Safe, and strict."""

    yaml_implicit_resolvers = {
        first: [(tag, form) for tag, form in forms if tag.removeprefix(_TAG) not in _NUMBERS]
        for first, forms in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        # Before anchors are merged: what a mapping takes over it may overwrite.
        node: yaml.MappingNode = super().compose_mapping_node(anchor)
        seen: dict[tuple[str, str], int] = {}
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                continue
            line = key.start_mark.line + 1
            if (kind := _NO_KEYS.get(key.tag)) and key.style is None:
                what = {"bool": "true or false", "null": "nothing"}.get(kind, "a date")
                raise BadYaml(
                    f'line {line}: the key {key.value} must be quoted: "{key.value}"; without '
                    f"quotes it means {what}"
                )
            if (first := seen.get((key.tag, key.value))) is not None:
                raise BadYaml(
                    f"line {line}: {key.value} stands there for the second time, after line "
                    f"{first}; put both into one, since only one of the two would count"
                )
            seen[key.tag, key.value] = line
        return node


for _kind, _form in _NUMBERS.items():
    _Loader.add_implicit_resolver(f"{_TAG}{_kind}", _form, list("-+0123456789."))


@dataclass(frozen=True)
class Text:
    """A parsed YAML text."""

    where: str
    """The file, or the override."""
    tree: Any
    """Its value; None of an empty text."""
    node: Any
    """Its syntax tree."""

    def word(self, path: Sequence[str | int]) -> tuple[str, int] | None:
        """What is written at ``path``, and in which line; None where that is no plain word.
        Parts of the path that are no keys are passed over."""
        node = self.node
        for part in path:
            if isinstance(node, yaml.MappingNode):
                found = [v for k, v in node.value if getattr(k, "value", None) == str(part)]
                node = found[-1] if found else node
            elif isinstance(node, yaml.SequenceNode) and isinstance(part, int):
                if part >= len(node.value):
                    return None
                node = node.value[part]
        if isinstance(node, yaml.ScalarNode) and node.style is None:
            return node.value, node.start_mark.line + 1
        return None


def parse(data: bytes | str, where: str) -> Text:
    """The value of a YAML text; bytes are UTF-8, or UTF-16 with its byte order mark.

    Raises:
        BadYaml: it has none, or means something else than it says.
    """
    if isinstance(data, bytes) and b"\0" in data and data[:2] not in (b"\xff\xfe", b"\xfe\xff"):
        raise BadYaml("no text in UTF-8: it holds zero bytes; save it as UTF-8")
    try:
        loader = _Loader(data)
        node = loader.get_single_node()
        return Text(where, None if node is None else loader.construct_document(node), node)
    except yaml.reader.ReaderError as error:
        raise BadYaml(_unreadable(error)) from None
    except yaml.MarkedYAMLError as error:
        raise BadYaml(_marked(error)) from None
    except BadYaml:
        raise
    except (yaml.YAMLError, ValueError) as error:
        raise BadYaml(f"not valid YAML: {' '.join(str(error).split())}") from None
    except RecursionError:
        raise BadYaml("nested too deeply") from None


def _unreadable(error: yaml.reader.ReaderError) -> str:
    at = f"byte {int(error.position) + 1}" if error.encoding else f"place {error.position}"
    what = error.character
    number = what[0] if isinstance(what, bytes) and what else what
    shown = f"0x{number:02x}" if isinstance(number, int) else f"{what!r}"
    if str(error.encoding).startswith("utf"):
        return f"not in {str(error.encoding).upper()}: {at} is {shown}; save it as UTF-8"
    return f"{at} is {shown}, a character that YAML does not allow; save it as plain UTF-8 text"


def _marked(error: yaml.MarkedYAMLError) -> str:
    mark = error.problem_mark or error.context_mark
    where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
    said = " ".join(f"{error.problem or error.context or 'not valid YAML'}".split())
    if "\\t" in said:
        said += " (YAML is indented with spaces, not tabs)"
    if "expected a single document" in str(error.context):
        said = "a second document begins; a recipe is one"
    return f"not valid YAML: {where}{said}"
