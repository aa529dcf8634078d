"""Verdicts follow from intervals, and claims from the right contrasts."""

import json
from dataclasses import asdict

import numpy as np
import pytest

from delia_ray.evaluate.hierarchical import Estimate, arm_mean, difference
from delia_ray.study.claims import Better, Claim, Ordered, Parts
from delia_ray.study.verdicts import judge, verdict_of


def _numbers(mean: float, spread: float = 0.1, seeds: int = 5) -> dict[str, np.ndarray]:
    """One number for each seed, with exactly this mean and about this spread."""
    return {"s": mean + spread * np.linspace(-1, 1, seeds)[:, None]}


def _around(value: float) -> Estimate:
    return arm_mean(_numbers(value))  # half width 0.0981 at 95 %


@pytest.mark.parametrize(
    ("value", "direction", "negligible", "verdict"),
    [
        (0.2, "greater", 0, "holds"),
        (0.2, "less", 0, "does not hold"),
        (-0.2, "greater", 0, "does not hold"),
        (-0.2, "less", 0, "holds"),
        (0.05, "greater", 0, "cannot tell"),
        (0.05, "less", 0, "cannot tell"),
        (0.0, "greater", 0.09, "cannot tell"),  # the interval is wider than what matters
        (0.0, "greater", 0.11, "does not hold"),
        (0.05, "greater", 0.11, "cannot tell"),  # it might be 0.12
        (0.2, "greater", 0.11, "holds"),
        (0.2, "greater", 0.4, "does not hold"),  # real, and surely too small to matter
    ],
)
def test_verdicts(value: float, direction: str, negligible: float, verdict: str) -> None:
    found, reason = verdict_of(_around(value), direction, negligible)  # type: ignore[arg-type]
    assert found == verdict, reason
    assert "95 % interval" in reason


def test_one_seed_decides_nothing() -> None:
    rows = difference({"s": [[1, 1, 1, 0.9]]}, {"s": [[0, 0, 0, 0.1]]})
    assert rows.low > 0.5
    found, reason = verdict_of(rows, "greater")
    assert found == "cannot tell"
    assert "one seed" in reason


def test_no_variance_at_all() -> None:
    ones, zeros = ({"s": np.full((5, 9), x)} for x in (1.0, 0.0))
    claim = Better(name="c", ours=("a",), baseline="b")
    assert judge(claim, {"a": ones, "b": zeros}).verdict == "holds"
    assert judge(claim, {"a": zeros, "b": ones}).verdict == "does not hold"
    assert judge(claim, {"a": ones, "b": ones}).verdict == "cannot tell"


def test_better_averages_its_arms_and_names_the_exceptions() -> None:
    scores = {"0": _numbers(0.0), "8": _numbers(2.0), "16": _numbers(1.6), "32": _numbers(-0.6)}
    found = judge(Better(name="c", ours=("8", "16", "32"), baseline="0"), scores)
    assert found.headline.estimate.value == pytest.approx(1)
    assert [f.estimate.value for f in found.findings] == pytest.approx([2, 1.6, -0.6])
    assert [f.verdict for f in found.findings] == ["holds", "holds", "does not hold"]
    assert found.verdict == "holds"
    assert "the opposite for 32 - 0" in found.reason


def test_more_claims_widen_the_claim_and_more_arms_the_findings() -> None:
    scores = {str(i): _numbers(0.01 * i) for i in range(8)}
    one = judge(Better(name="c", ours=("1",), baseline="0"), scores)
    assert one.headline.estimate == one.findings[0].estimate
    four = judge(Better(name="c", ours=("1",), baseline="0"), scores, claims=4)
    assert four.headline.estimate.confidence == pytest.approx(1 - 0.05 / 4)
    assert four.headline.p_adjusted == pytest.approx(min(1, 4 * one.headline.estimate.p))
    seven = judge(Better(name="c", ours=tuple("1234567"), baseline="0"), scores)
    assert {f.estimate.confidence for f in seven.findings} == {1 - 0.05 / 7}


RATIOS = (("a", 0.0), ("b", 3.0), ("c", 15.0), ("d", 63.0))


@pytest.mark.parametrize(
    ("values", "verdict"),
    [
        ((8.0, 6.0, 4.0, 2.0), "holds"),
        ((8.0, 6.0, 6.0, 5.9), "holds"),  # flat steps are no contradiction
        ((2.0, 4.0, 6.0, 8.0), "does not hold"),
        ((4.0, 4.05, 3.95, 4.02), "cannot tell"),
        ((8.0, 2.0, 1.0, 3.0), "does not hold"),  # falls on the whole, but turns
    ],
)
def test_ordered(values: tuple[float, ...], verdict: str) -> None:
    scores = {arm: _numbers(v) for (arm, _), v in zip(RATIOS, values, strict=True)}
    claim = Ordered(name="c", direction="less", ratios=RATIOS[::-1])
    found = judge(claim, scores)
    assert found.verdict == verdict, found.reason
    assert [f.name for f in found.findings] == ["b - a", "c - b", "d - c"]
    # log2(1 + ratio) is 0, 2, 4, 6.
    slope = np.polyfit([0, 2, 4, 6], values, 1)[0]
    assert found.headline.estimate.value == pytest.approx(slope)
    if values == (8.0, 2.0, 1.0, 3.0):
        assert "turns: d - c" in found.reason


def test_parts_add_up() -> None:
    means = {
        "common": 0.1, "rewording_only": 0.2, "replay": 0.4, "self_sampling_only": 0.7,
        "delia": 0.95,
    }  # fmt: skip
    found = judge(Parts(name="c"), {arm: _numbers(m, 0.01) for arm, m in means.items()})
    parts = {f.name: f.estimate.value for f in found.findings}
    assert parts == pytest.approx(
        {
            "volume": 0.3, "self-sampling": 0.3, "rewording": 0.25, "rewording alone": 0.1,
            "interplay": 0.15,
        }
    )  # fmt: skip
    path = parts["volume"] + parts["self-sampling"] + parts["rewording"]
    assert found.headline.estimate.value == pytest.approx(path) == pytest.approx(0.85)


def test_seeds_that_belong_together() -> None:
    shared = 10 * np.arange(5.0)[:, None]
    scores = {"a": {"s": shared + 1 + _numbers(0)["s"]}, "b": {"s": shared}}
    assert judge(Better(name="c", ours=("a",), baseline="b"), scores).verdict == "cannot tell"
    paired = Better(name="c", ours=("a",), baseline="b", seeds="paired")
    assert judge(paired, scores).verdict == "holds"


def test_only_the_suites_named_count() -> None:
    scores = {
        "a": {"s": _numbers(1)["s"], "t": _numbers(-9)["s"]},
        "b": {"s": _numbers(0)["s"], "t": _numbers(0)["s"]},
    }
    assert judge(Better(name="c", ours=("a",), baseline="b", suites=("s",)), scores).verdict == (
        "holds"
    )
    assert judge(Better(name="c", ours=("a",), baseline="b"), scores).verdict == "does not hold"
    with pytest.raises(ValueError, match=r"no suite \['u'\]; it has \['s', 't'\]"):
        judge(Better(name="c", ours=("a",), baseline="b", suites=("u",)), scores)
    with pytest.raises(ValueError, match=r"no scores of \['x'\]"):
        judge(Better(name="c", ours=("x",), baseline="b"), scores)


def test_claims_that_make_no_sense() -> None:
    with pytest.raises(ValueError, match="arms that differ"):
        Better(name="c", ours=("a", "b"), baseline="a")
    with pytest.raises(ValueError, match="arms that differ"):
        Better(name="c", ours=(), baseline="a")
    with pytest.raises(ValueError, match="two ratios"):
        Ordered(name="c", ratios=(("a", 1), ("b", 1)))
    with pytest.raises(ValueError, match="0 or more"):
        Ordered(name="c", ratios=(("a", -1), ("b", 1)))
    with pytest.raises(ValueError, match="negligible is a size"):
        Parts(name="c", negligible=-0.1)


@pytest.mark.parametrize(
    "claim", [Better(name="c", ours=("b",), baseline="a"), Ordered(name="c", ratios=RATIOS)]
)
@pytest.mark.parametrize("spread", [0.0, 0.1])
def test_a_judgement_is_json(claim: Claim, spread: float) -> None:
    found = judge(claim, {arm: _numbers(i, spread) for i, (arm, _) in enumerate(RATIOS)})
    text = json.dumps(asdict(found), allow_nan=False)
    assert json.loads(text)["headline"]["estimate"]["value"] == found.headline.estimate.value
