"""Near-duplicates: MinHash signatures by `rensa`, banded; arithmetic on arrays, no Ray.

`rensa` because its signatures are made in Rust from a flat buffer of shingle hashes, so that
no shingle becomes a Python object; it has no dependencies.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from delia_ray.config import NearDuplicates
from delia_ray.ingest.curate.text import Hashes, bare, mixed, windows

_SEED = 1
_NOTHING = np.uint64(0)
"""Band of a row that has nothing to compare."""


@dataclass(frozen=True)
class Signatures:
    """What of each row is compared with all others."""

    bands: Hashes
    """(rows, bands): rows equal in one are compared."""
    marks: npt.NDArray[np.uint8]
    """(rows, permutations): the lowest byte of each MinHash (b-bit minwise hashing, Li and König
    2010), from which the similarity is estimated at a quarter of the memory."""


def signatures(texts: Sequence[str], settings: NearDuplicates) -> Signatures:
    """Signatures of ``texts``; one without a letter or digit is like no other."""
    from rensa import RMinHash

    hashes, offsets = windows([bare(text) for text in texts], settings.shingle)
    matrix = RMinHash.digest_matrix_from_flat_token_hashes(
        np.ascontiguousarray(hashes), offsets.astype(np.uint64), settings.permutations, _SEED
    )
    digests = np.array(matrix.to_rows(), np.uint64).reshape(len(texts), settings.permutations)
    rows = digests.reshape(len(texts), settings.bands, -1)
    bands = np.zeros(rows.shape[:2], np.uint64)
    for column in range(rows.shape[2]):
        bands = mixed(bands * np.uint64(0x100000001B3) + rows[:, :, column] + np.uint64(1))
    bands[np.diff(offsets) == 0] = _NOTHING
    return Signatures(bands, (digests & np.uint64(255)).astype(np.uint8))


def near_duplicates(found: Signatures, threshold: float) -> npt.NDArray[np.int64]:
    """For each row the earlier row that it nearly repeats, or -1.

    Each is compared, in every band, with the first row that has this band; a chain of rows, each
    near the one before, so keeps more than its first row.
    """
    rows = len(found.bands)
    earlier = np.full(rows, -1, np.int64)
    for band in found.bands.T:
        _, first, inverse = np.unique(band, return_index=True, return_inverse=True)
        candidate = first[inverse]
        for begin in range(0, rows, 65_536):  # bounds the copies of marks
            span = np.arange(begin, min(begin + 65_536, rows))
            span = span[(earlier[span] < 0) & (candidate[span] < span) & (band[span] != _NOTHING)]
            equal = (found.marks[span] == found.marks[candidate[span]]).mean(axis=1)
            similar = (equal - 1 / 256) / (1 - 1 / 256)  # bytes of different hashes agree by chance
            hit = span[similar >= threshold]
            earlier[hit] = candidate[hit]
    return earlier
