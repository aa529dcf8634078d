"""Whether a text is still a request for the same: what can be said without a model.

Each rule returns the reason, or None for a good text. No language detector is used: a wording
and its original are compared by script (Unicode names of their letters) and, in Latin script, by
function words of eight languages, which is enough to see that a model changed the language.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable

_HEAD = 1000
"""Characters that are looked at; an instruction is shorter, or as telling."""
_WORD = re.compile(r"[^\W\d_]++")
_FUNCTION_WORDS = {
    "English": "the of and to is are in that for with if this whether your you it be any as by",
    "German": "der die das und ist nicht mit ein eine zu auf den dem für ob sie bitte wird",
    "French": "le la les et est une des dans pour que qui avec sur vous votre ce cette aux du",
    "Spanish": "el los las y es una que para con por del se su si este esta en o más",
    "Portuguese": "os as e é uma que para com por do da se seu não em ao um mais",
    "Italian": "il gli e è una che per con del della di se non un sono nel alla",
    "Dutch": "het een en is niet met van voor dat op te zijn of deze die u naar",
    "Icelandic": "og er að það ekki í á sem fyrir með við um eða þú þetta hvort",
}
_LANGUAGES = {name: frozenset(words.split()) for name, words in _FUNCTION_WORDS.items()}
_OPENINGS = re.compile(
    r"(?:yes|no|sure|certainly|of course|okay|ok|here (?:is|are)|here's|the answer|i|i'm|i've|"
    r"i'll|we|it seems|it appears|sorry|as an ai|thank you|thanks|hello|hi|"
    r"there (?:is|are)|this (?:is|response|text|context|request)|these|they|he|she|my)\b",
    re.I,
)
"""How an answer begins, or a talk about the request."""
_BACK = re.compile(
    r"\b(?:would you like|do you (?:want|need|have)|how (?:can|may) i|can i|may i|shall i|"
    r"should i|let me know|i (?:will|can|would|am|have|need|understand|hope)|please provide|"
    r"please share|feel free|in other words|rephras\w*+|reword\w*+|rewrit\w*+|"
    r"(?:provide|give|send|share|tell|show|describe|offer)(?: me| us)?(?: with)?(?: the| some| a|"
    r" your| more)? (?:context|text|details|information|passage|input|question|document)|"
    r"ask (?:if|whether|about|me|the user))\b",
    re.I,
)
"""A question or a service offered to the user, a request for what to work on, or words about the
rewording."""
_POLITE = re.compile(r"(?:can|could|would|will) you\b", re.I)
"""How a request is put as a question."""
_STATING = re.compile(
    r"(?:the|a|an|it|its|each|all|some|there|what an?|if|when|"
    r"you (?!must\b|should\b|need\b|have to\b|will\b|are (?:to|asked|required)\b))\b",
    re.I,
)
"""How a statement begins where a request would not."""
_ASKING = re.compile(r"\b(?:must|should|need|has to|have to|required|please|\w++\?)(?:\b|$)", re.I)
_SENTENCE_END = re.compile(r"(?<=[.!?])\s")
_WHERE = re.compile(
    r"\b(?:in|of|from|on|for|about|by|with|at|into|to) (?:this|that|these|those|the|your|an|a) "
    r"([^\W\d_]++)",
    re.I,
)
"""The word after a preposition and an article: what a request is narrowed to."""
_NAMED = re.compile(r"\b(?:this|that|these|those|the|your|an|a) ([^\W\d_]++)", re.I)
_OTHER = (
    "must should need needs required have has had can could will would make sure ensure please "
    "given provided following below above context text use using used follow follows adhere "
    "meet meets understand comprehend grasp format requirement requirements on or not an a at "
    "from its what which how they them their there then than do does was were been also into "
    "out up all determine decide check see find judge evaluate assess analyze review examine "
    "through present any some read look tell say show give list name write state explain report "
    "contain contains contained within appear appears down carefully identify answer response "
    "reply whole full end same each every"
)
_CONTENT = frozenset(
    ("text", "context", "following", "given", "provided", "above", "below", "content", "same")
)
"""What a wording may call that which the row holds."""
_SOMEBODY = re.compile(r"\b(?:they|he|she)\b", re.I)
_MORE = re.compile(
    r"\b(?:and|then) (?:explain|identify|describe|tell|write|list|give|name|say|show|state|report|"
    r"summarize|count|sort|compare)\b",
    re.I,
)
_FIRST = re.compile(r"\b(?:read|look|review|consider|examine|check|inspect|study|go)\b", re.I)
"""Verbs of what precedes every task, so that another with "and" is the task itself."""
_WHETHER = re.compile(r"\b(?:if|whether)\b", re.I)
_OPEN = re.compile(r"\b(?:any|for|which|how|or)\b|\?", re.I)
"""Words that leave open whether there is something."""
_FUNCTION = frozenset().union(*_LANGUAGES.values(), _OTHER.split())
"""Words that do not say what a request is about."""


def form_problem(text: str, original: str) -> str | None:
    """Why ``text`` is no request like ``original``: an answer, a question back, talk around it."""
    said, asked = text.strip(), original.strip()
    if _OPENINGS.match(said.lstrip("\"'*-# ")) and not _OPENINGS.match(asked):
        return "answers the request"
    if said.endswith("?") and not asked.rstrip().endswith("?") and not _POLITE.match(said):
        return "asks back"
    if _BACK.search(said) and not _BACK.search(asked):
        return "talks to the user"
    if _states(said) and not _states(asked):
        return "states instead of asking"
    if len(said.splitlines()) > max(1, len(asked.splitlines())):
        return "more than one wording"
    if asked[-1:] in ".!?" and said[-1:].isalnum():
        return "breaks off"
    return None


def _states(text: str) -> bool:
    """Whether the first sentence is a statement, by how it begins; of one that says what must be
    done not."""
    first = _SENTENCE_END.split(text.lstrip("\"'*-# "), maxsplit=1)[0]
    return bool(_STATING.match(first)) and not _ASKING.search(first)


def scope_problem(text: str, original: str, examples: Iterable[tuple[str, str]]) -> str | None:
    """Why ``text`` asks about something that ``original`` does not name.

    Args:
        examples: (request, wording) that the model was shown; what both of one are about is its
            subject, and has no place in another wording.
    """
    about = _stems(original)
    new = _stems(text) - about
    if new & set().union(*(_stems(one) & _stems(other) for one, other in examples)):
        return "takes over an example's subject"
    places = {w.lower() for w in _WHERE.findall(text)} - _CONTENT
    named = {w.lower() for w in _NAMED.findall(original)}
    if any(word not in named and word[:5] not in about for word in places):
        return "narrows or changes what is asked about"
    if _SOMEBODY.search(text) and not _SOMEBODY.search(original):
        return "speaks of somebody unnamed"
    if _MORE.search(text) and not (_FIRST.search(text) or " and " in original):
        return "asks for more"
    if _WHETHER.search(original) and not (_WHETHER.search(text) or _OPEN.search(text)):
        return "takes for granted what is asked"
    return None


def language_problem(text: str, original: str) -> str | None:
    """Why ``text`` is in another language than ``original``, as far as the two can be told."""
    own, other = scripts(text), scripts(original)
    if any(share > 0.1 and other.get(name, 0) < 0.01 for name, share in own.items()):
        return "another language"
    was, now = language(original), language(text)
    return "another language" if was and now and was != now else None


def scripts(text: str) -> dict[str, float]:
    """Script (first word of the Unicode name) -> its share of the letters of ``text``."""
    names = Counter(unicodedata.name(c, "?").split()[0] for c in text[:_HEAD] if c.isalpha())
    total = names.total()
    return {name: n / total for name, n in names.items()}


def language(text: str) -> str | None:
    """The language whose function words are most frequent; None where two come close or fewer
    than two stand there."""
    words = Counter(w.lower() for w in _WORD.findall(text[:_HEAD]))
    found = sorted(
        ((sum(words[w] for w in own), name) for name, own in _LANGUAGES.items()), reverse=True
    )
    (most, name), (second, _) = found[:2]
    return name if most >= 2 and most > 1.5 * second else None


def kept_subject(text: str, original: str) -> float:
    """Share of the words that say what ``original`` is about (stems of five letters, without
    function words) that ``text`` holds, 0 to 1; 1 where it has none."""
    about = _stems(original)
    return len(about & _stems(text)) / len(about) if about else 1.0


def added_subject(text: str, original: str) -> float:
    """Share of the words that say what ``text`` is about that are not in ``original``, 0 to 1."""
    about = _stems(text)
    return len(about - _stems(original)) / len(about) if about else 0.0


def _stems(text: str) -> set[str]:
    return set(subject(text))


def names_problem(text: str, original: str) -> str | None:
    """Why the names in ``text`` are not those of ``original``: words with a capital letter inside
    a sentence. German nouns are none, so only texts with few such words are compared."""
    mine, theirs = _names(text), _names(original)
    told, asked = _lower(text), _lower(original)
    return "changes a name" if theirs - told or mine - asked else None


def same_subject(one: str, other: str) -> bool:
    """Whether two instructions name the same things in the same order, so that one person's
    wording can stand for the other's; the strictest measure here, since neither was made from
    the other."""
    return subject(one) == subject(other) != []


def _names(text: str) -> set[str]:
    words = list(_WORD.finditer(text[:_HEAD]))
    named = {
        m.group().lower()
        for m in words
        if not m.group().islower()
        and len(m.group()) > 1
        and text[max(0, m.start() - 8) : m.start()].rstrip("\"'*( \t\n")[-1:]
        not in ("", ".", "!", "?", ":", "<")
    }
    return named if 3 * len(named) <= len(words) else set()


def _lower(text: str) -> set[str]:
    return {m.lower() for m in _WORD.findall(text)}


def subject(text: str) -> list[str]:
    """What ``text`` is about: its words (first five letters) without function words and tags, in
    their order, each once."""
    words = (w.lower() for w in _WORD.findall(re.sub(r"<[^<>\s]++>", " ", text)))
    return list(dict.fromkeys(w[:5] for w in words if w not in _FUNCTION and len(w) > 2))
