"""Classification: a label is read out of the answer and compared with the reference's."""

import json
from collections.abc import Sequence

import numpy as np

from delia_ray.config import Metric
from delia_ray.errors import UserError
from delia_ray.evaluate.metrics.contract import BaseMetric, CorpusMetric, CorpusScore, RowMetric
from delia_ray.evaluate.metrics.patterns import Pattern
from delia_ray.evaluate.metrics.resample import Rows, bootstrap_score
from delia_ray.evaluate.metrics.structure import parse
from delia_ray.evaluate.statistics import Values


class Labelled(BaseMetric):
    """What accuracy and F1 share.

    The label of a text is the value of ``field`` where it parses as a dict, or what the one
    group of ``pattern`` finds first, or the text itself; outer white space does not count,
    with ``lowercase`` neither does case. A reference may also be the bare label.
    """

    def __init__(self, settings: Metric) -> None:
        super().__init__(settings)
        self._pattern = None if settings.pattern is None else Pattern(settings)
        self._labels = set(map(self.norm, settings.labels))

    def check(self, references: Sequence[str], sources: Sequence[str] | None = None) -> None:
        bad = [i for i, r in enumerate(references) if self.truth(r) is None]
        if bad:
            raise UserError(
                f"{self.settings.name}: no label is read out of {len(bad)} of {len(references)} "
                f"reference answers, first row {bad[0] + 1}: {references[bad[0]][:80]!r}; mend "
                "`field`, `pattern` or `labels`"
            )

    def read(self, text: str) -> str | None:
        """The label that ``text`` states; None where it states none of ``labels``."""
        field = self.settings.field
        if field is not None:
            value = parse(text)
            if not (isinstance(value, dict) and field in value):
                return None
            found = value[field]
            if not isinstance(found, str | bool | int | float):
                return None
            text = found if isinstance(found, str) else json.dumps(found)
        elif self._pattern is not None:
            match = self._pattern.search(text)
            if match is None or match.group(1) is None:
                return None
            text = match.group(1)
        return self._known(text)

    def truth(self, reference: str) -> str | None:
        """The label of a reference answer."""
        label = self.read(reference)
        if label is None and (self.settings.labels or self.settings.field is None):
            return self._known(reference)
        return label

    def _known(self, text: str) -> str | None:
        label = self.norm(text)
        return label if label and (not self._labels or label in self._labels) else None

    def norm(self, label: str) -> str:
        return label.strip().lower() if self.settings.lowercase else label.strip()


class Accuracy(Labelled, RowMetric):
    """1 where the output's label is the reference's; an output without one is wrong."""

    def score(self, output: str, reference: str) -> float:
        label = self.read(output)
        return float(label is not None and label == self.truth(reference))


class F1(Labelled, CorpusMetric):
    """Macro F1: the mean over the classes of 2 TP / (2 TP + FP + FN).

    The classes are ``labels``, or those of the references. An output that states none of them
    is predicted to be of a class of its own, "unparsed", which costs its true class recall and
    is not averaged over. A class that occurs in a (re)sample neither as truth nor as prediction
    has no F1 and is left out there. Percentile interval over resampled rows.
    """

    scale = 1.0

    def score(
        self,
        outputs: Sequence[str],
        references: Sequence[str],
        resamples: int,
        seed: int,
        confidence: float = 0.95,
    ) -> CorpusScore:
        truths = [self.truth(r) for r in references]
        classes = [self.norm(x) for x in self.settings.labels] or sorted({t for t in truths if t})
        place = {label: at for at, label in enumerate(classes)}
        unparsed = len(classes)
        # An output may name a class of no reference, and a truth is always a class.
        pairs = np.array(
            [
                place[truth or ""] * (unparsed + 1) + place.get(self.read(output) or "", unparsed)
                for truth, output in zip(truths, outputs, strict=True)
            ]
        )
        return bootstrap_score(
            lambda rows: macro_f1(_tables(pairs[rows], unparsed + 1)),
            len(pairs),
            name="macro-f1",
            resamples=resamples,
            seed=seed,
            confidence=confidence,
            size=(unparsed + 1) ** 2,
        )


def macro_f1(tables: Values) -> Values:
    """Mean F1 over the classes that occur.

    Args:
        tables: counts by truth and prediction, (samples, K + 1, K + 1); the last class is
            "unparsed", never a truth.

    Returns:
        (samples,), 0 to 1.
    """
    right = np.diagonal(tables, axis1=1, axis2=2)[:, :-1]
    total = tables.sum(axis=1)[:, :-1] + tables.sum(axis=2)[:, :-1]  # 2 TP + FP + FN
    occurs = total > 0
    each = np.divide(2 * right, total, out=np.zeros_like(right), where=occurs)
    mean: Values = each.sum(axis=1) / np.maximum(occurs.sum(axis=1), 1)
    return mean


def _tables(pairs: Rows, size: int) -> Values:
    """Counts by truth and prediction of each row of ``pairs``, (samples, size, size)."""
    samples = len(pairs)
    flat = pairs + size * size * np.arange(samples)[:, None]
    counts = np.bincount(flat.ravel(), minlength=samples * size * size)
    return counts.reshape(samples, size, size).astype(np.float64)
