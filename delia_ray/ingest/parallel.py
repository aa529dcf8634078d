"""A text and its translation as an instruction."""

import re
from collections.abc import Mapping
from typing import Any

from delia_ray.config import Parallel as ParallelText
from delia_ray.ingest.columns import Row
from delia_ray.ingest.languages import language
from delia_ray.ingest.layouts import Layout, Options
from delia_ray.ingest.rules import Chat, split_turns
from delia_ray.ingest.turns import RowError, check_encodable, exchange
from delia_ray.records import digest

_PAIRS = (("source", "target"), ("src", "tgt"), ("source_text", "target_text"), ("0", "1"))
"""Names that say which is the translation but no language; the last of a table without header."""
_DEFAULT = ParallelText.model_fields["templates"].default
_NAMELESS = (
    "Translate the following text.\n\n{text}",
    "{text}\n\nTranslate this.",
    "Please translate the following text.\n\n{text}",
)
"""Instructions where nobody says which languages they are."""
_CODE = re.compile(r"[a-z]{2,3}([-_]([a-z]{2}|[a-z]{4}|\d{3}))*", re.IGNORECASE)

Pair = tuple[tuple[str, str], tuple[str, str]]
"""(language or name, column) of the text and of its translation."""


class Parallel(Layout):
    """A text and its translation: a struct ``translation`` {code: text}, two columns named by
    languages or by ``Source.parallel``, or ``source`` and ``target``.

    Without ``format: parallel`` only columns named by languages that hold texts are taken for
    one: names as short as theirs mean much else.
    """

    keys = ("source", "target")

    def __init__(self, options: Options) -> None:
        super().__init__(options)
        self._asked = options.parallel.source is not None or options.parallel.target is not None

    def fits(self, row: Row) -> bool:
        inner, pair = self._pair(row)
        if pair is None:
            return False
        if inner is not row:
            return True
        named = all(language(name) for name, _ in pair)
        return (named or self._asked) and not self._doubt(row, pair)

    def guess(self, row: Row) -> str:
        _, pair = self._pair(row)
        if pair is None:
            return ""
        names = [language(name) or name for name, _ in pair]
        if not all(language(name) for name, _ in pair):
            return "translations; for instructions that name the languages set parallel.source " + (
                "and parallel.target"
            )
        return f"translations from {names[0]} into {names[1]}, by the columns' names"

    def advice(self, row: Row) -> str:
        _, pair = self._pair(row)
        if pair is None:
            found = [name for name in row.values if is_code(str(name))]
            if len(found) < 3 or any(_no_text(row, str(name)) for name in found):
                return ""
            return (
                f"{', '.join(map(str, found))} may be languages; say which two: parallel.source, "
                "parallel.target"
            )
        first, second = (column for _, column in pair)
        doubt = self._doubt(row, pair)
        why = f" but {doubt}" if doubt else ""
        more = "; where the first line is a row and names no columns set header: false" * bool(
            doubt
        )
        return (
            f"{first} and {second} are named like a translation{why}; if they are one set format: "
            f"parallel, and parallel.source and parallel.target to their languages{more}"
        )

    def _doubt(self, row: Row, pair: Pair) -> str:
        """Why the two columns are no translation, by what they hold."""
        for _, column in pair:
            if doubt := _no_text(row, column):
                return doubt
        first, second = (row.evidence.get(column.lower()) for _, column in pair)
        if first and second and first.rows > 1 and first.values == second.values:
            return "both hold the same"
        return ""

    def read(self, row: Row) -> Chat:
        inner, pair = self._pair(row)
        if pair is None:
            raise RowError("no two languages", f"keys {inner.shown()}; see parallel.source")
        if self.options.parallel.reverse:
            pair = pair[1], pair[0]
        texts = []
        for role, (_, column) in zip(("prompt", "answer"), pair, strict=True):
            given: Any = inner.use(column.lower(), role)
            if not isinstance(given, str):
                raise RowError("a text of the pair is not text", type(given).__name__)
            check_encodable(given)
            texts.append(given)
        if inner is not row:
            row.use("translation", "prompt and answer")
            row.left |= {f"translation.{name}": value for name, value in inner.unused().items()}
        text, translation = texts
        if not translation.strip():
            raise RowError("empty translation")
        if not text.strip():
            raise RowError("empty prompt")
        filled = self._template(pair, texts)
        return split_turns(exchange([filled.replace("{text}", text.strip()), translation.strip()]))

    def _template(self, pair: Pair, texts: list[str]) -> str:
        templates = list(self.options.parallel.templates)
        names = [language(name) for name, _ in pair]
        said = (self.options.parallel.source, self.options.parallel.target)
        known = all(names) or all(said)
        if not known and templates == _DEFAULT:
            templates = list(_NAMELESS)
        # Chosen by content, so that it does not depend on the row's place.
        template = templates[int(digest(texts), 16) % len(templates)]
        own = [found or name for found, (name, _) in zip(names, pair, strict=True)]
        return template.replace("{source}", own[0]).replace("{target}", own[1])

    def _pair(self, row: Row) -> tuple[Row, Pair | None]:
        """The row, or the struct within it, that holds the two; and which they are."""
        struct = row.peek("translation")
        inner = Row(struct, row.without) if isinstance(struct, Mapping) else row
        wanted = self.options.parallel
        first = wanted.source if wanted.source and inner.has(wanted.source.lower()) else None
        second = wanted.target if wanted.target and inner.has(wanted.target.lower()) else None
        named = _named(inner)
        if first is None and second is None:
            pairs = (p for p in _PAIRS if all(inner.has(name) for name in p))
            if found := next(pairs, None):
                named, (first, second) = {}, found
            elif len(named) != 2:
                return inner, None
        rest = [column for column in named if column not in (first, second)]
        first = first or next(iter(rest), None)
        second = second or next((column for column in rest if column != first), None)
        if first is None or second is None:
            return inner, None
        own = [str(inner.column(name.strip().lower())) for name in (first, second)]
        codes = [named.get(name, name) for name in own]
        return inner, ((wanted.source or codes[0], own[0]), (wanted.target or codes[1], own[1]))


def _named(row: Row) -> dict[str, str]:
    """Column -> language code, of the columns named by languages; of more than two those that
    hold texts."""
    names = [str(name) for name in row.values if row.has(str(name).strip().lower())]
    found = {name: name for name in names if is_code(name)}
    if len(found) > 2:
        found = {name: code for name, code in found.items() if not _no_text(row, name)}
    if len(found) < 2:
        for affix in (_FIRST, _LAST):  # en_sentence and is_sentence; text_en and text_is
            parts = {name: affix.fullmatch(name) for name in names}
            codes = {n: p["code"] for n, p in parts.items() if p and language(p["code"])}
            rests = {p["rest"] for n, p in parts.items() if p and n in codes}
            if len(codes) == 2 and len(rests) == 1:
                return codes
    return found


_FIRST = re.compile(r"\A(?P<code>[A-Za-z]{2,3})[-_](?P<rest>\w+)")
_LAST = re.compile(r"\A(?P<rest>\w+)[-_](?P<code>[A-Za-z]{2,3})")


def is_code(name: str) -> bool:
    """Whether a column's whole name is a language code, perhaps with a script or region."""
    return _CODE.fullmatch(name.strip()) is not None and language(name) is not None


def _no_text(row: Row, column: str) -> str:
    facts = row.evidence.get(column.strip().lower())
    if facts is None or facts.is_text or not facts.rows:
        return ""
    return f"{column} holds no texts ({facts.example()})"
