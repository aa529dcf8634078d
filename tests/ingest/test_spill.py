"""The pool through files is the pool sorted in memory; and what curation leaves of it."""

import pytest

from delia_ray.artifacts import Folder
from delia_ray.config import Curate, Source
from delia_ray.ingest import spill
from delia_ray.ingest.curate.leaks import index_of
from delia_ray.ingest.curate.steps import Curation
from delia_ray.ingest.gathering import (
    drop_duplicates,
    drop_near_duplicates,
    gather,
    keep_to_caps,
)
from delia_ray.ingest.parse import Job, parse_file
from delia_ray.ingest.pool import first_of_each, merge_by_key
from delia_ray.ingest.sources import Feed
from delia_ray.records import QUERY

from .helpers import jsonl, write

SHORT = "A short text of its own that nobody else has written down yet, number"


def through_files(tmp_path, feeds, buckets=3, curation=None):
    """What the stage does with its corpus, without Ray."""
    folder, gathered = Folder(f"{tmp_path}/scratch"), []
    for number, feed in enumerate(feeds):
        parts = [
            parse_file(
                Job(**{**vars(job), "store": (folder, f"{number}-{i}"), "buckets": buckets}),
                curation,
            )
            for i, job in enumerate(feed.jobs(0))
        ]
        gathered.append(gather(feed, parts))
    drop_duplicates(gathered)
    if curation is not None and curation.settings.near_duplicates is not None:
        drop_near_duplicates(gathered, curation.settings.near_duplicates.threshold)
    keep_to_caps(gathered)
    kept = [(s, t) for one in gathered for s, t in zip(one.stored, one.records, strict=True)]
    out = Folder(f"{tmp_path}/out")
    out.write_tables("corpus.parquet", QUERY, spill.pool(kept, buckets))
    return out.read_table("corpus.parquet"), gathered


def corpus(tmp_path, content, name="x.jsonl", **more):
    path = write(tmp_path, name, jsonl(content))
    return Feed("corpus", f"corpus[{name}]", name, Source(path=path, **more))


@pytest.mark.parametrize("buckets", [1, 3, 17])
def test_the_pool_is_what_sorting_in_memory_gives(buckets, tmp_path):
    rows = [{"prompt": f"query {i % 15_000}", "completion": "a"} for i in range(20_000)]
    feeds = [corpus(tmp_path, rows), corpus(tmp_path, rows[:30], "y.jsonl", weight=3)]
    found, gathered = through_files(tmp_path, feeds, buckets)
    tables = [parse_file(job).records for feed in feeds for job in feed.jobs(0)]
    masks = first_of_each(tables)
    expected = merge_by_key([t.filter(m) for t, m in zip(tables, masks, strict=True)])
    assert found.schema.equals(QUERY)
    assert found.equals(expected)
    assert [one.duplicates for one in gathered] == [5000, 30]
    assert [one.counts()["records"] for one in gathered] == [15_000, 0]


def test_boundaries_share_out_the_keys():
    assert len(spill.boundaries(1)) == 0
    assert list(spill.boundaries(2)) == pytest.approx([0.6931471805599453])


@pytest.mark.parametrize("limit", [1, 7, 8192, 9000])
def test_a_limit_counts_what_curation_leaves(limit, tmp_path):
    rows = [{"prompt": f"query {i}" + " long" * (i % 2)} for i in range(20_000)]
    feed = corpus(tmp_path, rows, rows=limit)
    curation = Curation(Curate(max_tokens=12), tokenizer=_miniature())
    found, [one] = through_files(tmp_path, [feed], curation=curation)
    counts = one.counts()
    assert counts["records"] == len(found) == limit
    assert counts["read"] == 20_000
    assert set(counts.get("removed", {})) <= {"too long"}


def _miniature():
    from delia_ray.models import locate

    return locate("miniature")


def test_steps_remove_count_and_list(tmp_path):
    text = "The quick brown fox jumps over the lazy dog while the whole village looks on."
    rows = [
        {"prompt": text},
        {"prompt": text.upper().replace(" ", "  ")},
        {"prompt": "\u200b \ufeff"},
        {"prompt": "evaluation secret number forty-two is written right here for you, see it"},
        *({"prompt": f"{SHORT} {i} {i * 7919 % 1000}" + chr(97 + i) * 30} for i in range(5)),
    ]
    settings = Curate(normalize="nfkc", near_duplicates={}, leaks={}, statistics=True)
    secret = "Evaluation SECRET: number forty two is written right here, for you -- see it!"
    index = index_of([secret], settings.leaks)
    curation = Curation(settings, index, ("suite x, row 1",))
    found, [one] = through_files(tmp_path, [corpus(tmp_path, rows, cap=4)], curation=curation)
    removed = one.removed.to_pylist()
    assert [(r["row"], r["step"]) for r in removed if r["step"] != "cap"] == [
        (3, "empty"), (4, "leak"), (2, "near-duplicate"),
    ]  # fmt: skip
    assert removed[2]["detail"] == "row 1 of x.jsonl"
    assert one.leaks.to_pylist()[0]["of"] == "suite x, row 1"
    assert one.counts()["removed"] == {"cap": 2, "empty": 1, "leak": 1, "near-duplicate": 1}
    assert len(found) == 4
    assert one.statistics.scripts == {"Latin": 7}
    everything, _ = through_files(tmp_path / "b", [corpus(tmp_path, rows)], curation=curation)
    assert everything["id"].to_pylist()[:4] == found["id"].to_pylist()
