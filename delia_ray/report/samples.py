"""Which outputs and rewordings to show, and side by side with what."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from delia_ray.records import Message

OUTCOMES = ("ours", "theirs", "both", "neither", "unscored")
"""Who was right: only the arm under test, only its opponent, both alike, none, not scored."""

PER_OUTCOME = 6
"""Examples shown of each outcome in each suite."""

CLIP = 1500
"""Characters shown of one text."""


@dataclass(frozen=True)
class Output:
    """One arm's answer."""

    arm: str
    text: str
    finish_reason: str
    score: float | None


@dataclass(frozen=True)
class Sample:
    """One prompt with the answers of every arm."""

    suite: str
    index: int
    outcome: str
    prompt: list[Message]
    reference: str
    outputs: list[Output]


@dataclass(frozen=True)
class SuiteSamples:
    """A choice of a suite's rows, and how often each outcome occurs in all of them."""

    suite: str
    tally: dict[str, int]
    samples: list[Sample]


def choose(
    generations: Iterable[Mapping[str, Any]], arms: Sequence[str], ours: str, theirs: str
) -> list[SuiteSamples]:
    """The first rows of each outcome in each suite, where a suite has it."""
    grouped: dict[str, dict[int, dict[str, Mapping[str, Any]]]] = {}
    for row in generations:
        grouped.setdefault(row["suite"], {}).setdefault(row["index"], {})[row["arm"]] = row
    return [_suite(name, rows, arms, ours, theirs) for name, rows in grouped.items()]


def outcome(ours: float | None, theirs: float | None) -> str:
    """One of ``OUTCOMES`` from the two scores of a row, each 0 to 1."""
    if ours is None or theirs is None:
        return "unscored"
    if ours != theirs:
        return "ours" if ours > theirs else "theirs"
    return "both" if ours == 1 else "neither"


def reworded(
    rewordings: Iterable[Mapping[str, Any]], originals: Iterable[Mapping[str, Any]], limit: int = 8
) -> list[tuple[str, list[str]]]:
    """(original instruction, its rewordings) for the first ``limit`` rows; paragraphs that
    all of them hold, wherever they stand, are left out."""
    wordings: dict[str, list[str]] = {}
    for row in rewordings:
        if row["reason"] is None and row["variant"]:
            wordings.setdefault(row["id"], []).append(_asked(row["prompt"]))
    before = {r["id"]: _asked(r["prompt"]) for r in originals if r["id"] in wordings}
    out = []
    for key in list(before)[:limit]:
        texts = _without_shared([before[key], *wordings[key]])
        out.append((clip(texts[0]), [clip(t) for t in texts[1:]]))
    return out


WHOSE = {
    "model": "the model's words",
    "row": "another row's words",
    "frame": "its own request, another row's way to name the token",
    "template": "a template around it",
}
"""Kind of a rewording (``records.REWORDING``) -> what it is called."""


def by_kind(
    rewordings: Iterable[Mapping[str, Any]], originals: Iterable[Mapping[str, Any]], limit: int = 3
) -> list[tuple[str, int, list[tuple[str, str]]]]:
    """(whose words, rows that have such a wording, ``limit`` examples of original and wording);
    without kinds that no row has."""
    before = {r["id"]: _asked(r["prompt"]) for r in originals}
    found: dict[str, dict[str, str]] = {}
    for row in rewordings:
        if row["reason"] is None and row["variant"] and row["id"] in before:
            found.setdefault(row["kind"], {}).setdefault(row["id"], _asked(row["prompt"]))
    out = []
    for kind, label in WHOSE.items():
        rows = found.get(kind, {})
        pairs = {text: before[key] for key, text in rows.items()}
        shown = [_without_shared([old, new]) for new, old in list(pairs.items())[:limit]]
        if rows:
            out.append((label, len(rows), [(clip(old), clip(new)) for old, new in shown]))
    return out


def trained_on(
    kinds: Iterable[tuple[str, Sequence[Mapping[str, Any]]]],
) -> list[tuple[str, list[tuple[list[Message], str]]]]:
    """(kind of row, prompt and answer of its rows), long texts clipped."""
    return [
        (kind, [(_clipped(r["prompt"]), clip(r["answer"])) for r in rows])
        for kind, rows in kinds
        if rows
    ]


def tally(reasons: Iterable[str | None]) -> dict[str, int]:
    """Kept, and set aside by reason; most frequent first."""
    counted = Counter("kept" if r is None else r for r in reasons)
    kept = counted.pop("kept", 0)
    return {"kept": kept, **dict(counted.most_common())}


def clip(text: str, limit: int = CLIP) -> str:
    """The beginning of a long text, and how much more there is."""
    if len(text) <= limit:
        return text
    return f"{text[:limit]}… ({len(text) - limit:,} more characters)"


def _suite(
    name: str,
    rows: Mapping[int, Mapping[str, Mapping[str, Any]]],
    arms: Sequence[str],
    ours: str,
    theirs: str,
) -> SuiteSamples:
    counted = dict.fromkeys(OUTCOMES, 0)
    chosen = []
    for index in sorted(rows):
        row = rows[index]
        result = outcome(row[ours]["score"], row[theirs]["score"])
        counted[result] += 1
        if counted[result] <= PER_OUTCOME:
            outputs = [
                Output(a, clip(row[a]["output"]), row[a]["finish_reason"], row[a]["score"])
                for a in arms
            ]
            prompt = _clipped(row[ours]["prompt"])
            reference = clip(row[ours]["reference"])
            chosen.append(Sample(name, index, result, prompt, reference, outputs))
    chosen.sort(key=lambda s: (OUTCOMES.index(s.outcome), s.index))
    return SuiteSamples(name, {k: v for k, v in counted.items() if v}, chosen)


def _clipped(prompt: Sequence[Message]) -> list[Message]:
    return [{"role": m["role"], "content": clip(m["content"])} for m in prompt]


def _asked(prompt: Sequence[Message]) -> str:
    return next((m["content"] for m in reversed(prompt) if m["role"] == "user"), "")


def _without_shared(texts: Sequence[str]) -> list[str]:
    """The texts without the paragraphs that all hold; whole where nothing would be left."""
    split = [[p.strip() for p in t.split("\n\n")] for t in texts]
    shared = set(split[0]).intersection(*split[1:])
    return [
        "\n\n".join(p for p in parts if p not in shared) or text
        for text, parts in zip(texts, split, strict=True)
    ]
