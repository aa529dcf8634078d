"""What the outputs of every arm on every suite are worth; pure, no Ray."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from delia_ray.chats.thoughts import Thoughts, separate
from delia_ray.config import Metric, RunConfig, Suite
from delia_ray.errors import UserError
from delia_ray.evaluate.metrics import METRICS, BatchMetric, CorpusMetric, make_metric
from delia_ray.evaluate.statistics import mean_interval, paired_difference
from delia_ray.records import Message

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
    """A name for each metric of ``suite``, no two alike.

    Its own; with the options that make it another measure (``bleu:zh``, ``constraints:loose``);
    where that is still not enough, with the other options too (``field_accuracy:label``).
    """
    short = [_label(m, _ALWAYS_NAMED) for m in suite.metrics]
    names = [
        name if short.count(name) == 1 else _label(m, m.given())
        for name, m in zip(short, suite.metrics, strict=True)
    ]
    return [
        name if names.count(name) == 1 else f"{name}#{names[: at + 1].count(name)}"
        for at, name in enumerate(names)
    ]


_ALWAYS_NAMED = ("form", "loose", "tokenize", "lowercase", "unit")


def _label(metric: Metric, options: Sequence[str]) -> str:
    values = {o: getattr(metric, o) for o in options if o in metric.given()}
    said = [o if v is True else str(v)[:24] for o, v in values.items()]
    return ":".join([metric.name, *said])


def check_suite(
    suite: Suite,
    references: Sequence[str | None],
    prompts: Sequence[Sequence[Message]] | None = None,
) -> None:
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
    try:
        for settings in suite.metrics:
            given = [r for r in references if r is not None]
            make_metric(settings).check(given, _sources(prompts))
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
    prompts: Sequence[Sequence[Message]] | None = None,
    thoughts: Thoughts | None = None,
) -> SuiteScore:
    """Every metric of ``suite`` on one arm's outputs; a failed generation counts as wrong.

    Args:
        prompts: of the rows, for metrics that see the source text.
        thoughts: marks of the model's thoughts, which are scored neither in outputs nor in
            references.
    """
    metrics: dict[str, Figures] = {}
    signatures: dict[str, str] = {}
    main: list[float] | None = None
    answers = [separate(out, thoughts)[1] for out in outputs]
    said = ["" if bad else out for out, bad in zip(answers, failed, strict=True)]
    references = [separate(reference, thoughts)[1] for reference in references]
    for place, (label, settings) in enumerate(zip(labels(suite), suite.metrics, strict=True)):
        metric = make_metric(settings)
        if isinstance(metric, BatchMetric):
            rows = metric.score_all(said, references, _sources(prompts))
            if metric.failed is not None:
                # Not by the text alone: an empty output could be the right one.
                rows = [
                    metric.failed if bad else row for row, bad in zip(rows, failed, strict=True)
                ]
            metrics[label] = asdict(
                mean_interval(
                    {suite.name: rows}, resamples=resamples, confidence=confidence, seed=seed
                )
            )
            main = rows if place == 0 else main
        else:
            whole = metric.score(said, references, resamples, seed, confidence)
            metrics[label] = {
                "value": whole.value, "low": whole.low, "high": whole.high, "n": len(said),
            }  # fmt: skip
            signatures[label] = whole.signature
    return SuiteScore(metrics, main, signatures)


def _sources(prompts: Sequence[Sequence[Message]] | None) -> list[str] | None:
    return None if prompts is None else [prompt[-1]["content"] for prompt in prompts]


def names_of(config: RunConfig) -> list[str]:
    """All that is compared, in order of display: base, arms and their snapshots, systems."""
    base = ["base"] if config.evaluate.base else []
    return [*base, *config.models, *config.evaluate.systems]


def baseline_of(names: Sequence[str]) -> str:
    """What the others are compared with: common instruction tuning, else the first."""
    return "common" if "common" in names else names[0]


def assemble(config: RunConfig, scored: Mapping[str, Mapping[str, SuiteScore]]) -> dict[str, Any]:
    """The content of ``scores.json`` from ``scored[suite][arm]``.

    Keys: ``arms`` and ``baseline`` (names, in order of display), ``suites`` (suite -> arm ->
    metric -> figures; "mean" last), ``differences`` (suite -> arm -> main metric -> arm minus
    baseline), ``main`` (suite -> its main metric), ``mean_of`` (suites in the mean), ``scales``
    (metric -> 1 or 100, null without a bound), ``lower_is_better`` (metrics), ``signatures``,
    ``confidence``, ``resamples``. A summary takes only main metrics from 0 to 1 of which more
    is better, since a mean of others says nothing.
    """
    arms = names_of(config)
    baseline = baseline_of(arms)
    how: Any = {
        "resamples": config.evaluate.resamples,
        "confidence": config.evaluate.confidence,
        "seed": config.seed,
    }
    main = {s.name: labels(s)[0] for s in config.evaluate.suites}
    kinds = _kinds(config)
    by_row = {
        suite: {arm: score.rows for arm, score in scores.items() if score.rows is not None}
        for suite, scores in scored.items()
    }
    mean_of = [
        s
        for s in config.evaluate.summary
        if by_row[s] and kinds[main[s]].scale == 1 and kinds[main[s]].higher_is_better
    ]
    groups = {s: [s] for s in scored if by_row[s]}
    if mean_of:
        names = {main[s] for s in mean_of}
        main[MEAN] = names.pop() if len(names) == 1 else "main metric"
        groups[MEAN] = mean_of

    suites: dict[str, Any] = {
        suite: {arm: scores[arm].metrics for arm in arms if arm in scores}
        for suite, scores in scored.items()
    }
    differences: dict[str, Any] = {}
    for name, members in groups.items():
        rows = {
            arm: {s: by_row[s][arm] for s in members}
            for arm in arms
            if all(arm in by_row[s] for s in members)
        }
        if name == MEAN:
            suites[MEAN] = {
                arm: {main[MEAN]: asdict(mean_interval(own, **how))} for arm, own in rows.items()
            }
        differences[name] = {}
        for arm in rows:
            if arm not in ("base", baseline) and baseline in rows:
                gap = paired_difference(rows[arm], rows[baseline], **how)
                differences[name][arm] = {
                    main[name]: {"value": gap.value, "low": gap.low, "high": gap.high}
                }
    return {
        "arms": arms,
        "baseline": baseline,
        "suites": suites,
        "differences": differences,
        "main": main,
        "mean_of": mean_of,
        "scales": {label: kind.scale for label, kind in kinds.items()},
        "lower_is_better": [label for label, kind in kinds.items() if not kind.higher_is_better],
        "signatures": {
            label: text
            for scores in scored.values()
            for score in scores.values()
            for label, text in score.signatures.items()
        },
        "confidence": config.evaluate.confidence,
        "resamples": config.evaluate.resamples,
    }


def _kinds(config: RunConfig) -> dict[str, type[BatchMetric] | type[CorpusMetric]]:
    """Label -> class of every metric of every suite."""
    return {
        label: METRICS[metric.name]
        for suite in config.evaluate.suites
        for label, metric in zip(labels(suite), suite.metrics, strict=True)
    }
