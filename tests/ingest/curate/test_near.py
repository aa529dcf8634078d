import random

import numpy as np
import pytest
from pydantic import ValidationError

from delia_ray.config import NearDuplicates
from delia_ray.ingest.curate.near import near_duplicates, signatures
from delia_ray.ingest.curate.steps import together
from delia_ray.ingest.curate.text import bare

WORDS = ["".join(random.Random(i).choices("abcdefghijklmnop", k=7)) for i in range(2000)]
DEFAULT = NearDuplicates()


def texts(count, seed=0):
    rng = random.Random(seed)
    return [" ".join(rng.choices(WORDS, k=40)) for _ in range(count)]


def found(rows, settings=DEFAULT):
    return near_duplicates(signatures(rows, settings), settings.threshold)


def jaccard(one, two, size):
    sets = [{bare(t)[i : i + size] for i in range(len(bare(t)) - size + 1)} for t in (one, two)]
    return len(sets[0] & sets[1]) / len(sets[0] | sets[1])


def test_different_texts_stay():
    assert (found(texts(500)) == -1).all()


def test_what_differs_in_case_punctuation_and_space_goes():
    rows = texts(50)
    changed = [row.upper().replace(" ", ",  ") for row in rows]
    assert found(rows + changed).tolist() == [-1] * 50 + list(range(50))


def test_texts_go_by_their_similarity():
    rng = random.Random(1)
    base, changed, similar = texts(400), [], []
    for row in base:
        words = row.split()
        for _ in range(rng.randrange(0, 12)):
            words[rng.randrange(40)] = rng.choice(WORDS)
        changed.append(" ".join(words))
        similar.append(jaccard(row, changed[-1], DEFAULT.shingle))
    gone = found(base + changed)[400:] >= 0
    similar = np.array(similar)
    assert gone[similar > 0.9].mean() > 0.98
    assert gone[similar < 0.65].mean() < 0.02


def test_rows_without_a_word_are_like_no_other():
    assert found(["", "?!", "...", "", "x"]).tolist() == [-1] * 5


def test_batches_are_as_good_as_one():
    rows = texts(30) + texts(30)
    whole = signatures(rows, DEFAULT)
    parts = together([signatures(rows[:20], DEFAULT), signatures(rows[20:], DEFAULT)])
    assert np.array_equal(whole.bands, parts.bands)
    assert np.array_equal(whole.marks, parts.marks)
    assert together([]) is None


def test_bands_must_divide():
    with pytest.raises(ValidationError, match="bands=5 must divide permutations=128"):
        NearDuplicates(bands=5)
