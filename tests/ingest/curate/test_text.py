import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from delia_ray.ingest.curate import scripts
from delia_ray.ingest.curate.text import bare, normalized, windows


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a\r\nb\rc\u2028d", "a\nb\nc\nd"),
        ("  a \t\n b\u00a0\n", "a\n b"),
        ("soft\u00adhyphen\u200b", "softhyphen"),
        ("e\u0301", "é"),
        ("👩\u200d👧", "👩\u200d👧"),
    ],
)
def test_normalized(text, expected):
    assert normalized(text, "nfc") == expected
    assert normalized(normalized(text, "nfc"), "nfc") == expected


def test_nfkc_folds_what_nfc_keeps():
    assert (normalized("ﬁ ①", "nfc"), normalized("ﬁ ①", "nfkc")) == ("ﬁ ①", "fi 1")


def test_bare_keeps_what_case_punctuation_and_space_do_not_change():
    assert bare("Straße, 7—x_y!") == bare(" STRASSE 7 X y ") == "strasse7xy"
    assert bare("?!") == ""


TEXTS = st.lists(st.text("abcþ你", max_size=12), max_size=6)


@settings(max_examples=50, deadline=None)
@given(TEXTS, st.integers(1, 5))
def test_windows_are_equal_where_their_characters_are(texts, size):
    hashes, offsets = windows(texts, size)
    named = {}
    for number, text in enumerate(texts):
        own = hashes[offsets[number] : offsets[number + 1]]
        parts = [text[i : i + size] for i in range(len(text) - size + 1)]
        parts = parts or ([text] if text else [])
        assert len(own) == len(parts)
        for part, value in zip(parts, own, strict=True):
            assert named.setdefault(part, value) == value
    assert len(set(map(int, named.values()))) == len(named)
    assert hashes.dtype == np.uint64


@pytest.mark.parametrize(
    ("text", "script", "language"),
    [
        ("The house is on the hill and the river is below.", "Latin", "en"),
        ("Das Haus ist auf dem Hügel und der Fluss ist unten.", "Latin", "de"),
        ("Það er ekki til neins að tala um það við hann.", "Latin", "is"),
        ("Где находится библиотека?", "Cyrillic", "und"),
        ("图书馆在哪里？", "Han", "zh"),
        ("図書館はどこですか", "Kana", "ja"),
        ("도서관이 어디예요?", "Hangul", "ko"),
        ("12 + 30 = ?", "none", "und"),
        ("", "none", "und"),
    ],
)
def test_scripts_and_languages(text, script, language):
    found = scripts.scripts(["x", text, "é"])[1]
    assert (found, scripts.language_of(text, found)) == (script, language)
