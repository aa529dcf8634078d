"""What a sweep found, as ``sweep.html``: one file that loads nothing."""

import itertools
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from delia_ray.report.document import fill
from delia_ray.report.words import clock, number
from delia_ray.study.tables import FigureTable, cell, figure
from delia_ray.study.tables import table as rows_table
from delia_ray.sweep import plots

Result = Mapping[str, Any]

TONES = {"better": "better", "worse": "worse", "cannot tell": "open"}
_LOG = "logarithmic"


def render(result: Result) -> str:
    """``sweep.html``; same result, same bytes."""
    return fill("sweep.html.jinja", context(result), [Path(__file__).parent])


def context(result: Result) -> dict[str, Any]:
    """The template's variables."""
    from markupsafe import Markup

    done = [t for t in result["trials"] if t["state"] == "done"]
    return {
        "name": result["design"]["name"],
        "headline": headline(result),
        "tone": tone(result),
        "words": words(result),
        "facts": facts(result),
        "design": result["design"],
        "best": result["best"],
        "confirmation": confirmation_table(result),
        "drawings": [
            {"id": i, "title": t, "words": w, "plots": [(Markup(p), c) for p, c in own]}
            for i, t, w, own in drawings(result, done)
            if own
        ],
        "recommendation": recommendation(result),
        "trials": trials_table(result),
        "failed": [t for t in result["trials"] if t["state"] == "failed"],
        "counters": counters(result),
        "figure": figure,
    }


# --- in short -------------------------------------------------------------------------------


def headline(result: Result) -> str:
    """The outcome in one line."""
    if result["best"] is None:
        return "No trial was finished"
    found = result["confirmation"]
    said = ", ".join(f"{k}={_plain(v)}" for k, v in result["best"]["parameters"].items())
    if found is None:
        return f"Best of the search, not confirmed: {said}"
    gap = found["difference"]
    interval = f"{fine(gap['value'])} [{fine(gap['low'])}, {fine(gap['high'])}]"
    verdict = {
        "better": f"beats the recipe by {interval}",
        "worse": f"does worse than the recipe: {interval}",
        "cannot tell": f"cannot be told from the recipe: {interval}",
    }[found["verdict"]]
    return f"{said} {verdict}"


def lines(result: Result) -> list[str]:
    """The sweep for a terminal."""
    design, counted, best = result["design"], result["counters"], result["best"]
    said = [
        f"{number(design['done'])} of {number(design['trials'])} trials done, "
        f"{number(design['stopped'])} stopped, {number(design['failed'])} failed; "
        + ("one synthesis" if counted["syntheses"] == 1 else f"{counted['syntheses']} syntheses")
    ]
    said += [f"trial {t['number']} failed: {t['error']}" for t in result["trials"] if t["error"]]
    if best is not None:
        said.append(f"best of the search: trial {best['number']}, score {figure(best['score'])}")
    if (found := recommendation(result)) is not None:
        said += [*found["words"], *([found["command"]] if found["command"] else [])]
    return said


def tone(result: Result) -> str:
    """Of the headline: better, worse or open."""
    found = result["confirmation"]
    return "open" if found is None else TONES[found["verdict"]]


def words(result: Result) -> str:
    """What the headline rests on."""
    found = result["confirmation"]
    if found is None:
        return "The best trial was not trained anew, so part of its lead may be luck."
    rows, gap = sum(found["rows"].values()), found["difference"]
    return (
        f"Both trained {found['seeds']} times with seeds that the search had not seen, and asked "
        f"{number(rows)} prompts that it had not seen; the interval "
        f"({gap['confidence']:.0%}) is over seeds and prompts. The smallest difference that would "
        f"probably have been seen: {figure(gap['detectable'])}."
    )


def facts(result: Result) -> list[tuple[str, str]]:
    """The sweep in one strip."""
    design, counted = result["design"], result["counters"]
    states = [s for s in ("done", "stopped", "failed", "unfinished") if design.get(s)]
    over = counted.get("overhead")
    known: list[tuple[str, Any]] = [
        ("model", design.get("model")),
        ("trials", ", ".join(f"{number(design[s])} {s}" for s in states)),
        ("syntheses", counted.get("syntheses")),
        ("answers made", counted.get("answers_generated")),
        ("searcher", design["searcher"]),
        ("scheduler", design["scheduler"] if design["scheduler"] != "none" else None),
        ("time", clock(design["seconds"]) if design.get("seconds") is not None else None),
        ("wall time over work", figure(over) if over else None),
        ("device", design.get("device")),
    ]
    return [(n, number(v) if isinstance(v, int) else str(v)) for n, v in known if v]


def recommendation(result: Result) -> dict[str, Any] | None:
    """The recommended ratio and the next trial, in words; None without a fit."""
    found, following = result["recommended"], result["next"]
    if result["fit"] is None and following is None:
        return None
    said = []
    if found is not None:
        limit = "" if found["budget"] is None else (
            f" for a budget of {number(found['budget'])} {found['unit']}"
        )  # fmt: skip
        said.append(
            f"Recommended{limit}: ratio {found['ratio']:g}, for which the fit expects "
            f"{figure(found['value'])} [{figure(found['low'])}, {figure(found['high'])}]."
        )
        if found["best"] != found["ratio"]:
            said.append(
                f"Ratio {found['best']:g} is expected to be best, but by less than "
                f"{found['tolerance']:g}."
            )
    elif result["fit"] is not None:
        said.append("The budget allows no ratio at all.")
    if following is None:
        said.append("No further trial is expected to gain enough to be worth it.")
        return {"words": said, "command": None}
    said.append(
        f"The next trial worth running, by its expected improvement ({figure(following['gain'])}):"
    )
    chosen = " ".join(f"{k}={_plain(v)}" for k, v in following["parameters"].items())
    return {"words": said, "command": f"delia run best.yaml {chosen}"}


# --- drawings -------------------------------------------------------------------------------


def drawings(
    result: Result, done: Sequence[Mapping[str, Any]]
) -> list[tuple[str, str, str, list[tuple[str, str]]]]:
    """(id, title, words, [(drawing, caption)]) of each section."""
    if not done:
        return []
    names = list(result["design"]["dimensions"])
    log = [n for n in names if _LOG in result["design"]["dimensions"][n] or "ratio" in n]
    scores = {t["number"]: t["score"] for t in done}
    own = [c for c in result["curves"] if c["number"] in scores]
    loss = [(scores[c["number"]], c["loss"]) for c in own if c["loss"]]
    rungs = [
        (c["score"][-1][1], c["score"])
        for c in result["curves"]
        if len(c["score"]) > 1 or (c["score"] and c["number"] not in scores)
    ]
    learning = []
    if loss:
        learning.append(
            (plots.curves("loss", "Loss by trial", loss, "loss", True), "Loss while training.")
        )
    if rungs:
        learning.append(
            (plots.curves("rungs", "Score by trial", rungs, "score"), "Score at the rungs.")
        )
    return [
        (
            "parallel", "What was tried",
            "Each line is a finished trial; its colour is the rank of its score.",
            [(plots.parallel(done, names, log), "A setting that a trial leaves as the recipe has "
              "it is passed by.")],
        ),
        (
            "dimensions", "Score by dimension",
            "Every finished trial, with the interval that its prompts give (95 %); the other "
            "settings differ from mark to mark.",
            [(plots.by_dimension(n, done, n in log), "") for n in names],
        ),
        ("fit", "Score against ratio and cost", _fit_words(result), _fit_plots(result, done)),
        ("learning", "Learning curves", "One line for each trial.", learning),
        (
            "front", "Pareto front",
            "Trials that no other one beats in every objective, by number.",
            _planes(result, done),
        ),
    ]  # fmt: skip


def _fit_words(result: Result) -> str:
    fit = result["fit"]
    if fit is None:
        return ""
    rest = ", ".join(f"{k}={_plain(v)}" for k, v in fit["rest"].items()) or "as in the recipe"
    return (
        f"A Gaussian process over {fit['trials']} trials; the other settings as in the best "
        f"({rest}). The band is the {fit['confidence']:.0%} interval of the expected score; single "
        f"trainings scatter around it by {figure(fit['residual'])} (one deviation)."
    )


def _fit_plots(result: Result, done: Sequence[Mapping[str, Any]]) -> list[tuple[str, str]]:
    fit = result["fit"]
    if fit is None:
        return []
    name, found = fit["name"], result["recommended"]
    trials = [(float(t["parameters"][name]), t["score"]) for t in done if name in t["parameters"]]
    chosen = None if found is None else found["ratio"]
    over = {c["ratio"]: c["seconds"] for c in fit["curve"]}
    return [
        (
            plots.fitted(
                fit["curve"], trials, "diverse rows per downstream row", "ratio", chosen
            ),
            "Marks are trials, whatever their other settings; the broken line is what is "
            "recommended.",
        ),
        (
            plots.fitted(
                fit["curve"], [], "seconds of synthesis, training and evaluation", "seconds",
                over.get(chosen) if chosen is not None else None,
            ),
            "The same over what a ratio costs.",
        ),
    ]  # fmt: skip


def _planes(result: Result, done: Sequence[Mapping[str, Any]]) -> list[tuple[str, str]]:
    names = list(result["design"]["objectives"])
    ahead = set(result["front"])
    drawn = []
    for first, second in itertools.islice(itertools.combinations(names, 2), 6):
        points = [
            (
                t["objectives"][first], t["objectives"][second], str(t["number"]),
                t["number"] in ahead,
            )
            for t in done
        ]  # fmt: skip
        drawn.append((plots.plane(first, second, points), ""))
    return drawn


# --- tables ---------------------------------------------------------------------------------


def trials_table(result: Result) -> FigureTable:
    """Every trial with its parameters, objectives and time."""
    names = list(result["design"]["dimensions"])
    ahead = set(result["front"])
    rows = []
    for t in result["trials"]:
        seconds = t["seconds"] or {}
        rows.append(
            {
                "trial": t["number"],
                "state": t["state"] if t["state"] != "stopped" else f"stopped at {t['step']}",
                **{n: _cell(t["parameters"].get(n)) for n in names},
                "score": t["score"],
                **{n: t["objectives"].get(n) for n in result["design"]["objectives"]},
                **{s: v for s, v in t["suites"].items() if s not in t["objectives"]},
                "front": "yes" if t["number"] in ahead else "",
                "training seconds": seconds.get("training"),
                "evaluation seconds": seconds.get("evaluation"),
                "all seconds": seconds.get("all"),
            }
        )
    return rows_table("all-trials", "Every trial", rows)


def confirmation_table(result: Result) -> list[dict[str, Any]]:
    """Best minus recipe: in all, then by suite."""
    found = result["confirmation"]
    if found is None:
        return []
    rows = [("all suites", found["difference"]), *found["suites"].items()]
    return [
        {
            "name": name, "value": fine(own["value"]), "p": cell(own["p"], "p").text,
            "interval": f"{fine(own['low'])} to {fine(own['high'])}",
            "tone": "better" if own["low"] > 0 else "worse" if own["high"] < 0 else "open",
            "rows": own["rows"],
        }
        for name, own in rows
    ]  # fmt: skip


def counters(result: Result) -> list[tuple[str, str]]:
    """What the one synthesis and the shared stores saved, and what the trials cost beside."""
    found = result["counters"]
    used = {t["synthesis"] for t in result["trials"] if t["synthesis"]}
    known: list[tuple[str, Any]] = [
        ("syntheses", found.get("syntheses")),
        ("syntheses that finished trials read", len(used)),
        ("answers generated", found.get("answers_generated")),
        ("answers that were there already", found.get("answers_from_cache")),
        ("mixes laid down", found.get("mixes")),
        ("of these, tokenised anew", found.get("tokenised")),
        ("of these, with the tokens of another", found.get("tokens_taken_over")),
        ("trials side by side", found.get("side_by_side")),
        ("seconds until the pool was there", found.get("seconds_of_pool")),
        ("seconds of all trials, wall clock", found.get("seconds_of_trials")),
        ("wall time over training and evaluation", found.get("overhead")),
    ]
    return [
        (name, number(v) if isinstance(v, int) else figure(v)) for name, v in known if v is not None
    ]


def fine(value: float) -> str:
    """A difference of scores to three digits: near the ceiling two say nothing."""
    return f"{value:+.3f}".replace("-", "−") if round(value, 3) else "0.000"


def _cell(value: Any) -> Any:
    plain = isinstance(value, int | float) and not isinstance(value, bool)
    return value if plain else "" if value is None else _plain(value)


def _plain(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
