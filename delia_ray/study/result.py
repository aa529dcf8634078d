"""From the scores of a study's runs to its claims, figures and verdicts: what the page shows."""

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from delia_ray.evaluate.crossed import Suites
from delia_ray.study import rows
from delia_ray.study.claims import Better, Claim, Ordered
from delia_ray.study.design import CONFIDENCE, FORMAT, MODES, TRANSLATION, Study, times_of
from delia_ray.study.run import Found
from delia_ray.study.verdicts import Judgement, judge
from delia_ray.study.words import PAPER

Scores = Mapping[str, Suites]
"""Model -> suite -> table (seeds, rows)."""


def result(study: Study, found: Mapping[str, Found], **facts: Any) -> dict[str, Any]:
    """Everything that ``page.render`` takes; only what JSON can say.

    Args:
        study: the design.
        found: by task; ``format`` and ``translation`` are those that the paper's claims are of,
            others are in the figures only.
        facts: further entries of ``design``: device, seconds ...
    """
    confidence = CONFIDENCE
    return {
        "design": rows.design_of(study, found) | {"confidence": confidence} | facts,
        "claims": [_row(*one) for one in judged(study, found)],
        "contrasts": rows.contrasts(study, found),
        "baselines": rows.baselines(study, found),
        "by_ratio": [row for task in found for row in rows.by_ratio(study, task, found[task])],
        "distance": rows.distance(study, found),
        "retention": [r for task in found for r in rows.retention(study, task, found[task])],
        "forgotten": [r for task in found for r in rows.forgotten(study, task, found[task])],
        "probes": rows.probes(study, found),
        "neighbours": rows.neighbours(study, found),
    }


# --- claims -----------------------------------------------------------------------------


def judged(study: Study, found: Mapping[str, Found]) -> list[tuple[str, str, str, Judgement]]:
    """(id, claim, mode, judgement) of every claim that the study can speak of; the claims of one
    mode share the error, since equal steps and equal exposure are two questions."""
    asked = list(_claims(study, found))
    together = Counter(mode for _, _, mode, _, _ in asked)
    return [
        (name, text, mode, judge(claim, scores, confidence=CONFIDENCE, claims=together[mode]))
        for name, text, mode, claim, scores in asked
    ]


def _claims(
    study: Study, found: Mapping[str, Found]
) -> Iterator[tuple[str, str, str, Claim, Scores]]:
    ratios = tuple(map(times_of, study.paper_ratios))
    for mode in MODES:
        scores = {task: by_times(study, task, mode, own.scores) for task, own in found.items()}

        def better(task: str, suites: list[str], of: Mapping[str, Scores] = scores) -> Any:
            claim = Better(name=task, ours=ratios, baseline="common", suites=tuple(suites))
            return claim, of[task]

        if TRANSLATION in found:
            yield (
                "translation", "Translation gets better than with common instruction tuning.",
                mode, *better(TRANSLATION, study.tasks[TRANSLATION].adapt),
            )  # fmt: skip
        if FORMAT not in found:
            continue
        own = study.tasks[FORMAT]
        yield (
            "generation", "Formatted text generation gets more accurate.",
            mode, *better(FORMAT, [*own.adapt, *own.retain]),
        )  # fmt: skip
        yield (
            "meaning", "A new special token takes the meaning that its description has.",
            mode, *better(FORMAT, own.adapt),
        )  # fmt: skip
        states = _state_distances(study, found[FORMAT], mode)
        if states:
            order = Ordered(
                name="distance", direction="less",
                ratios=tuple((times_of(r), r) for r in study.ratios),
            )  # fmt: skip
            yield (
                "distance", "More diverse data brings the internal state nearer.",
                mode, order, states,
            )  # fmt: skip


def _row(name: str, text: str, mode: str, judgement: Judgement) -> dict[str, Any]:
    found = judgement.headline.estimate
    unit = "per doubling of 1 + ratio" if name == "distance" else "exact match"
    return {
        "id": f"{name}, {mode.replace('_', ' ')}",
        "claim": f"{text} ({mode.replace('_', ' ').capitalize()}.)",
        "paper": PAPER[name],
        "ours": f"{judgement.headline.name}: {found.value:+.3f} {unit}",
        "value": found.value,
        "interval": [found.low, found.high],
        "verdict": judgement.verdict,
        "because": judgement.reason,
        "smallest_seen": found.detectable,
    }


def by_times(study: Study, task: str, mode: str, scores: Scores) -> dict[str, Suites]:
    """The scores of the models of ``mode``, named by their ratio."""
    return {times_of(r): scores[study.model(task, r, mode)] for r in study.ratios}


def _state_distances(study: Study, found: Found, mode: str) -> dict[str, Suites]:
    """Ratio -> L2 distance of the last states, (seeds, prompts)."""
    tables: dict[str, Suites] = {}
    for ratio in study.ratios:
        model = study.model(FORMAT, ratio, mode)
        rows = [_distance_rows(own, model) for own in found.probes]
        if not all(rows):
            return {}
        tables[times_of(ratio)] = {"prompts": rows}
    return tables


def _distance_rows(probes: Mapping[str, Any], model: str) -> list[float]:
    for probe in probes.get(model, {}).get("probes", {}).values():
        return list(probe["distance"].get("last", {}).get("l2", []))
    return []
