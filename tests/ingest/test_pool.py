import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from delia_ray.ingest.pool import first_of_each, merge_by_key, pool_key
from delia_ray.records import content_id

IDS = [content_id([], str(i)) for i in range(4000)]
IDENTIFIERS = st.lists(st.sampled_from(IDS), min_size=1, max_size=30, unique=True)


def order(seed, ids, weights=None):
    weights = weights or {}
    return sorted(ids, key=lambda i: (pool_key(seed, i, weights.get(i, 1.0)), i))


@given(st.integers(0, 2**32), IDENTIFIERS, IDENTIFIERS, st.sampled_from([0.1, 1.0, 7.0]))
def test_a_further_source_leaves_the_order_of_the_others(seed, old, new, weight):
    weights = {i: weight for i in new if i not in old}
    both = order(seed, {*old, *new}, weights)
    assert [i for i in both if i in set(old)] == order(seed, old)


@given(st.integers(0, 2**32), st.sampled_from(IDS), st.floats(0.01, 100), st.floats(0.01, 100))
def test_more_weight_never_comes_later(seed, id, one, other):
    keys = [pool_key(seed, id, weight) for weight in sorted([one, other])]
    assert keys[0] >= keys[1] >= 0


def test_the_order_is_a_function_of_seed_and_id_alone():
    assert order(1, IDS) == order(1, reversed(IDS))
    assert order(1, IDS)[:5] != order(2, IDS)[:5]


@pytest.mark.parametrize("weight", [1.0, 3.0])
def test_weight_multiplies_the_chance_of_coming_first(weight):
    heavy = IDS[:1000]
    weights = dict.fromkeys(heavy, weight)
    # The share of heavy rows early in the pool: weight * 1000 / (weight * 1000 + 3000).
    first = order(0, IDS, weights)[:400]
    share = sum(i in set(heavy) for i in first) / 400
    assert share == pytest.approx(weight / (weight + 3), abs=0.07)


def test_later_places_thin_out_what_came_early():
    """Without replacement: a weight of 3 on 1000 of 4000 leaves few of them at the end."""
    heavy = set(IDS[:1000])
    last = order(0, IDS, dict.fromkeys(heavy, 3.0))[-400:]
    assert sum(i in heavy for i in last) < 40


def test_first_of_each_counts_through_all_tables():
    tables = [pa.table({"id": ids}) for ids in (list("aab"), [], list("bca"))]
    tables[1] = tables[0].slice(0, 0)
    masks = [mask.to_pylist() for mask in first_of_each(tables)]
    assert masks == [[True, False, True], [], [False, True, False]]
    assert first_of_each([]) == []


ROWS = st.lists(st.tuples(st.floats(0, 9, width=16), st.sampled_from(IDS)), max_size=40)


@settings(deadline=None)
@given(st.lists(ROWS, min_size=1, max_size=3), st.sampled_from([1, 100, 2**28]))
def test_merging_in_pieces_sorts_the_whole(parts, bytes_at_once):
    schema = pa.schema([("key", pa.float64()), ("id", pa.string())])
    tables = [
        pa.Table.from_pylist([{"key": k, "id": i} for k, i in part], schema) for part in parts
    ]
    merged = merge_by_key(tables, bytes_at_once)
    pairs = list(zip(merged["key"].to_pylist(), merged["id"].to_pylist(), strict=True))
    assert pairs == sorted(pair for part in parts for pair in part)
