"""Where each row stands in the store of sequences."""

import copy

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from delia_ray.mix.draws import Ints

KINDS = {"self_sampled": "diverse", "reference": "reference"}
"""``Arm.answers`` -> the kind of the arm's diverse rows."""


class Index:
    """Where each row's sequences stand in the store.

    Rows are numbered as they are used here: downstream rows whose original wording is
    trainable, and trainable diverse rows, each from 0. The diverse rows are those with the
    model's own answers; ``using`` gives the same index with others.
    """

    def __init__(self, sequences: pa.Table, weights: dict[str, float]) -> None:
        """``sequences``: records.SEQUENCE; ``weights``: of each diverse source."""
        self.tokens = sequences["tokens"].to_numpy().astype(np.int32)
        self.supervised = sequences["supervised_tokens"].to_numpy().astype(np.int32)
        of_kind = {
            kind: pc.equal(sequences["kind"], kind).to_numpy()
            for kind in ("downstream", *KINDS.values())
        }
        names = sequences["source"].combine_chunks().dictionary_encode()
        codes = names.indices.to_numpy()
        self.sources: list[tuple[str, str]] = []
        """(kind, source) by code; downstream first."""
        self.code = np.empty(len(sequences), np.int16)
        for kind, own in of_kind.items():
            for code in np.unique(codes[own]):
                self.code[own & (codes == code)] = len(self.sources)
                self.sources.append((kind, names.dictionary[int(code)].as_py()))
        # An item is one wording of one row: its pieces stand side by side.
        starts = np.flatnonzero(sequences["piece"].to_numpy() == 0)
        self.first = starts.astype(np.int64)
        self.pieces = np.diff(np.append(starts, len(sequences))).astype(np.int32)
        row, variant = sequences["row"].to_numpy()[starts], sequences["variant"].to_numpy()[starts]
        self._row = row
        items = np.flatnonzero(of_kind["downstream"][starts])
        begins = np.flatnonzero(np.append(True, np.diff(row[items]) != 0)) if len(items) else items
        counts = np.diff(np.append(begins, len(items)))
        whole = variant[items[begins]] == 0
        self.wording, self.wordings = items[begins][whole], counts[whole]
        self.lost = int((~whole).sum())
        """Downstream rows of which only rewordings are trainable; none of these is used."""
        self._items = {kind: np.flatnonzero(own[starts]) for kind, own in of_kind.items()}
        self._weights = weights
        self.kind = "diverse"
        """Of the diverse rows."""
        self.ranking: Ints | None = None
        """Diverse rows, the first to be used first; None leaves them in pool order."""

    def using(self, answers: str) -> "Index":
        """The index with the diverse rows of these ``Arm.answers``. A ranking holds for their
        queries; rows whose other answers have none come last, in pool order."""
        own = copy.copy(self)
        own.kind = KINDS[answers]
        if self.ranking is not None:
            rank = np.full(self._row.max() + 1, self.pool)  # by number of the row
            rank[self._row[self.diverse[self.ranking]]] = np.arange(self.pool)
            own.ranking = np.argsort(rank[self._row[own.diverse]], kind="stable")
        return own

    @property
    def diverse(self) -> Ints:
        """Items of the diverse rows, in pool order."""
        return self._items[self.kind]

    @property
    def names(self) -> list[str]:
        """Sources of the diverse rows, by code."""
        return [name for kind, name in self.sources if kind == self.kind]

    @property
    def weights(self) -> list[float]:
        """Of each of ``names``."""
        return [self._weights.get(name, 1.0) for name in self.names]

    @property
    def rows(self) -> int:
        return len(self.wording)

    @property
    def pool(self) -> int:
        return len(self.diverse)

    def source_of(self, items: Ints) -> Ints:
        return self.code[self.first[items]].astype(np.int64)
