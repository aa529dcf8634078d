"""What a worker does to a batch of the corpus, step by step."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from delia_ray.config import Curate
from delia_ray.ingest.curate import scripts
from delia_ray.ingest.curate.leaks import Index, find_leaks
from delia_ray.ingest.curate.near import Signatures, signatures
from delia_ray.ingest.curate.text import normalized
from delia_ray.records import Message, content_id

Record = dict[str, Any]


@dataclass
class Statistics:
    """Counts over the rows that stayed."""

    scripts: Counter[str] = field(default_factory=Counter)
    languages: Counter[str] = field(default_factory=Counter)


@dataclass
class Curated:
    """A batch after the steps that look at one row at a time."""

    records: list[Record]
    removed: list[Record]
    """The others, with ``step`` and ``detail``."""
    leaks: list[Record]
    """What leaked, removed or not: the row's origin, which text, and the shares."""
    signatures: Signatures | None


@dataclass(frozen=True)
class Curation:
    """The steps of a config, and what they need."""

    settings: Curate
    index: Index | None = None
    names: tuple[str, ...] = ()
    """What each protected text is called in the listing."""
    tokenizer: str = ""
    """Folder of the base model, for lengths in tokens."""

    def __call__(self, records: Sequence[Record], statistics: Statistics) -> Curated:
        """``records`` (QUERY rows without a key) after every step that was asked for."""
        out = Curated([], [], [], None)
        kept = []
        for record in map(self._normalized, records):
            if record["prompt"][-1]["content"].strip():
                kept.append(record)
            else:
                out.removed.append(_removed(record, "empty", "nothing is left of the prompt"))
        kept = self._of_good_length(kept, out)
        kept = self._without_leaks(kept, out)
        out.records = kept
        texts = ["\n".join(texts_of(record)) for record in kept]
        if self.settings.near_duplicates is not None:
            out.signatures = signatures(texts, self.settings.near_duplicates)
        if self.settings.statistics:
            found, languages = scripts.count(texts)
            statistics.scripts.update(found)
            statistics.languages.update(languages)
        return out

    def _normalized(self, record: Record) -> Record:
        form = self.settings.normalize
        if form == "none":
            return record
        prompt: list[Message] = [
            {"role": turn["role"], "content": normalized(turn["content"], form)}
            for turn in record["prompt"]
        ]
        answer = record["answer"] and (normalized(record["answer"], form) or None)
        return {**record, "id": content_id(prompt, answer), "prompt": prompt, "answer": answer}

    def _of_good_length(self, records: list[Record], out: Curated) -> list[Record]:
        low, high = self.settings.min_tokens, self.settings.max_tokens
        if low is None and high is None:
            return records
        kept = []
        for record, tokens in zip(records, self._lengths(records), strict=True):
            if low is not None and tokens < low:
                out.removed.append(_removed(record, "too short", f"{tokens} tokens"))
            elif high is not None and tokens > high:
                out.removed.append(_removed(record, "too long", f"{tokens} tokens"))
            else:
                kept.append(record)
        return kept

    def _lengths(self, records: Sequence[Record]) -> list[int]:
        if not records:
            return []
        encode = _tokenizer(self.tokenizer)
        return encode(["\n".join(turn["content"] for turn in r["prompt"]) + (r["answer"] or "")
                       for r in records])  # fmt: skip

    def _without_leaks(self, records: list[Record], out: Curated) -> list[Record]:
        if self.index is None:
            return records
        found = {leak.row: leak for leak in find_leaks(list(map(texts_of, records)), self.index)}
        kept = []
        for number, record in enumerate(records):
            leak = found.get(number)
            if leak is not None:
                origin = {key: record[key] for key in ("source", "file", "row", "id")}
                said = record["prompt"][-1]["content"]
                out.leaks.append(
                    {**origin, "of": self.names[leak.text], "held": leak.held,
                     "holds": leak.holds, "excerpt": said[:200]}
                )  # fmt: skip
                if self.index.settings.action == "remove":
                    out.removed.append(_removed(record, "leak", f"of {self.names[leak.text]}"))
                    continue
            kept.append(record)
        return kept


def texts_of(record: Record) -> list[str]:
    """What is compared of a row: its last user turn and its answer."""
    answer = record["answer"]
    return [record["prompt"][-1]["content"], *([answer] if answer else [])]


def _removed(record: Record, step: str, detail: str) -> Record:
    origin = {key: record[key] for key in ("source", "file", "row")}
    return {**origin, "step": step, "detail": detail}


_LOADED: dict[str, Callable[[list[str]], list[int]]] = {}


def _tokenizer(folder: str) -> Callable[[list[str]], list[int]]:
    """A function that counts tokens of texts; loaded once in each process."""
    if folder not in _LOADED:
        from delia_ray.models import load_tokenizer

        tokenizer = load_tokenizer(folder)

        def lengths(texts: list[str]) -> list[int]:
            return [len(ids) for ids in tokenizer(texts, add_special_tokens=False)["input_ids"]]

        _LOADED[folder] = lengths
    return _LOADED[folder]


def together(found: Sequence[Signatures]) -> Signatures | None:
    """Signatures of batches as one."""
    if not found:
        return None
    return Signatures(
        np.concatenate([one.bands for one in found]), np.concatenate([one.marks for one in found])
    )
