"""Lengths of kept answers, cut-off ones and references, and the warning where a cut matters."""

import pyarrow as pa
import pytest

from delia_ray.report.curves import length_plot
from delia_ray.synthesize.lengths import CUT, lengths, share_cut_off, warning


def _answers(kept: list[int], cut: int = 0, other: int = 0) -> pa.Table:
    reasons = [None] * len(kept) + ["cut off"] * cut + ["refused"] * other
    return pa.table(
        {
            "completion_tokens": pa.array([*kept, *[512] * cut, *[9] * other], pa.int64()),
            "reason": pa.array(reasons, pa.string()),
        }
    )


def test_quantiles_of_each_kind() -> None:
    found = lengths(_answers(list(range(1, 101)), cut=3, other=7), [10, 20, 30])
    assert found["kept"] == {
        "rows": 100, "0 %": 1, "5 %": 5, "25 %": 25, "50 %": 50, "75 %": 75, "95 %": 95,
        "100 %": 100,
    }  # fmt: skip
    assert found["cut off"]["rows"] == 3
    assert found["cut off"]["0 %"] == 512
    assert found["references"]["50 %"] == 20


def test_kinds_without_rows_are_left_out() -> None:
    assert set(lengths(_answers([5]), [])) == {"kept"}
    assert set(lengths(_answers([], cut=2), [4])) == {"cut off", "references"}
    assert lengths(_answers([]), []) == {}


@pytest.mark.parametrize(
    ("kept", "cut", "other", "warned"),
    [(95, 5, 0, False), (94, 6, 0, True), (94, 6, 500, True), (0, 1, 0, True), (0, 0, 3, False),
     (1661, 239, 0, True), (1000, 0, 0, False)],
)  # fmt: skip
def test_the_cut_is_warned_of_above_the_bar(kept, cut, other, warned) -> None:
    found = lengths(_answers([7] * kept, cut, other), [50])
    assert (share_cut_off(found) > CUT) is warned
    assert bool(warning(found, 256)) is warned


def test_the_warning_names_setting_share_and_lengths() -> None:
    told = warning(lengths(_answers([40] * 80, 20), [90] * 9), 256)
    assert "20% of the answers reached synthesize.sampling.max_tokens=256" in told
    assert "up to 40 tokens" in told
    assert "references up to 90" in told


def test_they_are_drawn() -> None:
    assert length_plot({}) == []
    [drawn] = length_plot(lengths(_answers(list(range(50)), 9), [4, 8]))
    for text in ("kept (50)", "cut off (9)", "references (2)"):
        assert text in drawn
