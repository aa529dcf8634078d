"""The output is the reference, character for character, outer whitespace aside.

As in SQuAD (Rajpurkar et al. 2016, arXiv 1606.05250), without its removal of case,
articles and punctuation: where the format is the question, punctuation is the answer.
"""

from delia_ray.evaluate.metrics.contract import RowMetric


class ExactMatch(RowMetric):
    """1 where the stripped strings are equal."""

    def score(self, output: str, reference: str) -> float:
        return float(output.strip() == reference.strip())
