"""What is done to the corpus between reading and the pool."""

from typing import Literal

from pydantic import Field, model_validator

from delia_ray.config.data import Settings


class NearDuplicates(Settings):
    """Rows whose words are nearly those of an earlier row: MinHash with locality-sensitive
    hashing (Broder 1997; Leskovec et al., Mining of Massive Datasets, chapter 3)."""

    threshold: float = Field(0.8, gt=0, le=1)
    """Estimated Jaccard similarity of two rows' shingles from which the later one goes."""
    shingle: int = Field(8, ge=1, le=64)
    """Characters of a shingle, of the text without case, punctuation and space."""
    permutations: int = Field(128, ge=16, le=1024)
    """Length of a signature."""
    bands: int = Field(16, ge=1)
    """Bands of a signature; two rows are compared where one band is equal. More bands find more
    and compare more."""

    @model_validator(mode="after")
    def _bands_divide(self) -> "NearDuplicates":
        if self.permutations % self.bands:
            raise ValueError(
                f"bands={self.bands} must divide permutations={self.permutations}; for example 16 "
                "and 128"
            )
        return self


class Leaks(Settings):
    """Rows of the corpus that hold a downstream or evaluation text, or are held by one
    (decontamination by n-grams, as Brown et al. 2020, arXiv 2005.14165, appendix C)."""

    against: list[Literal["downstream", "suites"]] = Field(["downstream", "suites"], min_length=1)
    """Whose texts to look for: prompts and answers."""
    ngram: int = Field(24, ge=8, le=128)
    """Characters of an n-gram, of the text without case, punctuation and space, so that none of
    these hides a copy. Shorter texts count where they are equal."""
    share: float = Field(0.6, gt=0, le=1)
    """A row goes if so much of a protected text's own n-grams are in it. N-grams that many of
    these texts share (their instruction) do not count."""
    query_share: float = Field(0.9, gt=0, le=1)
    """A row goes too if so much of its query's n-grams are in protected texts; higher, since a
    short query shares half its words with many a text that it has not come from."""
    action: Literal["remove", "report"] = "remove"
    """Remove the rows, or keep and only list them in ``leaks.parquet``."""


class Diversity(Settings):
    """How diverse the pool is, and every prefix of it that an arm trains on; for the report."""

    rows: int = Field(20_000, ge=1)
    """Queries of the pool's beginning whose words are counted."""
    embedded: int = Field(2048, ge=0)
    """Queries of them that the base model embeds (mean hidden state), for the Vendi score; 0 for
    none. Costs one pass of the model over each."""


class Curate(Settings):
    """Curation of the corpus; every step is off until it is asked for, except that of rows
    with equal content the first is kept."""

    normalize: Literal["none", "nfc", "nfkc"] = "none"
    """Unicode normal form; with it, invisible characters, spaces at the ends of lines and odd
    line ends go too."""
    min_tokens: int | None = Field(None, ge=1)
    """Fewest tokens of prompt and answer together, by the base model's tokenizer."""
    max_tokens: int | None = Field(None, ge=1)
    """Most tokens of prompt and answer together."""
    near_duplicates: NearDuplicates | None = None
    """Remove near-duplicates; ``{}`` for the defaults."""
    leaks: Leaks | None = None
    """Remove what leaks from the downstream set and the suites; ``{}`` for the defaults."""
    statistics: bool = False
    """Count scripts and languages."""
    diversity: Diversity | None = None
    """Measure the diversity of the pool; ``{}`` for the defaults."""

    @model_validator(mode="after")
    def _limits_fit(self) -> "Curate":
        low, high = self.min_tokens, self.max_tokens
        if low is not None and high is not None and low > high:
            raise ValueError(f"min_tokens={low} is more than max_tokens={high}")
        return self
