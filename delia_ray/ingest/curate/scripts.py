"""Which scripts and languages texts are in; a count for people, not a filter."""

import re
from collections import Counter
from collections.abc import Sequence

import numpy as np

_BLOCKS = (
    (0x41, 0x250, "Latin"), (0x1E00, 0x1F00, "Latin"), (0x370, 0x400, "Greek"),
    (0x400, 0x530, "Cyrillic"), (0x530, 0x590, "Armenian"), (0x590, 0x600, "Hebrew"),
    (0x600, 0x780, "Arabic"), (0x900, 0x980, "Devanagari"), (0x980, 0xA00, "Bengali"),
    (0xB80, 0xC00, "Tamil"), (0xC00, 0xC80, "Telugu"), (0xE00, 0xE80, "Thai"),
    (0x10A0, 0x1100, "Georgian"), (0x1100, 0x1200, "Hangul"), (0x3040, 0x3100, "Kana"),
    (0x3400, 0xA000, "Han"), (0xAC00, 0xD7B0, "Hangul"), (0x20000, 0x323B0, "Han"),
)  # fmt: skip
"""(first code point, one behind the last, script): the blocks that most letters are in."""
_NAMES = sorted({name for _, _, name in _BLOCKS})

_WORDS = {
    "en": "the and of to is that for with are this was be on as it you what",
    "de": "der die und das ist nicht ein eine zu den mit von für auf sich dem",
    "fr": "le la les et des est une pour dans que qui sur pas avec du au",
    "es": "el los las una que por para con del es en se como más su y",
    "it": "il che di per una sono della con non gli nel è alla anche più le",
    "pt": "o que não uma para com os em do da são mais por dos como às",
    "nl": "het een van en de is niet dat zijn voor met op te aan ook er",
    "is": "og að er sem í til um við ekki það var fyrir á hann með eru",
    "sv": "och att det som en är på av för med inte den till har de ett",
    "da": "og det at er en af til på med ikke den der har for de som",
    "no": "og det er en av til på med ikke som for å har de et jeg",
    "fi": "ja on ei se että oli joka kun mutta niin hän ovat myös kuin tai mitä",
    "pl": "i w nie na się z do to jest że jak od po przez tym dla",
    "cs": "a se na je že v s to o jako pro ale by jsem za které",
    "tr": "ve bir bu için ile olarak da de çok daha ne gibi en var mi ben",
    "id": "yang dan di untuk dengan pada ini itu dari adalah tidak dalam akan ke oleh saya",
    "vi": "của và là có trong không được cho một các với này những người để đã",
    "ro": "și în a de la cu este pe nu că din care sunt mai pentru un",
    "hu": "a az és hogy nem is egy ez van meg csak de mint volt el már",
}
_COMMON = {word: [c for c, w in _WORDS.items() if word in w.split()] for words in _WORDS.values()
           for word in words.split()}  # fmt: skip
_ONLY = {"Hangul": "ko", "Kana": "ja", "Thai": "th", "Hebrew": "he", "Greek": "el",
         "Georgian": "ka", "Armenian": "hy", "Tamil": "ta", "Telugu": "te",
         "Bengali": "bn"}  # fmt: skip
_WORD = re.compile(r"[^\W\d_]+")


def scripts(texts: Sequence[str]) -> list[str]:
    """The script that most letters of each text are in; ``none`` without letters. Japanese
    counts as Kana wherever a tenth of its letters are, whatever else there is."""
    codes = np.frombuffer("".join(texts).encode("utf-32-le", "surrogatepass"), np.uint32)
    letter = ~(((codes > 0x5A) & (codes < 0x61)) | ((codes > 0x7A) & (codes < 0xC0)))
    owner = np.repeat(np.arange(len(texts)), [len(text) for text in texts])
    counts = np.zeros((len(texts), len(_NAMES)), np.int64)
    for first, end, name in _BLOCKS:
        inside = owner[(codes >= first) & (codes < end) & letter]
        counts[:, _NAMES.index(name)] += np.bincount(inside, minlength=len(texts))
    best, total = counts.argmax(axis=1), counts.sum(axis=1)
    kana = 10 * counts[:, _NAMES.index("Kana")] > total
    return [
        "none" if not n else "Kana" if k else _NAMES[i]
        for n, k, i in zip(total, kana, best, strict=True)
    ]


def language_of(text: str, script: str) -> str:
    """A language code by the most frequent words, where the script does not say it; ``und``
    where fewer than two of the first 200 words tell. Good for counts over many rows only."""
    if script == "Han":
        return "zh"
    if script != "Latin":
        return _ONLY.get(script, "und")
    seen = Counter(
        code for word in _WORD.findall(text.lower())[:200] for code in _COMMON.get(word, ())
    )
    if not seen:
        return "und"
    (code, times), *rest = seen.most_common(2)
    return code if times >= 2 and (not rest or rest[0][1] < times) else "und"


def count(texts: Sequence[str]) -> tuple[Counter[str], Counter[str]]:
    """How many texts are in each script and each language."""
    found = scripts(texts)
    languages = [language_of(text, one) for text, one in zip(texts, found, strict=True)]
    return Counter(found), Counter(languages)
