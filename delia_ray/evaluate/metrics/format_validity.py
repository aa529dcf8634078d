"""The output has the form that was asked for, whatever it says.

The paper's formatted text generation asks for answers such as ``{'thought': "...",
'hallucination': 'yes'}`` (arXiv 2408.10841); this is the part of its accuracy that
concerns the format alone. With ``form: reference`` a plain reference asks for a plain
answer, so a model that formats where it was told not to is caught too.
"""

import ast
import json
import re
import warnings
from collections.abc import Callable
from typing import Any

from delia_ray.config import Metric
from delia_ray.errors import UserError
from delia_ray.evaluate.metrics.contract import RowMetric
from delia_ray.evaluate.metrics.structure import form


class FormatValidity(RowMetric):
    """1 where the stripped output has the form; nothing may stand around it.

    ``form`` is one of

    - ``reference``: both parse as the same type (JSON or Python literal) with the same keys;
    - ``json``: a JSON value (RFC 8259, so no ``NaN``);
    - ``python``: a Python literal;
    - ``regex``: ``pattern`` matches the whole output;
    - ``json_schema``: a JSON value that ``json_schema`` allows, by the jsonschema package, in
      the draft that the schema names (the newest where it names none).
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
        return lambda output, _: _is_python(output)
    if settings.form == "regex":
        pattern = re.compile(settings.pattern or "")
        return lambda output, _: pattern.fullmatch(output) is not None
    if settings.form == "json_schema":
        return _schema_validator(settings.json_schema or {})
    return lambda output, reference: form(output) == form(reference)


def _schema_validator(schema: dict[str, Any]) -> Callable[[str, str], bool]:
    from jsonschema import SchemaError, validators

    kind = validators.validator_for(schema, default=validators.Draft202012Validator)
    try:
        kind.check_schema(schema)
    except SchemaError as error:
        raise UserError(
            f"format_validity: json_schema is no JSON schema: {error.message}"
        ) from None
    judge = kind(schema)

    def valid(output: str, reference: str) -> bool:
        value = _json(output)
        try:
            return value is not _NO_VALUE and bool(judge.is_valid(value))
        except RecursionError:
            return False

    return valid


_NO_VALUE = object()


def _json(text: str) -> Any:
    def refuse(name: str) -> None:
        raise ValueError(name)

    try:
        return json.loads(text, parse_constant=refuse)
    except (ValueError, RecursionError):
        return _NO_VALUE


def _is_python(text: str) -> bool:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # an odd escape in a string is not our concern
            ast.literal_eval(text)
    except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
        return False
    return True
