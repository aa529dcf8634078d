"""No text from outside, however it is made, holds a regular expression or a measure up."""

import ast
import importlib
import re
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from delia_ray import diversity, rewording, text
from delia_ray.config import Metric, Reword, Rules
from delia_ray.errors import DeliaError, UserError
from delia_ray.evaluate.metrics import make_metric
from delia_ray.evaluate.metrics.structure import form, form_name, parse
from delia_ray.ifeval import CHECKS, ConstraintError, constraints, variants
from delia_ray.ifeval import counting as ifeval_counting
from delia_ray.ingest.curate import scripts
from delia_ray.ingest.curate.text import bare, normalized
from tests.cpu import assert_linear, cpu_limit

PACKAGE = Path(__file__).parent.parent / "delia_ray"
CALLS = {"compile", "search", "match", "fullmatch", "split", "findall", "finditer", "sub", "subn"}
BUILT = {
    "chats/texts.py": 1,
    "finetune/lora_layers.py": 1,
    "ifeval/checks.py": 3,
    "ifeval/counting.py": 1,
    "ingest/dialect.py": 1,
    "ingest/json_values.py": 1,
    "ingest/parse.py": 1,
    "tables.py": 1,
    "text.py": 1,
}
"""Files that build a pattern while they run, and how many: of escaped words, or of a bounded
length. Those of ``ifeval`` and ``text`` are tried below with what uses them."""


def calls(file: Path) -> Iterator[ast.Call]:
    for node in ast.walk(ast.parse(file.read_text())):
        if (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and node.func.attr in CALLS
            and isinstance(node.func.value, ast.Name)
            and node.func.value.id == "re"
        ):
            yield node


FILES = [file for file in sorted(PACKAGE.rglob("*.py")) if list(calls(file))]


def flags_of(call: ast.Call) -> int:
    """The flags of a call, as ``re.DOTALL`` stands there in any argument."""
    found = 0
    for value in [*call.args[1:], *(k.value for k in call.keywords)]:
        for node in ast.walk(value):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                flag = getattr(re, node.attr, 0) if node.value.id == "re" else 0
                found |= flag if isinstance(flag, int) else 0
    return found


@cache
def uses(name: str, where: Path) -> set[str]:
    """The methods that the package calls on whatever is called ``name``; that file alone where
    the name is private."""
    found = set()
    for file in [where] if name.startswith("_") else PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())) if name in file.read_text() else ():
            if isinstance(node, ast.Attribute) and node.attr in CALLS:
                held = node.value
                if name in (getattr(held, "id", ""), getattr(held, "attr", "")):
                    found.add(node.attr)
    return found


def patterns() -> dict[str, tuple[re.Pattern[str], bool]]:
    """Every pattern of the package, those that its modules hold, also in tables, and those that
    stand as text in a call; and whether it is searched for anywhere in a text."""
    found: dict[str, tuple[re.Pattern[str], bool]] = {}

    def add(one: re.Pattern[str], methods: set[str]) -> None:
        key = f"{one.pattern} {one.flags}"
        anywhere = not methods or bool(methods - {"match", "fullmatch"})
        found[key] = one, anywhere or found.get(key, (one, False))[1]

    for file in FILES:
        name = ".".join(("delia_ray", *file.relative_to(PACKAGE).with_suffix("").parts))
        module = importlib.import_module(name.removesuffix(".__init__"))
        held = [(k, v) for k, v in vars(module).items() if not k.startswith("__")]
        while held:
            key, value = held.pop()
            if isinstance(value, re.Pattern) and isinstance(value.pattern, str):
                add(value, uses(key, file) if key else set())
            elif isinstance(value, dict):
                held += [("", v) for v in value.values()]
            elif isinstance(value, list | tuple):
                held += [("", v) for v in value]
        for call in calls(file):
            method = call.func.attr  # type: ignore[attr-defined]
            if method != "compile" and isinstance(call.args[0], ast.Constant):
                add(re.compile(call.args[0].value, flags_of(call)), {method})
    return found


@pytest.mark.parametrize("file", FILES, ids=lambda f: str(f.relative_to(PACKAGE)))
def test_every_pattern_is_seen(file: Path) -> None:
    """A pattern that is put together while running escapes the test below: there may be no more
    of them than are listed, with the reason why they are linear."""
    lines = {
        line
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.FunctionDef)
        for line in range(node.lineno, (node.end_lineno or 0) + 1)
    }
    built = [c for c in calls(file) if not isinstance(c.args[0], ast.Constant)]
    built = [c for c in built if c.lineno in lines]  # what a module holds is tried below
    name = str(file.relative_to(PACKAGE))
    assert len(built) <= BUILT.get(name, 0), [ast.unparse(call) for call in built]


CLASSES = {r"\w": "a", r"\W": "!", r"\s": " ", r"\S": "a", r"\d": "1", r"\D": "a"}


@cache
def shapes(pattern: str) -> list[Callable[[int], str]]:
    """Texts that are hard for ``pattern``: repeats of each sign of it, of some pairs of them, of
    what it is written as; also behind its beginning and before signs that end no match."""
    written = re.findall(r"\\?.", pattern, re.DOTALL)
    signs = {CLASSES.get(sign, sign[-1]) for sign in written} | {"a", "0", " ", "\n"}
    units = sorted(signs - {"(", ")", "?", "+", ":", "|"} | ({"("} if r"\(" in pattern else set()))
    pairs = [a + b for a in units for b in units if a < b]
    literal = "".join(
        sign for sign in written if len(sign) == 1 and (sign.isalnum() or sign in "<>`{")
    )
    begin = re.match(r"\\?[^\w\[\](){}?*+|^$.]{1,3}", pattern)
    opening = begin[0].replace("\\", "") if begin else ""
    more = [u for u in ALMOST if set(u) <= signs]
    found: list[Callable[[int], str]] = []
    for unit in [
        *units[:: 1 + len(units) // 30],
        *pairs[:: max(1, len(pairs) // 8)],
        literal or "ab",
        *more,
    ]:
        for before, behind in (("", ""), (opening, "\x00"), ("", "a")):
            found.append(lambda n, u=unit, p=before, b=behind: p + (u * (n // len(u) + 1))[:n] + b)
    return found


ALMOST = [
    "- a\n",
    "1. \n",
    "-   a\n",
    "a\n\n",
    "<a>",
    "<a",
    "</a>",
    '"a" ',
    "``` ",
    "<<a ",
    "* a*",
    "{ ",
    '{"',
    "[a",
    "a.",
    "/a",
]
"""Repeated where a pattern has these signs: what nearly is what it looks for."""


PATTERNS = patterns()


@pytest.mark.parametrize("pattern", PATTERNS.values(), ids=[k[:60] for k in PATTERNS])
def test_every_pattern_is_linear(pattern: tuple[re.Pattern[str], bool]) -> None:
    one, anywhere = pattern
    for make in shapes(one.pattern):
        use = (lambda text: one.sub("", text)) if anywhere else one.fullmatch
        assert_linear(use, make, f"{one.pattern!r} on {make(12)!r}")


@pytest.mark.parametrize(
    "pattern",
    [
        r"(?:[ \t]*(?:[-*•]|\d+[.)])[ \t]+.*(?:\n|\Z))+",
        r"[ \t]+$",
        r"<<[^<>\n]*[^<>\s][^<>\n]*>>",
        r"(?:[.!?]+|…)(?=\s|$)",
        r"```[\w-]*\n?(.*?)\n?```",
        r"\A(.*\n[ \t]*\n\s*)(\S.*)\Z",
    ],
)
def test_a_planted_pattern_would_be_seen(pattern: str) -> None:
    with pytest.raises(AssertionError):
        test_every_pattern_is_linear((re.compile(pattern, re.DOTALL), True))


TEXTS: list[Callable[[int], str]] = [
    *(
        lambda n, u=unit: (u * n)[:n]
        for unit in (
            "a",
            "a ",
            " ",
            "\n",
            "- a\n",
            "-   item\n",
            ". ",
            ".",
            "Dr. ",
            "1. ",
            "a\n\n",
            "*",
            "* ",
            "**a",
            '"',
            '"a" ',
            "[",
            "[[1], ",
            "{",
            '{"a":',
            "(",
            "-",
            "1+",
            "<a>",
            "<<",
            "```",
            "```json\n",
            "_",
            "!",
            "P.S. ",
            "日本語",
            "。",
            "é",
            "e\u0300\u0327",
            "\u0327\u0300",
            "\ufdfa",
            "A",
            "'a' ",
            "\x00",
        )
    ),
    lambda n: "[" * (n // 2) + "]" * (n // 2),
    lambda n: "a" + "\u0300" * (n // 2) + "\u0327" * (n // 2),
    lambda n: "-   item\n" * (n // 9) + "That is all.",
    lambda n: "a " + "!" * n + "b",
    lambda n: '"' + "a" * n,
    lambda n: "```" + "\n" * n + "x",
    lambda n: "Dr. " * (n // 4) + "x",
]
ARGUMENTS: dict[str, dict[str, Any]] = {
    "keywords:existence": {"keywords": ["red", "a" * 900]},
    "keywords:frequency": {"keyword": "aab", "relation": "at least", "frequency": 3},
    "keywords:forbidden_words": {"forbidden_words": ["-a" * 200 + "b", "red"]},
    "keywords:letter_frequency": {"letter": "q", "let_relation": "at least", "let_frequency": 1},
    "length_constraints:number_words": {"relation": "at least", "num_words": 10**9},
    "length_constraints:number_sentences": {"relation": "at least", "num_sentences": 10**9},
    "length_constraints:number_paragraphs": {"num_paragraphs": 3},
    "length_constraints:nth_paragraph_first_word": {
        "num_paragraphs": 1,
        "nth_paragraph": 1,
        "first_word": "x",
    },
    "detectable_content:postscript": {"postscript_marker": "!"},
    "detectable_content:number_placeholders": {"num_placeholders": 10**9},
    "detectable_format:number_bullet_lists": {"num_bullets": 3},
    "detectable_format:number_highlighted_sections": {"num_highlights": 10**9},
    "detectable_format:multiple_sections": {"section_spliter": "a a", "num_sections": 10**9},
    "combination:repeat_prompt": {"prompt_to_repeat": "a" * 100_000},
    "change_case:capital_word_frequency": {
        "capital_relation": "at least",
        "capital_frequency": 10**9,
    },
    "startend:end_checker": {"end_phrase": "a" * 1000},
}


def _metric(**settings: Any) -> Callable[[str], object]:
    judge = make_metric(Metric.model_validate(settings))
    return lambda said: judge.score_all([said], ["{'a': 'red fish'}"], ["?"])  # type: ignore[union-attr]


MEASURES: dict[str, Callable[[str], object]] = {
    **{name: lambda t, n=name: CHECKS[n](t, **ARGUMENTS.get(n, {})) for name in CHECKS},
    "ifeval.variants": variants,
    "ifeval.sentences": ifeval_counting.sentences,
    "form": form,
    "form_name": form_name,
    "parse": parse,
    "exact_match": _metric(name="exact_match"),
    "content_match": _metric(name="content_match"),
    "field_accuracy": _metric(name="field_accuracy", field="a"),
    "length": _metric(name="length"),
    "repetition": _metric(name="repetition"),
    "format_validity": _metric(name="format_validity"),
    "json_schema": _metric(
        name="format_validity",
        form="json_schema",
        json_schema={"anyOf": [{"items": {"$ref": "#"}}, {"pattern": "^(a+ ?)+$"}]},
    ),
    "text.repetition": text.repetition,
    "words": diversity.words,
    "measures": lambda t: diversity.measures([t, t]),
    "split_instruction": lambda t: rewording.split_instruction(t, "last_paragraph"),
    "similarity": lambda t: rewording.similarity(t, t[: len(t) // 2] + " other"),
    "answer_problem": lambda t: rewording.answer_problem(t, "stop", ["<end>"], Rules(), "query"),
    "rewording_problem": lambda t: rewording.rewording_problem(
        t,
        "stop",
        t + " please",
        "answer",
        [],
        {"<sep>": "in json format"},
        ["<end>"],
        Rules(),
        Reword(checks=True),
    ),
    "normalized": lambda t: normalized(t, "nfkc"),
    "bare": bare,
    "scripts": lambda t: scripts.count([t]),
}


@pytest.mark.parametrize("name", MEASURES)
def test_every_measure_of_a_text_is_linear(name: str) -> None:
    for make in TEXTS:
        assert_linear(MEASURES[name], make, f"{name} on {make(12)!r}")


HANGING = {
    "accuracy": [r"(a+)+!", r"([a-z]+\s?)*:", r"(?:(?:\w|\d)+)+(!)"],
    "f1": [r"((?:\w+\W?)+)+:", r"label: ((?:no|n|o)+)*;", r"(?:\s*\S*)*(\d)\.$"],
    "format_validity": [r"(x+x+)+y", r"((?:a+b?)+)*;", r"(?:a|a)*b"],
}


@pytest.mark.parametrize(("name", "pattern"), [(n, p) for n in HANGING for p in HANGING[n]])
def test_a_pattern_of_the_recipe_that_hangs_is_refused_before_the_run(
    name: str, pattern: str
) -> None:
    form = {"form": "regex"} if name == "format_validity" else {}
    settings = Metric.model_validate(
        {"name": name, "pattern": pattern, "pattern_seconds": 0.1, **form}
    )
    with cpu_limit(10, pattern), pytest.raises(UserError, match=r"pattern_seconds=0\.1 on a text"):
        make_metric(settings)


def test_a_pattern_that_hangs_on_an_answer_ends_with_its_name() -> None:
    """No text made of the pattern's own signs shows it: letters of \\p{Greek} are not among
    them."""
    settings = Metric.model_validate(
        {"name": "accuracy", "pattern": r"((?:\p{Greek}+)+)!", "pattern_seconds": 0.2}
    )
    metric = make_metric(settings)
    assert metric.read("αβγ!") == "αβγ"  # type: ignore[union-attr]
    with (
        cpu_limit(10, "pattern"),
        pytest.raises(DeliaError, match=r"raise pattern_seconds") as told,
    ):
        metric.read("α" * 100_000 + "\0!")  # type: ignore[union-attr]
    assert not isinstance(told.value, UserError)


@pytest.mark.parametrize(
    ("pattern", "output", "score"),
    [
        (r"(yes|no)\.", "yes.", 1),
        (r"[Áá]r \d{4}", "ár 1944", 1),
        (r"(?s)<a>.*</a>", "<a>\n</a>", 1),
        (r"(?i)já|nei", "JÁ", 1),
        (r"\w+", "þetta", 1),
        (r"(?P<x>.)(?P=x)", "aa", 1),
        (r"a(?!b).", "ab", 0),
    ],
)
def test_ordinary_patterns_mean_what_python_means(pattern: str, output: str, score: int) -> None:
    assert bool(re.fullmatch(pattern, output)) == bool(score)
    metric = make_metric(
        Metric.model_validate({"name": "format_validity", "form": "regex", "pattern": pattern})
    )
    assert metric.score_all([output], ["x"], None) == [score]  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        ({"pattern": "^(a+)+$"}, '"' + "a" * 100_000 + '!"'),
        ({"pattern": "^(?=a)(a+)+$"}, '"' + "a" * 100_000 + '!"'),
        (
            {"additionalProperties": False, "patternProperties": {"^(a|a)*$": {}}},
            '{"' + "a" * 100_000 + '!": 1}',
        ),
        (
            {"type": "object", "propertyNames": {"pattern": "^([a-z]+)*$"}},
            '{"' + "a" * 100_000 + '!": 1}',
        ),
        (
            {"uniqueItems": True},
            "[" + ", ".join(f'{{"a": {i}}}, {i}' for i in range(7000)) + ", 1]",
        ),
    ],
)
def test_a_schema_is_judged_in_bounded_time(schema: dict[str, Any], value: str) -> None:
    metric = make_metric(
        Metric.model_validate(
            {"name": "format_validity", "form": "json_schema", "json_schema": schema}
        )
    )
    with cpu_limit(2, "schema"):
        assert metric.score_all([value], ["x"], None) == [0]  # type: ignore[union-attr]


@pytest.mark.parametrize(
    "address", ["http://localhost:9/x.json", "file:///etc/passwd", "other.json"]
)
def test_a_schema_reads_nothing_else(address: str) -> None:
    settings = Metric.model_validate(
        {"name": "format_validity", "form": "json_schema", "json_schema": {"$ref": address}}
    )
    with pytest.raises(
        UserError, match=r"json_schema is no JSON schema: Resource .* is not present"
    ):
        make_metric(settings)


@pytest.mark.parametrize(
    ("name", "kwargs"),
    [
        ("keywords:forbidden_words", {"forbidden_words": ["-" * 2000]}),
        ("keywords:existence", {"keywords": ["a"] * 2000}),
        ("detectable_content:postscript", {"postscript_marker": "P" * 2000}),
        ("detectable_format:multiple_sections", {"section_spliter": "§" * 2000, "num_sections": 1}),
    ],
)
def test_what_a_row_asks_to_search_for_is_bounded(name: str, kwargs: dict[str, Any]) -> None:
    with pytest.raises(ConstraintError, match="more than 1000 characters"):
        constraints([name], [kwargs])


def test_a_list_with_wide_marks_is_named_at_once() -> None:
    """The case that was seen: an answer of thirty such lines took years."""
    with cpu_limit(1, "form_name"):
        assert form_name("-   item\n" * 10_000 + "That is all.") == "plain"
        assert form_name("-   item\n" * 10_000 + "-   item") == "list items"


@pytest.mark.parametrize("marks", ["\u0300\u0327", "\u0327\u0300\u0301", "\u0344\u0327"])
def test_combining_marks_do_not_slow_curation_down(marks: str) -> None:
    with cpu_limit(2, "marks"):
        assert bare("a" + marks * 50_000 + "b") in ("ab", "aäb", "äb", "àb", "ḁb")
    few = "e" + marks * 10
    assert text.stream_safe(few) == few
