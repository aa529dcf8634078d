"""The settings of stage 5."""

from typing import Any, Literal

from pydantic import Field, model_validator

from delia_ray import miniature
from delia_ray.config.data import Name, Settings, Source
from delia_ray.config.engines import AutoEngine, Engine
from delia_ray.config.paths import RecipePath, WorkerPath

MetricName = Literal[
    "exact_match", "content_match", "format_validity", "field_accuracy", "accuracy", "f1",
    "constraints", "constraints_per_instruction", "bleu", "chrf", "chrf++", "ter", "bleurt",
    "comet", "length", "repetition",
]  # fmt: skip

Tokenizer = Literal[
    "13a", "none", "zh", "intl", "char", "ja-mecab", "ko-mecab", "spm", "flores101", "flores200",
    "spBLEU-1K",
]  # fmt: skip

_TAKES: dict[str, tuple[str, ...]] = {
    "field_accuracy": ("field",),
    "format_validity": ("form", "pattern", "pattern_seconds", "json_schema"),
    "accuracy": ("field", "pattern", "pattern_seconds", "labels", "lowercase"),
    "f1": ("field", "pattern", "pattern_seconds", "labels", "lowercase"),
    "constraints": ("loose",),
    "constraints_per_instruction": ("loose",),
    "bleu": ("tokenize", "lowercase"),
    "chrf": ("lowercase",),
    "chrf++": ("lowercase",),
    "bleurt": ("checkpoint",),
    "comet": ("checkpoint", "pattern", "pattern_seconds"),
    "length": ("unit",),
}
"""Metric -> the options that mean something to it."""

_NEEDS: dict[str, str] = {
    "field_accuracy": "field",
    "bleurt": "checkpoint",
    "comet": "checkpoint",
}


class Metric(Settings):
    """How a suite's outputs are scored."""

    name: MetricName
    """Which metric; ``delia_ray/evaluate/__init__.py`` lists them."""
    field: str | None = None
    """The key whose value counts (``field_accuracy``; ``accuracy`` and ``f1`` where the label
    is the value of a key)."""
    pattern: str | None = None
    """A regular expression. ``format_validity`` with ``form: regex``: the whole answer matches
    it. ``accuracy`` and ``f1``: its one group is the label, at the first place where it occurs.
    ``comet``: its one group is the source text in the last user turn, which is otherwise
    taken whole."""
    pattern_seconds: float = Field(1.0, gt=0)
    """CPU seconds that ``pattern`` may take on one text, before the run ends with an error that
    names it. Patterns whose time doubles with each sign of a text are refused before that."""
    labels: list[str] = []
    """The classes of ``accuracy`` and ``f1``; empty for those of the reference answers."""
    form: Literal["reference", "json", "python", "regex", "json_schema"] = "reference"
    """What ``format_validity`` asks for: the reference's type and keys, any JSON value, any
    Python literal, ``pattern``, or a JSON value that ``json_schema`` allows."""
    json_schema: dict[str, Any] | None = None
    """The schema for ``form: json_schema``."""
    loose: bool = False
    """IFEval's loose criterion (``constraints``, ``constraints_per_instruction``): also without
    asterisks, first line or last line."""
    tokenize: Tokenizer = "13a"
    """sacrebleu's tokenizer for ``bleu``; some need a package or download a model."""
    lowercase: bool = False
    """Letter case does not count (``bleu``, ``chrf``, ``chrf++``, ``accuracy``, ``f1``)."""
    checkpoint: WorkerPath | None = None
    """Path of the model that scores: a folder for ``bleurt``, a .ckpt file for ``comet``. Every
    machine of the cluster must see it."""
    unit: Literal["words", "characters"] = "words"
    """What ``length`` counts."""

    @model_validator(mode="after")
    def _options_fit(self) -> "Metric":
        taken = _TAKES.get(self.name, ())
        for option in self.given():
            if option not in taken:
                others = ", ".join(name for name, takes in _TAKES.items() if option in takes)
                raise ValueError(f"{self.name} takes no `{option}`; these do: {others}")
        need = _NEEDS.get(self.name)
        if need and getattr(self, need) is None:
            raise ValueError(f"{self.name} needs `{need}`")
        self._formats_fit()
        if self.field is not None and self.pattern is not None:
            raise ValueError("the label is either a `field` or what `pattern` finds, not both")
        if len({label.strip() for label in self.labels}) < len(self.labels):
            raise ValueError("`labels` names a class twice")
        return self

    def given(self) -> list[str]:
        """Options that differ from their default."""
        fields = type(self).model_fields
        return [n for n in fields if n != "name" and getattr(self, n) != fields[n].default]

    def _formats_fit(self) -> None:
        if self.name == "format_validity":
            for form, need in (("regex", "pattern"), ("json_schema", "json_schema")):
                if (self.form == form) != (getattr(self, need) is not None):
                    raise ValueError(f"`form: {form}`, and no other form, needs `{need}`")
        if self.pattern is not None:
            import regex

            try:
                groups = regex.compile(self.pattern).groups
            except regex.error as error:
                raise ValueError(f"`pattern` is no regular expression: {error}") from None
            if self.name != "format_validity" and groups != 1:
                raise ValueError(f"`pattern` needs exactly one group, it has {groups}")


class Suite(Source):
    """Held-out rows with reference answers, and how to score them."""

    name: Name
    """Its name in the tables and files."""
    metrics: list[Metric] = Field([Metric(name="exact_match")], min_length=1)
    """The first is the suite's main metric, so not ``length`` or ``repetition``."""
    phrasings: int = Field(0, ge=0)
    """Other wordings under which every row is asked too, so that the mean, spread and worst
    case over phrasings are known; the main metric then has to be one that scores each row. For
    ``format: miniature`` they are the world's own, which mean the same for certain. Elsewhere
    the base model rewords each distinct instruction so many times, as ``synthesize.reword`` and
    ``synthesize.rules`` say; a wording that is set aside is not replaced, so a row may have
    fewer. Cost: ``1 + phrasings`` answers for each row."""

    @model_validator(mode="after")
    def _has_equal_wordings(self) -> "Suite":
        known = self.path in miniature.PARTS and self.path not in miniature.REWORDABLE
        if self.phrasings and self.format == "miniature" and known:
            raise ValueError(
                f"phrasings={self.phrasings}: the part {self.path} of the miniature has no equal "
                f"wordings; set phrasings to 0, or take {', '.join(miniature.REWORDABLE)}"
            )
        return self

    @model_validator(mode="after")
    def _main_says_what_is_right(self) -> "Suite":
        if self.metrics[0].name in ("length", "repetition"):
            raise ValueError(
                f"the first metric of a suite says how good an answer is, and "
                f"{self.metrics[0].name} does not; name another one before it"
            )
        return self


class Evaluate(Settings):
    """Stage 5: every arm and the base model answer every suite."""

    engine: Engine = AutoEngine()
    """What generates; each task loads its own copy. Greedy answers of the two engines may differ in
    the last digits of the logits, so where two tokens are nearly as likely."""
    suites: list[Suite] = []
    """What to ask. Without any the report shows training, mix, synthesis and samples, and says
    that nothing was held out."""
    base: bool = True
    """Ask the untrained base model too."""
    systems: dict[Name, dict[str, RecipePath]] = {}
    """Outputs of other systems to score beside the models: system -> suite -> file (or URL) with
    one output a line, or ``.jsonl`` with strings or objects with the key ``output``. With
    ``arms: {}`` and ``base: false`` nothing is trained and nobody is asked."""
    summary: list[str] = []
    """Suites whose main metrics are averaged into the line "mean"; empty for none."""
    probes: int = Field(32, ge=0)
    """Prompts with a special token, and rows of downstream and held-out diverse data, with
    which every model is looked into: states, gradients, what was retained; 0 for none."""
    max_tokens: int = Field(512, ge=1)
    """Longest answer, decoded greedily."""
    resamples: int = Field(2000, ge=100)
    """Bootstrap resamples behind each interval."""
    confidence: float = Field(0.95, gt=0, lt=1)
    """Of the intervals; those of BLEU, chrF and TER are sacrebleu's own, always at 95 %."""
