"""Translation memories (TMX 1.4b, https://www.gala-global.org/tmx-14b) as rows of language ->
text."""

from collections.abc import Iterator
from typing import Any

from delia_ray.ingest.rows import Bad, Facts, Reading, excerpt

_LANG = "{http://www.w3.org/XML/1998/namespace}lang"
_CODE = ("bpt", "ept", "it", "ph", "ut")
"""Inline elements whose content is markup of the text's own format, and no text."""


def translation_units(stream: Any, reading: Reading, facts: Facts) -> Iterator[tuple[int, Any]]:
    """Each ``tu`` as ``{"translation": {language: text}}``, the source language first.

    Raises:
        ValueError: broken XML, or XML with entities of its own.
    """
    from xml.etree.ElementTree import ParseError

    try:
        yield from _units(stream, facts)
    except ParseError as error:
        raise ValueError(f"broken XML: {error}") from None


def _units(stream: Any, facts: Facts) -> Iterator[tuple[int, Any]]:
    from defusedxml.ElementTree import iterparse

    number, first, root = 0, "", None
    for event, element in iterparse(stream, events=("start", "end")):
        root = element if root is None else root
        name = _local(element.tag)
        if event == "start":
            if name == "header":
                first = element.get("srclang", "").strip().lower()
            continue
        if name != "tu":
            continue
        number += 1
        yield number, _row(element, "" if first == "*all*" else first)
        element.clear()
        for part in root:
            if _local(part.tag) == "body":
                part.clear()
    facts.note("translation units of a TMX")


def _row(unit: Any, first: str) -> Any:
    texts: dict[str, str] = {}
    for variant in unit:
        if _local(variant.tag) != "tuv":
            continue
        code = (variant.get(_LANG) or variant.get("lang") or "").strip()
        text = "".join(_text(seg) for seg in variant if _local(seg.tag) == "seg")
        if not code:
            return Bad("a text without a language", "", excerpt(text))
        if code in texts:
            return Bad("two texts of one language", code, excerpt(text))
        texts[code] = text
    first = (unit.get("srclang") or first).lower()
    # A stable sort: without a source language the order is the file's.
    order = sorted(texts, key=lambda code: code.lower() != first)
    return {"translation": {code: texts[code] for code in order}}


def _text(element: Any) -> str:
    parts = [element.text or ""]
    for child in element:
        if _local(child.tag) not in _CODE:
            parts.append(_text(child))
        parts.append(child.tail or "")
    return "".join(parts)


def _local(tag: Any) -> str:
    return tag.rpartition("}")[2].lower() if isinstance(tag, str) else ""
