"""Verdicts on claims, from scores over seeds and rows.

Two promises, each made for ``confidence`` of the studies. The verdicts of all the
claims of a page, each of which rests on one contrast that was named before, see no difference
that is not there (Bonferroni over the claims). And the findings of one claim see none (Holm
over the findings). A verdict always agrees with the interval beside it.

What that can see: 10 points, 0.6 against 0.7, in 5 suites of 128 rows, each seed lifting or
lowering each suite for itself by the sd given on the logit scale; found in so many of 100
studies (300 simulated for each case):

====================================================  =====  =====  =====
seeds, and what is found                              0.3    0.4    0.5
====================================================  =====  =====  =====
5, seven ratios against one, the claim alone          100    100    99
5, the same, one of four claims                       99     94     83
5, one ratio of seven, the finding                    96     79     61
8, seven ratios, one of four claims                   100    100    99
8, one ratio of seven, the finding                    100    100    97
====================================================  =====  =====  =====

Where a seed moves all suites together by 0.4 (6 points), no method finds 10 points reliably with
five seeds: here 16 in 100 studies at one ratio of seven, 44 with eight. Each estimate says what
it could have seen.

Eight equal arms, as above and near the ceiling (0.95 to 0.995), with 5 and 8 seeds, 300 or more
studies for each of 24 cases: the claim was called "cannot tell" in 92 to 100 of 100 when it stood
alone (lowest where the baseline's seeds differ four times as much as the others'), in 97 to
100 as one of four; all seven of its findings in 94 to 100.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from delia_ray.evaluate.crossed import Suites
from delia_ray.evaluate.hierarchical import Estimate, contrast
from delia_ray.evaluate.multiple import bonferroni, holm, step_down
from delia_ray.study.claims import Claim, Contrast, Direction, Ordered

Verdict = Literal["holds", "does not hold", "cannot tell"]


@dataclass(frozen=True)
class Finding:
    """One contrast with its interval, corrected for those beside it."""

    name: str
    verdict: Verdict
    reason: str
    estimate: Estimate
    p_adjusted: float
    """Holm's among the findings; of a claim itself, Bonferroni's among the claims."""


@dataclass(frozen=True)
class Judgement:
    """A claim's verdict. ``dataclasses.asdict`` makes it JSON."""

    claim: str
    verdict: Verdict
    reason: str
    headline: Finding
    """What the verdict rests on."""
    findings: tuple[Finding, ...]
    """The single comparisons behind it."""


def judge(
    claim: Claim,
    scores: Mapping[str, Suites],
    *,
    confidence: float = 0.95,
    claims: int = 1,
) -> Judgement:
    """What the scores say of the claim.

    Args:
        claim: what to judge.
        scores: arm -> suite -> table (seeds, rows), at least those that the claim names; rows
            of a suite are the same and in the same order in all arms. What has no rows (a
            distance read off for each seed) is (seeds, 1).
        confidence: of the verdicts of all ``claims`` together, and of this claim's findings
            together.
        claims: how many claims are judged on the page.

    Raises:
        ValueError: an arm or suite is missing, or as ``hierarchical.contrast``.
    """
    main, parts = claim.headline(), claim.contrasts()
    arms = _chosen(claim, scores, {arm for c in [main, *parts] for arm in c.weights})

    def found(c: Contrast, estimate: Estimate, p: float, negligible: float) -> Finding:
        verdict, reason = verdict_of(estimate, claim.direction, negligible)
        return Finding(c.name, verdict, reason, estimate, p)

    level = bonferroni(confidence, claims)
    estimate = contrast(arms, main.weights, confidence=level, seeds=claim.seeds)
    headline = found(main, estimate, min(1.0, claims * estimate.p), claim.negligible)
    # The unit of a step between ratios is not that of the slope.
    size = 0.0 if isinstance(claim, Ordered) else claim.negligible
    estimates = [contrast(arms, c.weights, seeds=claim.seeds) for c in parts]
    p = [e.p for e in estimates]
    corrected = [e.at(c) for e, c in zip(estimates, step_down(p, confidence), strict=True)]
    findings = [found(*each, size) for each in zip(parts, corrected, holm(p), strict=True)]
    verdict, reason = _together(claim, headline, findings)
    return Judgement(claim.name, verdict, reason, headline, tuple(findings))


def verdict_of(
    estimate: Estimate, direction: Direction, negligible: float = 0.0
) -> tuple[Verdict, str]:
    """The verdict that an interval gives on "the value lies on that side of 0", and why.

    One seed gives no verdict: training again might end elsewhere. ``negligible`` above 0 adds
    an equivalence test (an interval wholly inside +-negligible; Schuirmann 1987) that comes
    first: an effect that is surely too small to matter does not hold, whatever its sign.
    """
    shown = f"{_percent(estimate.confidence)} interval {estimate.low:+.4g} to {estimate.high:+.4g}"
    if not estimate.seeds_seen:
        return "cannot tell", f"{shown} over rows alone: an arm has one seed"
    if -negligible < estimate.low and estimate.high < negligible:
        return "does not hold", f"{shown}, nearer to 0 than {negligible:g}, which would matter"
    if estimate.low <= 0 <= estimate.high:
        smallest = f"only {estimate.detectable:.3g} or more would have been seen"
        return "cannot tell", f"{shown} holds 0; {smallest} (80 % power)"
    side = "above" if estimate.low > 0 else "below"
    agrees = (estimate.low > 0) == (direction == "greater")
    return ("holds" if agrees else "does not hold"), f"{shown} lies {side} 0"


def _together(claim: Claim, headline: Finding, findings: list[Finding]) -> tuple[Verdict, str]:
    """The claim's verdict, and where single findings say something else."""
    against = [f.name for f in findings if _opposite(f.estimate, claim.direction)]
    if isinstance(claim, Ordered) and headline.verdict == "holds" and against:
        return "does not hold", f"{headline.reason}, but it turns: {', '.join(against)}"
    notes = [headline.reason]
    if len(findings) > 1:
        holding = [f.name for f in findings if f.verdict == "holds"]
        if headline.verdict != "holds" and holding:
            notes.append(f"holds for {', '.join(holding)}")
        if headline.verdict != "does not hold" and against:
            notes.append(f"the opposite for {', '.join(against)}")
    return headline.verdict, "; ".join(notes)


def _opposite(estimate: Estimate, direction: Direction) -> bool:
    if not estimate.seeds_seen:
        return False
    return estimate.high < 0 if direction == "greater" else estimate.low > 0


def _chosen(claim: Claim, scores: Mapping[str, Suites], arms: set[str]) -> dict[str, Suites]:
    if missing := sorted(arms - set(scores)):
        raise ValueError(f"claim {claim.name!r}: no scores of {missing}; got {sorted(scores)}")
    if not claim.suites:
        return {arm: scores[arm] for arm in arms}
    for arm in sorted(arms):
        if absent := sorted(set(claim.suites) - set(scores[arm])):
            raise ValueError(
                f"claim {claim.name!r}: arm {arm!r} has no suite {absent}; it has "
                f"{sorted(scores[arm])}"
            )
    return {arm: {s: scores[arm][s] for s in claim.suites} for arm in arms}


def _percent(share: float) -> str:
    return f"{100 * share:.4g} %"
