"""The parts of ``delia drill`` that need no cluster: schedule, comparison, table, strikes on the
storage."""

import threading
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from delia_ray.artifacts import Folder
from delia_ray.drill.compare import Result, compare, result_of
from delia_ray.drill.place import deny, real_folder
from delia_ray.drill.run import Outcome, line, page, prepare, summary
from delia_ray.drill.schedule import KINDS, STRIKES, Drill, schedule
from delia_ray.errors import UserError
from delia_ray.records import ANSWER, COMPLETION, REWORDING


@given(seed=st.integers(0, 99), count=st.integers(0, 80), more=st.integers(0, 40))
def test_a_schedule_is_its_seed(seed: int, count: int, more: int) -> None:
    drills = schedule(seed, count)
    assert [d.number for d in drills] == list(range(1, count + 1))
    assert schedule(seed, count + more)[:count] == drills
    assert all(d.kind in STRIKES[d.stage] and 0.05 <= d.share <= 0.9 for d in drills)


def test_thirty_drills_strike_everything() -> None:
    drills = schedule(0, 30)
    assert {(d.stage, d.kind) for d in drills} == {
        (s, k) for s, own in STRIKES.items() for k in own
    }
    assert schedule(0, 30) != schedule(1, 30)
    assert {d.kind for d in schedule(0, 9, ["worker", "node"])} == {"worker", "node"}


def test_a_kind_that_is_none() -> None:
    with pytest.raises(UserError, match=r"--kinds nodes: choose from driver"):
        schedule(0, 3, ["nodes"])
    assert len(KINDS) == 8


def answer(number: int, text: str = "a") -> dict[str, object]:
    return {"id": f"q{number}", "source": "s", "prompt": [], "answer": text,
            "finish_reason": "stop", "completion_tokens": 1, "reason": None}  # fmt: skip


MARK = "0123456789abcdef"


def finished(storage: Path, answers: list[dict[str, object]], order: bytes = b"1 2 3") -> Path:
    """A finished run with these answers, as the stages leave it."""
    run = storage / "drill"
    tables = {
        "answers": pa.Table.from_pylist(answers, ANSWER),
        "answers_set_aside": ANSWER.empty_table(),
        "rewordings": REWORDING.empty_table(),
        "rewordings_set_aside": REWORDING.empty_table(),
    }
    for stage in ("synthesize", "mix", "evaluate", f"finetune/{MARK}/delia/adapter", "ingest"):
        (run / stage / ("" if "/" in stage else MARK)).mkdir(parents=True)
    for name, table in tables.items():
        pq.write_table(table, run / "synthesize" / MARK / f"{name}.parquet")
    (run / "mix" / MARK / "steps-delia.arrow").write_bytes(order)
    (run / "evaluate" / MARK / "scores.json").write_text('{"plain": 0.5}')
    adapter = run / "finetune" / MARK / "delia" / "adapter" / "adapter_model.safetensors"
    adapter.write_bytes(b"weights")
    Folder(str(run)).write_json("stages.json", dict.fromkeys(STRIKES, MARK))
    (storage / "cache" / "synthesis" / "m").mkdir(parents=True)
    made = [{"key": a["id"], "text": "", "finish_reason": "stop", "prompt_tokens": 1,
             "completion_tokens": 1, "seconds": 0.0, "error": ""} for a in answers]  # fmt: skip
    pq.write_table(
        pa.Table.from_pylist(made, COMPLETION),
        storage / "cache" / "synthesis" / "m" / "part-0.parquet",
    )
    return storage


def test_nothing_lost_and_nothing_repeated(tmp_path: Path) -> None:
    wanted = result_of(finished(tmp_path / "a", [answer(1), answer(2), answer(3)]), "drill")
    same = result_of(finished(tmp_path / "b", [answer(3), answer(1), answer(2)]), "drill")
    assert compare(same, wanted).good, "the order of a table is not the order of the data"
    broken = finished(tmp_path / "c", [answer(1), answer(1), answer(2, "b")], order=b"3 2 1")
    found = compare(result_of(broken, "drill"), wanted)
    assert (found.lost, found.repeated, found.changed, found.made_again) == (1, 1, 1, 1)
    assert (found.same_order, found.same_weights, found.same_scores) == (False, True, True)
    assert not found.good


RESULT = Result(Counter({("t:1", "x"): 1}), "o", {"delia": "w"}, {"plain": 0.5}, Counter("k"))


@pytest.mark.parametrize(
    "broken",
    [
        replace(RESULT, rows=Counter()),
        replace(RESULT, rows=Counter({("t:1", "x"): 2})),
        replace(RESULT, rows=Counter({("t:1", "y"): 1})),
        replace(RESULT, order="p"),
        replace(RESULT, scores={"plain": 0.4}),
    ],
)
def test_every_kind_of_damage_is_seen(broken: Result) -> None:
    assert compare(RESULT, RESULT).good
    assert not compare(broken, RESULT).good


def test_the_table_says_what_happened() -> None:
    good, bad = compare(RESULT, RESULT), compare(replace(RESULT, rows=Counter()), RESULT)
    outcomes = [
        Outcome(Drill(1, "mix", "driver", 0.5), "driver", 2, 12.0, good),
        Outcome(Drill(2, "finetune", "worker", 0.1), "worker", 1, 30.0, bad),
    ]
    figures = summary(outcomes, ["drill.yaml"], 0)
    assert (figures["drills"], figures["broken"], figures["lost"]) == (2, 1, 1)
    assert figures["repeated"] == 0
    text = page(figures, outcomes)
    assert "2 drills, 1 broken; 1 rows lost, 0 repeated" in text
    assert "| 2 | finetune | worker | 10% | 1 | 1 | 0 | 0 | 0 | yes | yes | yes | 30.0 |" in text
    assert line(outcomes[0]).startswith("ok ")
    assert line(outcomes[1]).startswith("BROKEN")


def test_a_denied_storage_cannot_be_written_and_comes_back_whole(tmp_path: Path) -> None:
    storage = tmp_path / "storage"
    real_folder(storage).mkdir()
    storage.symlink_to(real_folder(storage))
    (storage / "kept").write_text("x")
    seen: list[str] = []

    def look() -> None:
        while not seen or seen[-1] != "back":
            try:
                (storage / "deep").mkdir(parents=True, exist_ok=True)
                (storage / "deep" / "file").write_text("y")
                if "denied" in seen:
                    seen.append("back")
            except OSError:
                seen.append("denied")

    looker = threading.Thread(target=look, daemon=True)
    looker.start()
    deny(storage, 0.3)
    looker.join(60)
    assert seen[-1] == "back"
    assert (storage / "kept").read_text() == "x"


def test_a_drill_begins_with_what_was_done_before_its_stage(tmp_path: Path) -> None:
    whole = finished(tmp_path / "whole", [answer(1)])
    early, late = tmp_path / "early", tmp_path / "late"
    prepare(whole, early, "synthesize")
    assert [p.name for p in (early / "drill").iterdir()] == ["ingest"]
    assert not (early / "cache").exists(), "texts are to be generated"
    prepare(whole, late, "evaluate")
    assert {p.name for p in (late / "drill").iterdir()} == set(STRIKES) - {"evaluate"}
    assert (late / "cache").exists()
