"""What a study of the paper's claims found, as ``claims.html`` and ``claims.md``.

The study is a plain dict that survives JSON. ``design`` says how it was made; each other key
is a list, and one that is empty or missing leaves its section out:

- ``claims``: id, claim, paper, ours, value (the effect on which the verdict rests; 0 means no
  effect), interval ([low, high] or None), verdict, because, smallest_seen (the smallest effect
  that the study could have seen);
- ``contrasts``: name, value, low, high, p, says: what one ingredient adds, all on one scale;
- ``baselines``: arm, metric, suite, value, low, high, difference (DELIA minus this arm: value,
  low, high, p; None for DELIA itself);
- ``by_ratio``, ``distance``, ``retention``: see ``figures``;
- ``forgotten``, ``probes``: figures for tables; ``neighbours``: arm, token and a list of
  (text, cosine).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from delia_ray.errors import DeliaError
from delia_ray.report.document import fill
from delia_ray.report.words import clock, judge, label, number
from delia_ray.study.figures import sections
from delia_ray.study.tables import cell, figure, probability, signed, tables

Study = Mapping[str, Any]

VERDICTS = {
    "holds": ("✓", "better"),
    "does not hold": ("✗", "worse"),
    "cannot tell": ("?", "open"),
}
"""The sign and the tone of each verdict."""


@dataclass(frozen=True)
class Effect:
    """A difference with its interval, as text and as percentages of a scale with 0 at 50."""

    name: str
    says: str
    score: str
    value: str
    interval: str
    p: str
    sort: Mapping[str, str]
    tone: str
    at: float
    low: float
    high: float
    unseen: float | None = None
    """How far from 0 the smallest effect lies that could have been seen."""


def render(study: Study) -> str:
    """``claims.html``: one text that loads nothing; same study, same bytes.

    Raises:
        DeliaError: a verdict is none of ``VERDICTS``.
    """
    return fill("claims.html.jinja", context(study), [Path(__file__).parent])


def context(study: Study) -> dict[str, Any]:
    """The template's variables.

    Raises:
        DeliaError: a verdict is none of ``VERDICTS``.
    """
    from markupsafe import Markup

    design = study["design"]
    return {
        "headline": headline(study),
        "claims": [_claim(c) for c in study.get("claims") or []],
        "contrasts": effects(study.get("contrasts") or []),
        "baselines": [(name, effects(rows)) for name, rows in _against(study).items()],
        "sections": [
            (s, *([(Markup(p), text) for p, text in many] for many in (s.plots, s.small)))
            for s in sections(study)
        ],
        "neighbours": study.get("neighbours") or [],
        "tables": tables(study),
        "facts": facts(design),
        "design": design,
        "command": design.get("command", "delia study claims"),
        "method": design.get("method", []),
        "figure": figure,
    }


def headline(study: Study) -> str:
    """How many claims hold, do not hold and cannot be told: ``2 of 4 claims hold, ...``.

    Raises:
        DeliaError: a verdict is none of ``VERDICTS``.
    """
    found = [c["verdict"] for c in study.get("claims") or []]
    for verdict in found:
        if verdict not in VERDICTS:
            raise DeliaError(f"the verdict {verdict!r} is none of {', '.join(VERDICTS)}")
    if not found:
        return "No claim was judged"
    n = {v: found.count(v) for v in VERDICTS}
    words = [f"{n['holds']} of {len(found)} claims hold{'s' if n['holds'] == 1 else ''}"]
    if n["does not hold"]:
        words.append(f"{n['does not hold']} do{'es' if n['does not hold'] == 1 else ''} not")
    if n["cannot tell"]:
        words.append(f"{n['cannot tell']} cannot be told")
    return ", ".join(words)


def effects(rows: Sequence[Mapping[str, Any]]) -> list[Effect]:
    """Rows of name, value, low, high, p and says on one scale that holds every interval."""
    known = [r[k] for r in rows for k in ("value", "low", "high") if r.get(k) is not None]
    scale = max((abs(v) for v in known), default=0.0) or 1.0
    return [_effect(r, scale) for r in rows if r.get("value") is not None]


def facts(design: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The study in one strip under its name."""
    known = [
        ("model", design.get("model")),
        ("ratios", _list(design.get("ratios"))),
        ("seeds of each arm", design.get("seeds")),
        ("optimizer steps", design.get("steps")),
        ("rows per step", design.get("batch_size")),
        ("downstream exposure", design.get("exposure")),
        ("time", clock(design["seconds"]) if design.get("seconds") is not None else None),
        ("device", design.get("device")),
    ]
    return [(name, number(value)) for name, value in known if value not in (None, "")]


def markdown(study: Study) -> str:
    """``claims.md``: the verdicts and the contrasts as tables, for a reader of the repository.

    Raises:
        DeliaError: a verdict is none of ``VERDICTS``.
    """
    design = study["design"]
    lines = ["# The claims, measured", "", f"{headline(study)}. Every figure: `claims.html`.", ""]
    claims = [_claim(c) for c in study.get("claims") or []]
    if claims:
        rows = [
            (c["claim"], c["paper"], c["ours"], c["interval"] or "–", c["verdict"], c["because"])
            for c in claims
        ]
        lines += _pipes(("claim", "paper", "ours", "interval", "verdict", "because"), rows)
    contrasts = effects(study.get("contrasts") or [])
    if contrasts:
        lines += ["## How much comes from what", ""]
        lines += _pipes(
            ("contrast", "difference", "interval", "p", "says"),
            [(e.name, e.value, e.interval or "–", e.p, e.says) for e in contrasts],
        )
    lines += ["## Design", "", *(f"- {name}: {value}" for name, value in facts(design))]
    if design.get("baselines"):
        lines.append(f"- baselines: {_list(design['baselines'])}")
    command = design.get("command", "delia study claims")
    return "\n".join([*lines, "", f"Again: `{command}`", ""])


def _claim(claim: Mapping[str, Any]) -> dict[str, Any]:
    sign, tone = VERDICTS[claim["verdict"]]
    value, interval = claim.get("value"), claim.get("interval")
    strip = None
    if value is not None:
        low, high = interval or (value, value)
        smallest = claim.get("smallest_seen")
        scale = max(abs(v) for v in (value, low, high, smallest or 0.0)) or 1.0
        strip = _effect({"name": "", "value": value, "low": low, "high": high}, scale, smallest)
    return {
        **claim,
        "verdict": f"{sign} {claim['verdict']}",
        "tone": tone,
        "strip": strip,
        "interval": f"{signed(interval[0])} to {signed(interval[1])}" if interval else "",
        "smallest": figure(claim.get("smallest_seen")),
    }


def _effect(row: Mapping[str, Any], scale: float, smallest: float | None = None) -> Effect:
    value, low, high = row["value"], row.get("low"), row.get("high")
    known = low is not None and high is not None
    ends = (low, high) if low is not None and high is not None else (value, value)
    at, left, right = (round(50 + 48 * v / scale, 2) for v in (value, *ends))
    return Effect(
        str(row["name"]),
        str(row.get("says") or ""),
        figure(row.get("score")),
        signed(value),
        f"{signed(low)} to {signed(high)}" if known else "",
        probability(row.get("p")),
        {"value": repr(value), "p": cell(row.get("p"), "p").value},
        judge({"low": ends[0], "high": ends[1]}) if known else "open",
        at,
        left,
        right,
        round(48 * min(1.0, smallest / scale), 2) if smallest else None,
    )


def _against(study: Study) -> dict[str, list[dict[str, Any]]]:
    """DELIA minus each other arm by what it is measured with; only means where there are some."""
    rows = [r for r in study.get("baselines") or [] if r.get("difference")]
    means = [r for r in rows if r["suite"] == "mean"]
    groups: dict[str, list[dict[str, Any]]] = {}
    for row in means or rows:
        name = f"{label(row['metric'])}, {'mean of the suites' if means else row['suite']}"
        one = {**row["difference"], "name": row["arm"], "score": row["value"]}
        groups.setdefault(name, []).append(one)
    return groups


def _list(values: Any) -> str:
    return ", ".join(number(v) for v in values) if values else ""


def _pipes(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    def line(cells: Sequence[str]) -> str:
        plain = (" ".join(str(c).split()).replace("|", "\\|").replace("<", "&lt;") for c in cells)
        return f"| {' | '.join(plain)} |"

    return [line(header), "|" + "---|" * len(header), *map(line, rows), ""]
