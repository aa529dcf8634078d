"""One function for each instruction of IFEval: does the response follow it?

Arguments have the names of the published rows. Where an instruction says "keyword", letter
case does not count, and neither do quotation marks or white space around the response.
"""

import json
import re
from collections.abc import Callable, Sequence

from delia_ray.ifeval.counting import blocks, divided, sentences, words

_QUOTES = "\"'“”‘’"
LONGEST = 1000
"""Characters of a keyword, marker or list of keywords that is searched for: both it and the
response come from outside, and a search takes the product of their lengths."""

# Possessive (`*+`, `++`) wherever a part could be split in two ways: a response that does not
# match costs no more than one that does.
_LETTER_OR_DIGIT = re.compile(r"\w")
_FIRST_MARKS = re.compile(r"^\W++")
_PLACEHOLDER = re.compile(r"\[[^\[\]\n]++\]")
_BULLET = re.compile(r"^[ \t]*+[*+-][ \t]++(?![*\- \t]*+$)\S", re.MULTILINE)
_EMPHASIS = re.compile(r"(?<!\*)(\*{1,3})(?![\s*])[^*\n]*+(?<![\s*])\1(?!\*)")
_TITLE = re.compile(r"<<[^\S\n]*+[^<>\s][^<>\n]*+>>")
_SIX_ASTERISKS = re.compile(r"(?<!\*)\*{6}(?!\*)")
_LANGUAGE = re.compile(r"[A-Za-z]*+")
_FENCE = "```"


def _compare(count: int, relation: str, wanted: int) -> bool:
    if relation == "at least":
        return count >= wanted
    if relation == "less than":
        return count < wanted
    raise ValueError(f"relation={relation!r} is neither 'at least' nor 'less than'")


# --- keywords ---------------------------------------------------------------------------


def keywords_existence(response: str, keywords: Sequence[str]) -> bool:
    """Each keyword occurs, also as part of a longer word ("apple" in "apples")."""
    small = response.lower()
    return all(word.lower() in small for word in _strings(keywords))


def keywords_frequency(response: str, keyword: str, relation: str, frequency: int) -> bool:
    """Occurrences of the keyword, also within longer words, do not overlap."""
    return _compare(response.lower().count(keyword.strip().lower()), relation, frequency)


def forbidden_words(response: str, forbidden_words: Sequence[str]) -> bool:
    """None of the words stands there as a word of its own ("ant" may stand in "want")."""
    return not any(
        re.search(rf"(?<!\w){re.escape(word)}(?!\w)", response, re.IGNORECASE)
        for word in _strings(forbidden_words)
    )


def letter_frequency(response: str, letter: str, let_relation: str, let_frequency: int) -> bool:
    """Small and capital letters count alike; a mark such as ``!`` may be the letter."""
    if len(letter) != 1:
        raise ValueError(f"letter={letter!r} is not one character")
    return _compare(response.lower().count(letter.lower()), let_relation, let_frequency)


def _strings(values: Sequence[str]) -> Sequence[str]:
    if isinstance(values, str) or not all(isinstance(v, str) and v for v in values):
        raise ValueError(f"{str(values)[:80]!r} is not a list of words")
    if sum(map(len, values)) > LONGEST:
        raise ValueError(f"the words have more than {LONGEST} characters together")
    return values


def _short(marker: str) -> str:
    if len(marker) > LONGEST:
        raise ValueError(f"{marker[:80]!r}... has more than {LONGEST} characters")
    return marker.strip()


# --- length -----------------------------------------------------------------------------


def number_words(response: str, relation: str, num_words: int) -> bool:
    """By ``counting.words``."""
    return _compare(len(words(response)), relation, num_words)


def number_sentences(response: str, relation: str, num_sentences: int) -> bool:
    """By ``counting.sentences``."""
    return _compare(len(sentences(response)), relation, num_sentences)


def number_paragraphs(response: str, num_paragraphs: int) -> bool:
    """Exactly so many parts between ``***`` dividers, none of them empty."""
    parts = divided(response)
    return len(parts) == num_paragraphs and all(parts)


def nth_paragraph_first_word(
    response: str, num_paragraphs: int, nth_paragraph: int, first_word: str
) -> bool:
    """Exactly so many paragraphs with empty lines between them; the n-th (from 1) begins with
    the word, whatever quotes, emphasis or punctuation stand around it."""
    parts = blocks(response)
    if len(parts) != num_paragraphs or not 1 <= nth_paragraph <= num_paragraphs:
        return False
    word = _FIRST_MARKS.sub("", parts[nth_paragraph - 1].split(maxsplit=1)[0])
    end = next((at for at in range(len(word), 0, -1) if _LETTER_OR_DIGIT.match(word[at - 1])), 0)
    return word[:end].lower() == first_word.strip().lower()


# --- content ----------------------------------------------------------------------------


def postscript(response: str, postscript_marker: str) -> bool:
    """The marker, at the start of a word, with text after it. "P.P.S." is no "P.S."."""
    marker = _short(postscript_marker)
    spaced = r"\s?".join(re.escape(c) for c in marker if not c.isspace())
    found = re.search(rf"(?<![\w.]){spaced}(?!\w)", response, re.IGNORECASE)
    return found is not None and _LETTER_OR_DIGIT.search(response, found.end()) is not None


def number_placeholders(response: str, num_placeholders: int) -> bool:
    """At least so many texts in square brackets on one line, such as ``[address]``."""
    return len(_PLACEHOLDER.findall(response)) >= num_placeholders


# --- format -----------------------------------------------------------------------------


def number_bullet_lists(response: str, num_bullets: int) -> bool:
    """Exactly so many lines that begin with ``*``, ``-`` or ``+``, white space and text."""
    return len(_BULLET.findall(response)) == num_bullets


def constrained_response(response: str) -> bool:
    """One of the three phrases that every such prompt offers occurs in the response."""
    return any(f"My answer is {word}." in response for word in ("yes", "no", "maybe"))


def number_highlighted_sections(response: str, num_highlights: int) -> bool:
    """At least so many emphasised texts on one line, ``*a*``, ``**a**`` or ``***a***``."""
    return len(_EMPHASIS.findall(response)) >= num_highlights


def multiple_sections(response: str, section_spliter: str, num_sections: int) -> bool:
    """The marker with a number, such as ``SECTION 2``, at least so often; case counts."""
    marker = rf"(?<!\w){re.escape(_short(section_spliter))}\s?\d++"
    return len(re.findall(marker, response)) >= num_sections


def json_format(response: str) -> bool:
    """Nothing but one JSON object or array; a code fence around it is allowed."""
    text = response.strip()
    if len(text) >= 2 * len(_FENCE) and text.startswith(_FENCE) and text.endswith(_FENCE):
        text = _LANGUAGE.sub("", text[len(_FENCE) : -len(_FENCE)], count=1).strip()
    try:
        return isinstance(json.loads(text), dict | list)
    except (ValueError, RecursionError):
        return False


def title(response: str) -> bool:
    """Something in double angular brackets on one line, such as ``<<poem of joy>>``."""
    return _TITLE.search(response) is not None


# --- combination ------------------------------------------------------------------------


def repeat_prompt(response: str, prompt_to_repeat: str) -> bool:
    """The response begins with the prompt; letter case does not count."""
    return response.strip().lower().startswith(prompt_to_repeat.strip().lower())


def two_responses(response: str) -> bool:
    """Exactly two different responses with six asterisks between them."""
    parts = [part.strip() for part in _SIX_ASTERISKS.split(response)]
    return len(parts) == 2 and all(parts) and parts[0] != parts[1]


# --- change of case ---------------------------------------------------------------------


def english_capital(response: str) -> bool:
    """No small letter, and at least one capital. Whether it is English is not checked."""
    return response.isupper()


def english_lowercase(response: str) -> bool:
    """No capital letter, and at least one small. Whether it is English is not checked."""
    return response.islower()


def capital_word_frequency(response: str, capital_relation: str, capital_frequency: int) -> bool:
    """Words (``counting.words``) all of whose letters are capitals; "I" and "A" are such."""
    count = sum(word.isupper() for word in words(response))
    return _compare(count, capital_relation, capital_frequency)


# --- start, end, punctuation ------------------------------------------------------------


def end_checker(response: str, end_phrase: str) -> bool:
    """Nothing but closing quotation marks follows the phrase; letter case does not count."""
    end = f" {_QUOTES}\n\t\r"
    return response.rstrip(end).lower().endswith(end_phrase.strip().rstrip(end).lower())


def quotation(response: str) -> bool:
    """The whole response stands in double quotation marks, straight or typographic."""
    text = response.strip()
    return text[:1] in ('"', "“") and text[-1:] in ('"', "”") and bool(text[1:-1].strip())


def no_comma(response: str) -> bool:
    """No comma ``,`` anywhere."""
    return "," not in response


CHECKS: dict[str, Callable[..., bool]] = {
    "keywords:existence": keywords_existence,
    "keywords:frequency": keywords_frequency,
    "keywords:forbidden_words": forbidden_words,
    "keywords:letter_frequency": letter_frequency,
    "length_constraints:number_words": number_words,
    "length_constraints:number_sentences": number_sentences,
    "length_constraints:number_paragraphs": number_paragraphs,
    "length_constraints:nth_paragraph_first_word": nth_paragraph_first_word,
    "detectable_content:postscript": postscript,
    "detectable_content:number_placeholders": number_placeholders,
    "detectable_format:number_bullet_lists": number_bullet_lists,
    "detectable_format:constrained_response": constrained_response,
    "detectable_format:number_highlighted_sections": number_highlighted_sections,
    "detectable_format:multiple_sections": multiple_sections,
    "detectable_format:json_format": json_format,
    "detectable_format:title": title,
    "combination:repeat_prompt": repeat_prompt,
    "combination:two_responses": two_responses,
    "change_case:english_capital": english_capital,
    "change_case:english_lowercase": english_lowercase,
    "change_case:capital_word_frequency": capital_word_frequency,
    "startend:end_checker": end_checker,
    "startend:quotation": quotation,
    "punctuation:no_comma": no_comma,
}
"""Instruction id of IFEval -> its check."""
