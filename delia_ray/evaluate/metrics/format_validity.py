"""The output has the form that was asked for, whatever it says.

The paper's formatted text generation asks for answers such as ``{'thought': "...",
'hallucination': 'yes'}`` (arXiv 2408.10841); this is the part of its accuracy that
concerns the format alone. With ``form: reference`` a plain reference asks for a plain
answer, so a model that formats where it was told not to is caught too.
"""

import json
from collections.abc import Callable
from typing import Any

from delia_ray.config import Metric
from delia_ray.errors import UserError
from delia_ray.evaluate.metrics.contract import RowMetric
from delia_ray.evaluate.metrics.patterns import Pattern
from delia_ray.evaluate.metrics.structure import Plain, form, python_literal


class FormatValidity(RowMetric):
    """1 where the stripped output has the form; nothing may stand around it.

    ``form`` is one of

    - ``reference``: both parse as the same type (JSON or Python literal) with the same keys;
    - ``json``: a JSON value (RFC 8259, so no ``NaN``);
    - ``python``: a Python literal;
    - ``regex``: ``pattern`` matches the whole output;
    - ``json_schema``: a JSON value that ``json_schema`` allows, by the jsonschema-rs package, in
      the draft that the schema names (the newest where it names none). Its patterns are
      ECMA's and take linear time; those that look around stop after a million steps and
      count as not matching then. References to other files or addresses are not followed.
    """

    def __init__(self, settings: Metric) -> None:
        super().__init__(settings)
        self.valid = _validator(settings)

    def score(self, output: str, reference: str) -> float:
        return float(self.valid(output.strip(), reference))


def _validator(settings: Metric) -> Callable[[str, str], bool]:
    if settings.form == "json":
        return lambda output, _: _json(output) is not _NO_VALUE
    if settings.form == "python":
        return lambda output, _: python_literal(output) is not Plain
    if settings.form == "regex":
        pattern = Pattern(settings)
        return lambda output, _: pattern.fullmatch(output) is not None
    if settings.form == "json_schema":
        return _schema_validator(settings.json_schema or {})
    return lambda output, reference: form(output) == form(reference)


def _schema_validator(schema: dict[str, Any]) -> Callable[[str, str], bool]:
    judge = _judge(schema)

    def valid(output: str, reference: str) -> bool:
        value = _json(output)
        try:
            return value is not _NO_VALUE and bool(judge.is_valid(value))
        except (RecursionError, ValueError):  # nested too deeply, or half a surrogate pair
            return False

    return valid


def _judge(schema: dict[str, Any]) -> Any:
    """A validator whose patterns take linear time, or bounded steps where they look around.

    Raises:
        UserError: it is no schema, or refers to something outside it.
    """
    from jsonschema_rs import FancyRegexOptions, RegexOptions, ValidationError, validator_for

    def refuse(address: str) -> Any:
        raise ValueError("a schema is read from the recipe alone")

    try:
        return validator_for(schema, pattern_options=RegexOptions(), retriever=refuse)
    except (ValidationError, ValueError):
        pass  # perhaps only for a pattern that looks around
    try:
        limited = FancyRegexOptions(backtrack_limit=_STEPS)
        return validator_for(schema, pattern_options=limited, retriever=refuse)
    except (ValidationError, ValueError) as error:
        said = getattr(error, "message", str(error))
        raise UserError(f"format_validity: json_schema is no JSON schema: {said}") from None


_STEPS = 1_000_000


_NO_VALUE = object()


def _json(text: str) -> Any:
    def refuse(name: str) -> None:
        raise ValueError(name)

    try:
        return json.loads(text, parse_constant=refuse)
    except (ValueError, RecursionError):
        return _NO_VALUE
