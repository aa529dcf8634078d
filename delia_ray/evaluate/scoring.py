"""What the outputs of every arm on every suite are worth; pure, no Ray."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from delia_ray.config import Metric, RunConfig, Suite
from delia_ray.errors import UserError
from delia_ray.evaluate.metrics import RowMetric, make_metric
from delia_ray.evaluate.statistics import mean_interval, paired_difference

MEAN = "mean"
"""The name under which the mean over ``evaluate.summary`` stands beside the suites."""

Figures = dict[str, Any]
"""{'value', 'low', 'high', 'n'}."""


@dataclass(frozen=True)
class SuiteScore:
    """One arm on one suite."""

    metrics: dict[str, Figures]
    """Label -> value with interval; the main metric first."""
    rows: list[float] | None
    """The main metric row by row; None where only a whole suite has a score."""
    signatures: dict[str, str] = field(default_factory=dict)
    """Label -> the library's own account of how it computed."""


def labels(suite: Suite) -> list[str]:
    """A name for each metric of ``suite``: its own, with the field where that is needed."""
    names = [m.name for m in suite.metrics]
    return [
        m.name if names.count(m.name) == 1 or not m.field else f"{m.name}:{m.field}"
        for m in suite.metrics
    ]


def check_suite(suite: Suite, references: Sequence[str | None]) -> None:
    """Fail before any model is loaded where a suite could not be scored.

    Raises:
        UserError: it is empty, lacks reference answers, or they do not fit a metric.
    """
    if not references:
        raise UserError(f"suite {suite.name}: no rows are left in {suite.path}")
    if missing := sum(r is None for r in references):
        raise UserError(
            f"suite {suite.name}: {missing} of {len(references)} rows of {suite.path} have no "
            "reference answer, so nobody can say what is right"
        )
    for metric in map(make_metric, suite.metrics):
        if isinstance(metric, RowMetric):
            try:
                metric.check([r for r in references if r is not None])
            except UserError as error:
                raise UserError(f"suite {suite.name}: {error}") from None


def score_suite(
    suite: Suite,
    outputs: Sequence[str],
    references: Sequence[str],
    failed: Sequence[bool],
    *,
    resamples: int,
    confidence: float,
    seed: int,
) -> SuiteScore:
    """Every metric of ``suite`` on one arm's outputs; a failed generation counts as wrong."""
    metrics: dict[str, Figures] = {}
    signatures: dict[str, str] = {}
    main: list[float] | None = None
    said = ["" if bad else out for out, bad in zip(outputs, failed, strict=True)]
    for place, (label, settings) in enumerate(zip(labels(suite), suite.metrics, strict=True)):
        metric = make_metric(settings)
        if isinstance(metric, RowMetric):
            # Not by the text alone: an empty output could be the right one.
            rows = [
                0.0 if bad else metric.score(out, ref)
                for out, ref, bad in zip(said, references, failed, strict=True)
            ]
            metrics[label] = asdict(
                mean_interval(
                    {suite.name: rows}, resamples=resamples, confidence=confidence, seed=seed
                )
            )
            main = rows if place == 0 else main
        else:
            whole = metric.score(said, references, resamples, seed)
            metrics[label] = {
                "value": whole.value, "low": whole.low, "high": whole.high, "n": len(said),
            }  # fmt: skip
            signatures[label] = whole.signature
    return SuiteScore(metrics, main, signatures)


def baseline_of(arms: Sequence[str]) -> str:
    """What the other arms are compared with: common instruction tuning, else the base."""
    return "common" if "common" in arms else "base"


def assemble(config: RunConfig, scored: Mapping[str, Mapping[str, SuiteScore]]) -> dict[str, Any]:
    """The content of ``scores.json`` from ``scored[suite][arm]``.

    Keys: ``arms`` and ``baseline`` (names, in order of display), ``suites`` (suite -> arm ->
    metric -> figures; "mean" last), ``differences`` (suite -> arm -> main metric -> arm minus
    baseline), ``main`` (suite -> its main metric), ``mean_of`` (suites in the mean), ``scales``
    (metric -> 1 or 100), ``signatures``, ``confidence``, ``resamples``.
    """
    arms = ["base", *config.arms]
    baseline = baseline_of(arms)
    how: Any = {
        "resamples": config.evaluate.resamples,
        "confidence": config.evaluate.confidence,
        "seed": config.seed,
    }
    main = {s.name: labels(s)[0] for s in config.evaluate.suites}
    by_row = {
        suite: {arm: score.rows for arm, score in scores.items() if score.rows is not None}
        for suite, scores in scored.items()
    }
    mean_of = [s for s in config.evaluate.summary if by_row[s]]
    groups = {s: [s] for s in scored if by_row[s]}
    if mean_of:
        names = {main[s] for s in mean_of}
        main[MEAN] = names.pop() if len(names) == 1 else "main metric"
        groups[MEAN] = mean_of

    suites: dict[str, Any] = {
        suite: {arm: scores[arm].metrics for arm in arms} for suite, scores in scored.items()
    }
    differences: dict[str, Any] = {}
    for name, members in groups.items():
        rows = {arm: {s: by_row[s][arm] for s in members} for arm in arms}
        if name == MEAN:
            suites[MEAN] = {
                arm: {main[MEAN]: asdict(mean_interval(rows[arm], **how))} for arm in arms
            }
        gaps = {
            arm: paired_difference(rows[arm], rows[baseline], **how)
            for arm in arms
            if arm not in ("base", baseline)
        }
        differences[name] = {
            arm: {main[name]: {"value": gap.value, "low": gap.low, "high": gap.high}}
            for arm, gap in gaps.items()
        }
    return {
        "arms": arms,
        "baseline": baseline,
        "suites": suites,
        "differences": differences,
        "main": main,
        "mean_of": mean_of,
        "scales": _scales(config),
        "signatures": {
            label: text
            for scores in scored.values()
            for score in scores.values()
            for label, text in score.signatures.items()
        },
        "confidence": config.evaluate.confidence,
        "resamples": config.evaluate.resamples,
    }


def _scales(config: RunConfig) -> dict[str, float]:
    pairs: list[tuple[str, Metric]] = [
        pair
        for suite in config.evaluate.suites
        for pair in zip(labels(suite), suite.metrics, strict=True)
    ]
    return {label: make_metric(metric).scale for label, metric in pairs}
