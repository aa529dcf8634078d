"""What a study could have seen, and what the next one would.

The smallest detectable value is (t(1 - alpha / 2) + t(power)) standard errors (Bloom 1995,
"Minimum detectable effects", Evaluation Review 19), with t's degrees of freedom.
"""

from dataclasses import dataclass

from delia_ray.evaluate.multiple import bonferroni
from delia_ray.evaluate.student import quantile


@dataclass(frozen=True)
class Plan:
    """A study that is still to be made: ``seeds`` for each of two arms, ``rows`` per suite."""

    seeds: int
    suites: int
    rows: int
    se: float
    """Expected standard error of the difference."""
    df: float
    detectable: float
    """The smallest true difference that it would find with the power asked for."""


def detectable(se: float, df: float, *, confidence: float = 0.95, power: float = 0.8) -> float:
    """The smallest true value that an interval with this ``se`` and ``df`` tells from 0.

    Args:
        se: standard error of the value; the result has its unit.
        df: its degrees of freedom.
        confidence: of the (two-sided) interval; after correction for several comparisons.
        power: share of studies in which it is found.

    Raises:
        ValueError: a share is not inside (0, 1).
    """
    return (quantile((1 + confidence) / 2, df) + quantile(power, df)) * se


def plan(
    *,
    seeds: int,
    suites: int,
    rows: int,
    seed_variance: float,
    row_variance: float,
    rest_variance: float,
    confidence: float = 0.95,
    comparisons: int = 1,
    power: float = 0.8,
) -> Plan:
    """What a difference of two arms, each with its own seeds, would be measured to.

    Args:
        seeds, suites, rows: of the study planned; ``rows`` in each suite.
        seed_variance, row_variance, rest_variance: ``crossed.Components`` of a study
            with the same suites.
        confidence: over all comparisons together.
        comparisons: how many differences are corrected for (Bonferroni).
        power: share of studies in which the smallest detectable difference is found.

    Raises:
        ValueError: fewer than two seeds or two rows, or a share outside (0, 1).
    """
    if seeds < 2 or rows < 2 or suites < 1:
        raise ValueError(
            "a plan needs two seeds, one suite and two rows at least, got "
            f"seeds={seeds}, suites={suites}, rows={rows}"
        )
    rest = rest_variance / (seeds * suites * rows)
    per_arm = seed_variance / seeds + rest
    over_rows = row_variance / (suites * rows)
    se = (2 * per_arm + over_rows) ** 0.5
    doubt = 2 * per_arm**2 / (seeds - 1) + (over_rows + 2 * rest) ** 2 / (suites * (rows - 1))
    df = se**4 / doubt if doubt else 2.0 * (seeds - 1)
    smallest = detectable(se, df, confidence=bonferroni(confidence, comparisons), power=power)
    return Plan(seeds, suites, rows, se, df, smallest)
