"""The whole configuration as one pydantic tree; imports no ray, torch or vllm.

People write YAML; files compose left to right and ``dotted.key=value`` overrides come
last. Unknown keys fail with the nearest valid name. The text under each field is its
documentation: ``delia show`` prints it.
"""

import difflib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from delia_ray.errors import UserError
from delia_ray.miniature.world import REWORD_PROMPT


class Settings(BaseModel):
    """Base of every settings class: immutable, documented, no unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


# --- data -----------------------------------------------------------------------------


class Source(Settings):
    """Rows to read: a file, a glob, a folder, a URL, or a part of the miniature world."""

    path: str
    """File, glob or folder, local or any fsspec URL; relative paths start at the working
    folder. With ``format: miniature``, the name of a part of the built-in world."""
    format: Literal["auto", "messages", "alpaca", "prompt_completion", "miniature"] = "auto"
    """How a row is laid out; ``auto`` decides from the columns of the rows. The container
    (JSONL, JSON array, parquet, CSV/TSV; each plain or .gz) follows the content."""
    columns: dict[str, str] = {}
    """Renames before the layout is read, as wanted name -> name in the file (dots reach into
    nested ones), for example ``{prompt: question, completion: translation.is}``."""
    rows: int | None = Field(None, ge=1)
    """Take only the first this many records (after set-aside rows); None takes all."""
    weight: float = Field(1.0, gt=0)
    """How likely a row of this source comes early in the pool, relative to the other
    sources (weighted sampling without replacement). No effect on downstream rows or suites."""


class Downstream(Source):
    """The small set to adapt to."""

    path: str = "downstream"
    """File, glob, folder or URL of the rows; each needs an answer."""
    format: Literal["auto", "messages", "alpaca", "prompt_completion", "miniature"] = "miniature"
    """How a row is laid out, as for the corpus."""
    rows: int | None = Field(64, ge=1)
    """Take only the first this many records; None takes all."""
    special_tokens: dict[str, str] = {"<sep>": "json"}
    """New tokens to add to the vocabulary, each with the description of what it stands
    for. The description initialises (``finetune.token_init: description``) and probes the
    token; it is never shown to the model in training."""


# --- engines --------------------------------------------------------------------------


class AutoEngine(Settings):
    """vLLM where it is installed, else transformers, with the defaults of each."""

    type: Literal["auto"] = "auto"
    """auto, vllm or transformers."""


class VllmEngine(Settings):
    """vLLM through ``ray.data.llm``, one engine per actor."""

    type: Literal["vllm"] = "vllm"
    """auto, vllm or transformers."""
    replicas: Annotated[int, Field(ge=1)] | tuple[int, int] = 1
    """Engines that run side by side; ``[2, 8]`` starts with 2 and adds up to 8 while work
    waits and the cluster has room."""
    batch_size: int = Field(128, ge=1)
    """Rows handed to an engine at a time, and kept together: what a death repeats."""
    max_concurrent_batches: int = Field(8, ge=1)
    """Batches inside an engine at once; times ``batch_size`` it should be more than vLLM's
    ``max_num_seqs``, or the engine idles."""
    max_restarts: int = Field(3, ge=0)
    """Restarts of a dying engine, and of a pass in which nothing got done, before the stage
    fails; a resumed run starts counting anew."""
    max_model_len: int | None = Field(None, ge=16)
    """Longest prompt plus answer in tokens; None takes the model's own limit."""
    adapters: list[str] = []
    """Folders of LoRA adapters of the model, which answer the diverse queries in turn: as
    many teachers as adapters in one engine. Empty: the model itself answers."""
    kwargs: dict[str, Any] = {}
    """Passed to the vLLM engine as they are (``tensor_parallel_size``,
    ``pipeline_parallel_size``, ``dtype``, ``max_num_seqs`` ...)."""

    @property
    def replica_range(self) -> tuple[int, int]:
        """(fewest, most) engines."""
        return (self.replicas,) * 2 if isinstance(self.replicas, int) else self.replicas

    @model_validator(mode="after")
    def _range_fits(self) -> "VllmEngine":
        least, most = self.replica_range
        if not 1 <= least <= most:
            raise ValueError(f"replicas=[{least}, {most}]: give [fewest, most], at least 1")
        return self


class TransformersEngine(Settings):
    """Plain ``transformers`` generation in Ray actors, for small models and machines."""

    type: Literal["transformers"] = "transformers"
    """auto, vllm or transformers."""
    replicas: int = Field(1, ge=1)
    """Copies of the model that run side by side, one CPU (or GPU) each."""
    batch_size: int = Field(64, ge=1)
    """Prompts generated together."""
    max_restarts: int = Field(3, ge=0)
    """Restarts of a dying copy, and of a pass in which nothing got done, before the stage
    fails."""


Engine = Annotated[AutoEngine | VllmEngine | TransformersEngine, Field(discriminator="type")]


# --- stages ---------------------------------------------------------------------------


class Sampling(Settings):
    """How answers are drawn; the defaults are those of the paper's code."""

    temperature: float = Field(0.7, ge=0)
    """0 is greedy."""
    top_p: float = Field(0.95, gt=0, le=1)
    """Nucleus sampling threshold."""
    max_tokens: int = Field(512, ge=1)
    """Longest answer; one that reaches it is cut off and set aside."""
    json_schema: dict[str, Any] | None = None
    """JSON schema that the text has to follow (vLLM's structured outputs); None for any text."""


class Rules(Settings):
    """When a generated answer is set aside, beside empty and cut-off ones."""

    min_characters: int = Field(1, ge=1)
    """A shorter answer is "too short"."""
    refusals: list[str] = [
        "I'm sorry, but", "I am sorry, but", "I cannot ", "I can't ", "I'm unable to",
        "I am unable to", "As an AI", "I apologize, but",
    ]  # fmt: skip
    """An answer that begins with one of these is "refused"; case does not count."""
    max_repetition: float = Field(0.6, ge=0, le=1)
    """Largest share of an answer's 4-word sequences (8-character ones where words are not
    set apart) that occurred in it before; more is "repeats itself". 1 lets all pass."""
    template_marks: list[str] = [
        "<|im_start|>", "<|im_end|>", "[INST]", "[/INST]", "<|eot_id|>", "<|start_header_id|>",
        "<start_of_turn>", "<end_of_turn>", "### Instruction:", "### Response:",
    ]  # fmt: skip
    """An answer with one of these "leaks a chat template"; the model's own control tokens
    always do."""
    echo: bool = False
    """Keep an answer that only says the query again."""


class Reword(Settings):
    """Ask for each downstream task in other words (paper, step 2)."""

    per_row: int = Field(2, ge=0)
    """Rewordings for each downstream row; 0 turns rewording off. Rows with the same
    instruction are one task and share its wordings."""
    part: Literal["last_paragraph", "all"] = "last_paragraph"
    """What of the last user turn is the instruction; the rest is content and stays."""
    prompt: str = REWORD_PROMPT
    """The request to the model; ``{request}`` stands for the instruction and ``{register}``
    for one of ``registers``."""
    registers: list[str] = Field(
        ["", " Be formal.", " Be casual.", " Be brief.", " Be polite."], min_length=1
    )
    """Ways to speak, taken in turn; each is put at ``{register}``. ``[""]`` for one way."""
    placement: list[Literal["after", "before"]] = Field(["after", "before"], min_length=1)
    """Where a reworded instruction may stand, seen from the content; drawn by seed."""
    max_similarity: float = Field(0.9, gt=0, le=1)
    """A wording whose words agree more with the original's, or with another one's of the same
    row (share of matching words in order), is "not new"."""
    sampling: Sampling = Sampling(temperature=1.0, max_tokens=128)
    """Warmer than the answers, because phrasings should differ."""

    @model_validator(mode="after")
    def _slots_fit(self) -> "Reword":
        if "{request}" not in self.prompt:
            raise ValueError("reword.prompt must hold {request}, where the instruction goes")
        if any(self.registers) and "{register}" not in self.prompt:
            raise ValueError(
                "reword.prompt has no {register}, where reword.registers go; add it, or set "
                'reword.registers=[""]'
            )
        return self


class Queries(Settings):
    """How a model invents queries (``synthesize.method: magpie``; arXiv 2406.08464)."""

    system: str = ""
    """A system message that sets their field; empty for none."""
    sampling: Sampling = Sampling(temperature=1.0, top_p=1.0, max_tokens=256)
    """Hot, because queries should differ."""


class Synthesize(Settings):
    """Stage 2: the base model answers the diverse queries and rewords the instructions."""

    engine: Engine = AutoEngine()
    """What generates."""
    model: str | None = None
    """Another model that answers and rewords (a teacher), named like ``model``; None is the
    base model itself, the paper's way."""
    method: Literal["self_sample", "plain", "magpie"] = "self_sample"
    """``self_sample`` shows the corpus's answer in a first turn and asks the same query again
    (the paper's way; rows without a reference are asked alone), ``plain`` asks all queries
    alone, ``magpie`` has the model invent the queries too and needs no corpus."""
    samples: int = Field(1, ge=1)
    """Answers for each query, each a diverse row; the same one twice is kept once."""
    sampling: Sampling = Sampling()
    """How the diverse answers are drawn."""
    queries: Queries = Queries()
    """How queries are invented."""
    rules: Rules = Rules()
    """Which answers are set aside."""
    reword: Reword = Reword()
    """How the downstream instructions are reworded."""
    slack: float = Field(0.05, ge=0)
    """Share of answers asked beyond what the ratio needs, since some are set aside; should
    it not suffice, more are asked from the same engines."""


class Mix(Settings):
    """Stage 3: one exact order of downstream and diverse rows."""

    ratio: float = Field(260, ge=0)
    """Diverse rows for each downstream row; the paper uses 67 to 520, 0 is common
    instruction tuning."""
    repeat: bool = False
    """Allow the diverse pool to repeat when it is smaller than the ratio needs; otherwise
    a shortfall is an error."""
    max_length: int = Field(1024, ge=16)
    """Longest training sequence in tokens."""
    overlong: Literal["error", "set_aside"] = "error"
    """What happens to a longer one: end with an error, or leave it out and count it."""


class Lora(Settings):
    """Low-rank adapters, as in the paper's code."""

    r: int = Field(16, ge=1)
    """Rank."""
    alpha: float = Field(16, gt=0)
    """Scale; the update is multiplied by alpha / r."""
    dropout: float = Field(0.05, ge=0, lt=1)
    """On the adapters' input."""
    target_modules: list[str] = ["q_proj", "k_proj", "v_proj", "o_proj"]
    """Layers that get an adapter."""


class Finetune(Settings):
    """Stage 4: Ray Train with DeepSpeed and PEFT."""

    workers: int = Field(2, ge=1)
    """Data-parallel training processes."""
    cpus_per_worker: int = Field(1, ge=1)
    """Logical CPUs and threads of each worker."""
    gpus_per_worker: float | None = Field(None, ge=0)
    """None gives each worker one GPU where the cluster has any."""
    zero: Literal[1, 2, 3] = 2
    """DeepSpeed ZeRO stage."""
    lora: Lora = Lora()
    """The adapter."""
    token_init: Literal["random", "mean", "description"] = "random"
    """First value of a new token's row: random like the existing rows (the paper's way),
    their mean, or the mean over the tokens of its description."""
    lr: float = Field(2e-4, gt=0)
    """Peak learning rate of AdamW; constant after the warm-up."""
    warmup_steps: int = Field(25, ge=0)
    """Optimizer steps over which the rate rises linearly from zero."""
    weight_decay: float = Field(0.01, ge=0)
    """Of AdamW."""
    batch_size: int = Field(64, ge=1)
    """Rows in one optimizer step, over all workers."""
    micro_batch_size: int = Field(16, ge=1)
    """Rows that a worker computes at once; the rest of its share accumulates."""
    steps: int | None = Field(None, ge=1)
    """Optimizer steps of every arm; None gives the DELIA arm one epoch, and every other
    arm as many steps."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """``auto`` is bf16 on a GPU and fp32 on a CPU."""
    gradient_checkpointing: bool = False
    """Trade compute for memory."""
    checkpoint_every: int = Field(200, ge=1)
    """Optimizer steps between checkpoints; at most this much work is lost."""
    max_failures: int = Field(2, ge=0)
    """Worker-group restarts before the run fails."""


class Arm(Settings):
    """One fine-tuned model of the comparison."""

    ratio: float | None = Field(None, ge=0)
    """Diverse rows per downstream row; None takes ``mix.ratio``."""
    reworded: bool = True
    """Use the reworded instructions beside the original ones."""


class Metric(Settings):
    """How a suite's outputs are scored."""

    name: Literal["exact_match", "format_validity", "field_accuracy", "bleu", "chrf"]
    """Which metric; ``delia_ray/evaluate/__init__.py`` lists them."""
    field: str | None = None
    """The key whose value counts (``field_accuracy``)."""

    @model_validator(mode="after")
    def _field_fits(self) -> "Metric":
        if (self.name == "field_accuracy") != (self.field is not None):
            raise ValueError("field_accuracy, and no other metric, needs `field`")
        return self


class Suite(Source):
    """Held-out rows with reference answers, and how to score them."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    """Its name in the tables and files."""
    metrics: list[Metric] = Field([Metric(name="exact_match")], min_length=1)
    """The first is the suite's main metric."""


def _miniature_suites() -> list[Suite]:
    exact = ("sep_unseen_tasks", "sep_unseen_phrasings", "sep_negated", "plain", "other_formats")
    suites = [Suite(name=n, path=n, format="miniature", rows=128) for n in exact]
    translation = [Metric(name="chrf"), Metric(name="bleu"), Metric(name="exact_match")]
    return [
        *suites,
        Suite(
            name="translation", path="translation", format="miniature", rows=128,
            metrics=translation,
        ),
    ]  # fmt: skip


class Evaluate(Settings):
    """Stage 5: every arm and the base model answer every suite."""

    engine: Engine = TransformersEngine()
    """What generates; each task loads its own copy."""
    suites: list[Suite] = Field(default_factory=_miniature_suites)
    """What to ask."""
    summary: list[str] = [
        "sep_unseen_tasks", "sep_unseen_phrasings", "sep_negated", "plain", "other_formats",
    ]  # fmt: skip
    """Suites whose main metrics are averaged into the line "mean"; empty for none."""
    max_tokens: int = Field(64, ge=1)
    """Longest answer, decoded greedily."""
    resamples: int = Field(2000, ge=100)
    """Bootstrap resamples behind each interval."""
    confidence: float = Field(0.95, gt=0, lt=1)
    """Of the intervals; those of BLEU and chrF are sacrebleu's own, always at 95 %."""


class Cluster(Settings):
    """Where Ray runs."""

    address: str | None = None
    """Ray address; None joins the cluster of the surrounding Ray job, or starts one here."""
    num_cpus: int | None = Field(None, ge=1)
    """Logical CPUs of a cluster started here; None takes the machine's, at least 2."""


class RunConfig(Settings):
    """Everything about one run. The defaults are the miniature demo."""

    name: str = Field("demo", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    """The run's folder under ``storage``."""
    storage: str = "runs"
    """Folder or fsspec URL that runs live in; a cluster's nodes must all reach it."""
    seed: int = Field(0, ge=0)
    """Seeds the pool order, sampling, mix, initialisation and bootstrap."""
    model: str = "miniature"
    """The base chat model: ``miniature``, a folder, a URL or a hub id. It needs a chat
    template."""
    downstream: Downstream = Downstream()
    """The task to adapt to."""
    corpus: list[Source] = [Source(path="corpus", format="miniature", rows=20000)]
    """Diverse queries; reference answers help but are not needed."""
    synthesize: Synthesize = Synthesize()
    mix: Mix = Mix()
    finetune: Finetune = Finetune()
    arms: dict[str, Arm] = {"common": Arm(ratio=0, reworded=False), "delia": Arm()}
    """Models to train and compare; ``base`` (untrained) always stands beside them."""
    evaluate: Evaluate = Evaluate()
    cluster: Cluster = Cluster()

    @model_validator(mode="after")
    def _names_fit(self) -> "RunConfig":
        names = [s.name for s in self.evaluate.suites]
        if "mean" in names:
            raise ValueError("evaluate.suites: 'mean' is the summary's name; choose another")
        if len(set(names)) < len(names):
            raise ValueError(f"evaluate.suites: names must differ, got {names}")
        if missing := [n for n in self.evaluate.summary if n not in names]:
            raise ValueError(
                f"evaluate.summary names {missing}, which evaluate.suites lacks (it has {names})"
            )
        if "base" in self.arms:
            raise ValueError("arms: 'base' is the untrained model's name; choose another")
        return self

    def arm_ratio(self, arm: str) -> float:
        """Diverse rows per downstream row of ``arm``."""
        ratio = self.arms[arm].ratio
        return self.mix.ratio if ratio is None else ratio


# --- reading --------------------------------------------------------------------------


def load_config(files: Sequence[str | Path] = (), overrides: Sequence[str] = ()) -> RunConfig:
    """Compose YAML ``files`` left to right, then ``key=value`` overrides.

    Raises:
        UserError: a file is missing or not YAML, or a key or value is wrong.
    """
    tree: dict[str, Any] = {}
    for file in files:
        tree = _merge(tree, _read_yaml(Path(file)))
    for override in overrides:
        tree = _merge(tree, _parse_override(override))
    try:
        return RunConfig.model_validate(tree)
    except ValidationError as error:
        raise UserError("\n".join(_explain(e) for e in error.errors())) from None


def describe(config: BaseModel, prefix: str = "") -> Iterator[tuple[str, Any, str]]:
    """Yield (dotted key, value, documentation) for every leaf of the tree."""
    for name, info in type(config).model_fields.items():
        value = getattr(config, name)
        key = f"{prefix}{name}"
        if isinstance(value, BaseModel):
            yield from describe(value, f"{key}.")
        else:
            yield key, value, info.description or ""


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"cannot read the recipe {path}: {error.strerror}") from None
    except yaml.YAMLError as error:
        raise UserError(f"{path} is not valid YAML: {error}") from None
    if tree is None:
        return {}
    if not isinstance(tree, dict):
        raise UserError(f"{path} must hold settings as `key: value`, got a {type(tree).__name__}")
    return tree


def _parse_override(text: str) -> dict[str, Any]:
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise UserError(f"{text!r} is neither a recipe file nor an override like mix.ratio=67")
    try:
        tree: Any = yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise UserError(f"the value in {text!r} is not valid YAML: {error}") from None
    for part in reversed(key.split(".")):
        tree = {part: tree}
    return tree  # type: ignore[no-any-return]


def _merge(base: Mapping[str, Any], top: Mapping[str, Any]) -> dict[str, Any]:
    """Mappings merge key by key; everything else is replaced. A changed engine ``type``
    replaces the whole mapping, since the keys of one engine mean nothing to another."""
    merged = dict(base)
    for key, value in top.items():
        old = merged.get(key)
        if isinstance(old, Mapping) and isinstance(value, Mapping):
            switched = "type" in value and value["type"] != old.get("type")
            merged[key] = dict(value) if switched else _merge(old, value)
        else:
            merged[key] = value
    return merged


def _explain(error: Any) -> str:
    """One validation error as one line: the key, the value got, what would work."""
    # A tagged union adds the tag to the location ("synthesize", "engine", "vllm", "x").
    path = [str(p) for p in error["loc"]]
    key = ".".join(p for p in path if p not in ("auto", "vllm", "transformers"))
    if error["type"] == "extra_forbidden":
        near = difflib.get_close_matches(key, _all_keys(RunConfig), n=1, cutoff=0.6)
        hint = f" (did you mean {near[0]}?)" if near else ""
        return f"{key} is not a setting{hint}"
    if error["type"] == "value_error" and not key:
        return str(error["ctx"]["error"])
    return f"{key}={error['input']!r}: {error['msg']}"


def _all_keys(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    for name, info in model.model_fields.items():
        yield f"{prefix}{name}"
        for part in _models_in(info.annotation):
            yield from _all_keys(part, f"{prefix}{name}.")


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in getattr(annotation, "__args__", ()):
        yield from _models_in(part)
