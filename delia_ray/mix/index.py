"""Where each row stands in the store of sequences."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from delia_ray.mix.draws import Ints


class Index:
    """Where each row's sequences stand in the store.

    Rows are numbered as they are used here: downstream rows whose original wording is
    trainable, and trainable diverse rows, each from 0.
    """

    def __init__(self, sequences: pa.Table, weights: dict[str, float]) -> None:
        """``sequences``: records.SEQUENCE; ``weights``: of each diverse source."""
        self.tokens = sequences["tokens"].to_numpy().astype(np.int32)
        self.supervised = sequences["supervised_tokens"].to_numpy().astype(np.int32)
        downstream = pc.equal(sequences["kind"], "downstream").to_numpy()
        names = sequences["source"].combine_chunks().dictionary_encode()
        codes = names.indices.to_numpy()
        self.sources: list[tuple[str, str]] = []
        """(kind, source) by code; downstream first."""
        self.code = np.empty(len(sequences), np.int16)
        for kind, own in (("downstream", downstream), ("diverse", ~downstream)):
            for code in np.unique(codes[own]):
                self.code[own & (codes == code)] = len(self.sources)
                self.sources.append((kind, names.dictionary[int(code)].as_py()))
        # An item is one wording of one row: its pieces stand side by side.
        starts = np.flatnonzero(sequences["piece"].to_numpy() == 0)
        self.first = starts.astype(np.int64)
        self.pieces = np.diff(np.append(starts, len(sequences))).astype(np.int32)
        row, variant = sequences["row"].to_numpy()[starts], sequences["variant"].to_numpy()[starts]
        is_down = downstream[starts]
        items = np.flatnonzero(is_down)
        begins = np.flatnonzero(np.append(True, np.diff(row[items]) != 0)) if len(items) else items
        counts = np.diff(np.append(begins, len(items)))
        whole = variant[items[begins]] == 0
        self.wording, self.wordings = items[begins][whole], counts[whole]
        self.lost = int((~whole).sum())
        """Downstream rows of which only rewordings are trainable; none of these is used."""
        self.diverse = np.flatnonzero(~is_down)
        self.ranking: Ints | None = None
        """Diverse rows, the first to be used first; None leaves them in pool order."""
        self.weights = [weights.get(name, 1.0) for kind, name in self.sources if kind == "diverse"]

    @property
    def rows(self) -> int:
        return len(self.wording)

    @property
    def pool(self) -> int:
        return len(self.diverse)

    def source_of(self, items: Ints) -> Ints:
        return self.code[self.first[items]].astype(np.int64)
