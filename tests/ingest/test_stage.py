import http.server
import json
import pickle
import threading
from functools import partial

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from delia_ray.artifacts import Folder
from delia_ray.errors import DeliaError, UserError
from delia_ray.evaluate.systems import read_systems
from delia_ray.ingest.stage import STAGE
from delia_ray.ingest.stage import run as run_stage
from delia_ray.ingest.stage import settings as stage_settings
from delia_ray.records import EXAMPLE, QUERY, REJECT, REMOVED
from delia_ray.stage import StageRun

from .helpers import DOWNSTREAM, config_of, jsonl, write

pytestmark = pytest.mark.ray


def ingest(tree, out, seen=None):
    steps = [] if seen is None else seen
    run = StageRun(
        config=config_of(tree),
        run=Folder(str(out)),
        out=Folder(str(out)),
        inputs={},
        progress=lambda done, total, note="": steps.append((done, total, note)),
    )
    return run_stage(run), run.out


def sound(counts):
    for group in ("downstream", "corpus", "suites"):
        for one in counts[group].values():
            rest = sum(one["rejects"].values()) + one["duplicates"] + one["beyond_limit"]
            assert one["read"] == one["records"] + rest
    return counts


def test_tables_and_counts(base, ray_local, tmp_path):
    seen = []
    outcome, out = ingest(base, tmp_path / "out", seen)
    counts = sound(json.loads(json.dumps(outcome.counts)))
    [folder, more] = counts["corpus"].values()
    assert folder == {
        "files": 2, "read": 41, "records": 30, "rejects": {"not valid JSON": 1},
        "duplicates": 10, "beyond_limit": 0, "kept_duplicates": 0, "without_answer": 0,
        "layouts": {"alpaca": {"rows": 40, "columns": {"instruction": "prompt",
                                                       "output": "answer"}}},
    }  # fmt: skip
    assert (more["records"], more["duplicates"], more["without_answer"]) == (1, 1, 1)
    assert counts["suites"]["held_out"]["records"] == 2
    assert counts["files"] == 5
    assert outcome.summary == "4 downstream, 31 diverse queries, 1 rejects, 11 duplicates"
    assert f"{tmp_path}/in/c: 40 rows as alpaca (prompt: instruction; answer: output)" in (
        outcome.notes
    )
    assert [step[:2] for step in seen] == [(i + 1, 5) for i in range(5)]
    assert sorted(step[2] for step in seen)[0] == "down.jsonl"

    assert out.names() == [
        "corpus.parquet", "downstream.parquet", "rejects.parquet", "suite-held_out.parquet",
    ]  # fmt: skip
    downstream = out.read_table("downstream.parquet")
    assert downstream.schema.equals(EXAMPLE)
    assert downstream["answer"].to_pylist() == list("0123")
    corpus = out.read_table("corpus.parquet")
    assert corpus.schema.equals(QUERY)
    assert len(set(corpus["id"].to_pylist())) == 31
    keys = corpus["key"].to_pylist()
    assert keys == sorted(keys)
    rejects = out.read_table("rejects.parquet")
    assert rejects.schema.equals(REJECT)
    assert rejects.to_pylist()[0]["row"] == 21
    assert rejects["file"][0].as_py() == "two.jsonl.gz"


def test_the_same_bytes_again_and_the_pool_without_a_source(base, ray_local, tmp_path):
    _, one = ingest(base, tmp_path / "one")
    _, two = ingest(base, tmp_path / "two")
    for name in one.names():
        assert one.read_bytes(name) == two.read_bytes(name)
    smaller = {**base, "corpus": base["corpus"][:1]}
    _, three = ingest(smaller, tmp_path / "three")
    ids = three.read_table("corpus.parquet")["id"].to_pylist()
    assert [i for i in one.read_table("corpus.parquet")["id"].to_pylist() if i in ids] == ids


def test_duplicates_of_downstream_rows_stay_and_are_counted(base, ray_local, tmp_path):
    write(tmp_path, "in/down.jsonl", jsonl(DOWNSTREAM + DOWNSTREAM[:2]))
    outcome, out = ingest(base, tmp_path / "out")
    [counts] = sound(outcome.counts)["downstream"].values()
    assert (counts["records"], counts["kept_duplicates"], counts["duplicates"]) == (6, 2, 0)
    assert len(out.read_table("downstream.parquet")) == 6


def test_several_downstream_sets_keep_their_names(base, ray_local, tmp_path):
    """Each set is a task; the mix spreads them by their source."""
    path = write(tmp_path, "in/other.jsonl", jsonl(DOWNSTREAM[:2]))
    base["downstream"]["also"] = [{"path": str(path)}]
    outcome, out = ingest(base, tmp_path / "out")
    counts = sound(outcome.counts)["downstream"]
    assert [c["records"] for c in counts.values()] == [4, 2]
    table = out.read_table("downstream.parquet")
    assert table["source"].to_pylist() == [base["downstream"]["path"]] * 4 + [str(path)] * 2


@pytest.mark.parametrize(
    ("limit", "records", "duplicates", "rejects", "beyond"),
    [(1, 1, 0, 0, 40), (20, 20, 0, 0, 21), (25, 20, 5, 0, 16), (40, 30, 10, 0, 1),
     (41, 30, 10, 1, 0)],
)  # fmt: skip
def test_rows_takes_the_first_records_in_file_order(
    limit, records, duplicates, rejects, beyond, base, ray_local, tmp_path
):
    base["corpus"] = [{**base["corpus"][0], "rows": limit}]
    outcome, out = ingest(base, tmp_path / "out")
    [counts] = sound(outcome.counts)["corpus"].values()
    assert counts["records"] == records == len(out.read_table("corpus.parquet"))
    assert (counts["duplicates"], counts["beyond_limit"]) == (duplicates, beyond)
    assert sum(counts["rejects"].values()) == rejects == len(out.read_table("rejects.parquet"))


def test_weights_bring_a_source_forward(base, ray_local, tmp_path):
    for name, start in (("a", 0), ("b", 1000)):
        rows = [{"prompt": str(i)} for i in range(start, start + 1000)]
        write(tmp_path, f"in/{name}.jsonl", jsonl(rows))
    base["corpus"] = [
        {"path": f"{tmp_path}/in/a.jsonl", "weight": 3},
        {"path": f"{tmp_path}/in/b.jsonl"},
    ]
    _, out = ingest(base, tmp_path / "out")
    first = out.read_table("corpus.parquet").slice(0, 200)["source"].to_pylist()
    assert sum(source.endswith("a.jsonl") for source in first) / 200 == pytest.approx(0.75, abs=0.1)


def test_the_same_prompt_with_other_references_stays(base, ray_local, tmp_path):
    rows = [{"prompt": "q", "completion": "a"}, {"prompt": "q", "completion": "b"}]
    base["corpus"] = [{"path": write(tmp_path, "in/x.jsonl", jsonl(rows))}]
    assert len(ingest(base, tmp_path / "out")[1].read_table("corpus.parquet")) == 2


def test_curation_end_to_end(base, ray_local, tmp_path):
    """Every step at once: counted, listed, and measured."""
    leaked = "what the suite asks is a secret that no corpus may hold in any form, at all"
    write(tmp_path, "in/suite.jsonl", jsonl([{"prompt": leaked, "completion": "so it is"}]))
    text = "a query that is long enough to be compared with others by its shingles"
    rows = [
        {"prompt": text}, {"prompt": f"{text.upper()}!"}, {"prompt": f"Well: {leaked.title()}"},
        {"prompt": "long " * 300},
        *({"prompt": f"{i} {chr(97 + i) * 40} is what number {i * 97} asks for"} for i in range(6)),
    ]  # fmt: skip
    base["corpus"] = [{"path": write(tmp_path, "in/x.jsonl", jsonl(rows)), "cap": 5}]
    base["curate"] = {
        "normalize": "nfc", "max_tokens": 250, "near_duplicates": {}, "leaks": {},
        "statistics": True, "diversity": {"embedded": 4},
    }  # fmt: skip
    outcome, out = ingest(base, tmp_path / "out")
    [counts] = outcome.counts["corpus"].values()
    assert counts["removed"] == {"cap": 2, "leak": 1, "near-duplicate": 1, "too long": 1}
    assert counts["read"] == counts["records"] + 5 == 10
    assert out.read_table("leaks.parquet")["of"].to_pylist() == [
        "evaluate.suites[held_out], row 1 of suite.jsonl"
    ]
    removed = out.read_table("removed.parquet")
    assert removed.schema.equals(REMOVED)
    assert outcome.counts["curation"]["scripts"] == {"Latin": 8}
    assert len(out.read_table("embeddings.parquet")) == 4
    assert len(out.read_table("corpus.parquet")) == 5
    assert "scratch" not in out.names()


def test_one_path_in_two_sources_and_no_corpus_at_all(base, ray_local, tmp_path):
    base["corpus"] = [base["corpus"][1], base["corpus"][1]]
    outcome, _ = ingest(base, tmp_path / "out")
    path = base["corpus"][0]["path"]
    assert list(sound(outcome.counts)["corpus"]) == [path, f"{path} (corpus[1])"]
    base["corpus"] = []
    outcome, out = ingest(base, tmp_path / "none")
    assert out.read_table("corpus.parquet").schema.equals(QUERY)
    assert outcome.summary == "4 downstream, 0 diverse queries, 0 rejects"


def test_the_demo(ray_local, tmp_path):
    outcome, out = ingest({}, tmp_path / "out")
    assert outcome.summary == "64 downstream, 20,000 diverse queries, 0 rejects"
    sound(outcome.counts)
    assert len(out.read_table("suite-plain.parquet")) == 128


def test_the_seed_changes_the_order_and_not_the_data(base, ray_local, tmp_path):
    base["corpus"] = [{"path": "corpus", "format": "miniature", "rows": 50}]
    outs = [ingest({**base, "seed": seed}, tmp_path / str(seed))[1] for seed in (0, 1)]
    one, two = (out.read_table("corpus.parquet")["id"].to_pylist() for out in outs)
    assert one != two
    assert set(one) == set(two)


@pytest.fixture
def server(tmp_path):
    """A web server over the input files."""
    pytest.importorskip("aiohttp", reason="fsspec reads http with it")

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args):
            pass

    handler = partial(Quiet, directory=str(tmp_path / "in"))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_address[1]}"
        running.shutdown()


def test_a_url_is_read(base, server, ray_local, tmp_path):
    base["corpus"] = [{"path": f"{server}/{name}"} for name in ("c/two.jsonl.gz", "more.parquet")]
    assert stage_settings(config_of(base))["corpus"][0]["files"]
    outcome, _ = ingest(base, tmp_path / "out")
    assert [c["records"] for c in outcome.counts["corpus"].values()] == [20, 1]


def test_a_url_without_a_file(base, server):
    base["corpus"] = [{"path": f"{server}/nothing.jsonl"}]
    with pytest.raises(UserError, match=r"^corpus\[0\]\.path=http://.*nothing\.jsonl: "):
        stage_settings(config_of(base))


def test_a_file_that_goes_away_ends_the_run(base, ray_local, tmp_path, monkeypatch):
    from delia_ray.ingest import sources

    gone = f"{tmp_path}/in/gone.jsonl"
    files = [sources.InputFile("gone.jsonl", gone, True)]
    monkeypatch.setattr(sources, "find", lambda *_: sources.Found(files, {}))
    with pytest.raises(DeliaError, match=r"reading gone\.jsonl failed \(FileNotFoundError"):
        ingest(base, tmp_path / "out")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"downstream\.path=.*: no rows; downstream must not be empty"),
        (b"[]", r"no rows"),
        (b'{"q": "a"}\n{"q": "b"}\n[1]\n', r"none of 3 rows could be read; 2 times: no known "
         r"layout \(row 1 of down\.jsonl: no known layout: columns q; nearest is "
         r"prompt_completion, with columns: {prompt: q}\)"),
        (b'{"prompt": "a"}\n', r"1 times: no answer"),
    ],
)  # fmt: skip
def test_a_source_that_gives_nothing(content, message, base, ray_local, tmp_path):
    write(tmp_path, "in/down.jsonl", content)
    with pytest.raises(UserError, match=message):
        ingest(base, tmp_path / "out")


def test_the_stage_is_named():
    assert STAGE.name == "ingest"
    assert STAGE.needs == {}


def test_what_is_left_out_is_said_once(base, ray_local, tmp_path):
    rows = [{"q": f"query {i}", "a": "x", "note": f"note {i}", "input": "nan"} for i in range(3)]
    write(tmp_path, "in/more.jsonl", jsonl(rows))
    write(tmp_path, "in/down.jsonl", jsonl([{"instruction": "t", "input": "nan", "output": "1"}]))
    columns = {"prompt": "q", "completion": "a"}
    base["corpus"].append({"path": f"{tmp_path}/in/more.jsonl", "columns": columns})
    outcome, _ = ingest(base, tmp_path / "out")
    counts = json.loads(json.dumps(outcome.counts))["corpus"][f"{tmp_path}/in/more.jsonl"]
    assert counts["layouts"] == {
        "prompt_completion": {"rows": 3, "columns": {"q": "prompt", "a": "answer"}}
    }
    assert counts["left_out"] == {
        "note": {"rows": 3, "example": "note 0"}, "input": {"rows": 3, "example": "nan"},
    }  # fmt: skip
    said = [note for note in outcome.notes if "more.jsonl" in note]
    assert said == [
        f"{tmp_path}/in/more.jsonl: 3 rows as prompt_completion (prompt: q; answer: a)",
        f"{tmp_path}/in/more.jsonl: left out: note ('note 0'), input ('nan')",
    ]
    assert f"{tmp_path}/in/down.jsonl: input: 'nan' taken for missing (1 rows)" in outcome.notes


@pytest.mark.parametrize("container", ["parquet", "arrow"])
def test_nothing_in_a_file_is_unpickled_by_any_process(base, ray_local, tmp_path, container):
    """Workers have the types of Ray Data registered, whose values unpickle themselves."""
    mark = tmp_path / "MARK"
    payload = pickle.dumps(WritesAFile(mark))
    kind = pa.large_binary()
    meta = {b"ARROW:extension:name": b"ray.data.arrow_pickled_object",
            b"ARROW:extension:metadata": b""}  # fmt: skip
    fields = [pa.field("prompt", pa.string()), pa.field("completion", pa.string()),
              pa.field("extra", kind, metadata=meta)]  # fmt: skip

    def file(name: str) -> str:
        texts = [[f"{name} {i}" for i in range(4)], [f"answer {i}" for i in range(4)]]
        columns = [*map(pa.array, texts), pa.array([payload] * 4, kind)]
        table = pa.table(columns, pa.schema(fields))
        path = tmp_path / f"{name}.{container}"
        if container == "parquet":
            pq.write_table(table, path)
        else:
            with pa.ipc.new_file(str(path), table.schema) as writer:
                writer.write_table(table)
        return str(path)

    base["downstream"]["path"] = file("down")
    base["corpus"] = [{"path": file("pool")}]
    base["evaluate"]["suites"] = [{"name": "held_out", "path": file("suite")}]
    outcome, _ = ingest(base, tmp_path / "out")
    assert not mark.exists()
    counts = sound(json.loads(json.dumps(outcome.counts)))
    for group in ("downstream", "corpus", "suites"):
        [one] = counts[group].values()
        assert one["records"] == 4
        assert "extra" in one["left_out"]
    base["evaluate"]["systems"] = {"other": {"held_out": f"{tmp_path}/suite.{container}"}}
    with pytest.raises(UserError, match=r"systems\.other\.held_out"):
        read_systems(config_of(base), {"held_out": 4})
    assert not mark.exists()


class WritesAFile:
    """Writes a file when it is unpickled."""

    def __init__(self, mark):
        self.mark = str(mark)

    def __reduce__(self):
        return open, (self.mark, "w")
