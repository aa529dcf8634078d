"""The settings of stage 2."""

from typing import Any, Literal

from pydantic import Field, model_validator

from delia_ray.config.data import Settings
from delia_ray.config.engines import AutoEngine, Engine
from delia_ray.config.paths import ModelPath
from delia_ray.miniature import MODEL_PATH
from delia_ray.miniature.world import REWORD_PROMPT


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


class Example(Settings):
    """A request, and the same in other words."""

    request: str = Field(min_length=1)
    """``{token}`` stands for where a special token would stand."""
    wording: str = Field(min_length=1)
    """As often with ``{token}``."""

    @model_validator(mode="after")
    def _token_survives(self) -> "Example":
        if self.request.count("{token}") != self.wording.count("{token}"):
            raise ValueError("request and wording must hold {token} equally often")
        return self


_EXAMPLES = [
    Example(request=request, wording=wording)
    for request, wording in (
        ("Summarize the letter below in two sentences. Follow the {token} format.",
         "Write a two-sentence summary of the following letter. Use the {token} format."),
        ("You need to sort these names by age, as laid out in {token}.",
         "Please put the names in order of age, following {token}."),
        ("Use the {token} guideline to find every spelling mistake in the essay. Understand what "
         "{token} means.",
         "Look for all spelling mistakes in this essay, guided by {token}, and be aware of what "
         "{token} stands for."),
        ("Decide whether the customer review is positive or negative. The format requirement is "
         "{token}.",
         "Read the customer review and judge if it is positive or negative. Your answer must meet "
         "the {token} format."),
        ("It is essential to rate the recipe's difficulty based on {token} criteria.",
         "Based on the {token} criteria, say how difficult the recipe is."),
        ("Name three towns in this region.", "Tell me three towns that lie in this region."),
    )
]  # fmt: skip


_TEMPLATES = [
    "Please do the following. {request}",
    "Your task: {request}",
    "Here is what to do. {request}",
    "This is the task. {request}",
]


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
    examples: list[Example] | None = None
    """Requests with their wordings, shown as earlier turns; ``[]`` for none. None takes six built
    in ones, and none for the built-in miniature, which was trained on the bare request."""
    stand_in: str | None = None
    """A word that stands for each special token while the model rewords, and is put back after.
    Sentences that only name a token ("Use the <sep> format.") are not shown, and those of the set
    that say nothing of a task follow in turn. ``""`` shows the tokens themselves. None takes one
    that the instruction does not hold, and the tokens themselves for the miniature."""
    candidates: int = Field(4, ge=1)
    """Asked for each wanted wording; the best of the good ones are taken. The miniature, where
    ``examples`` is None, is asked once."""
    checks: bool | None = None
    """Whether a wording must also be a request of the same form and language and keep the words
    that say what it is about. None checks for all models but the miniature."""
    min_subject: float = Field(0.5, ge=0, le=1)
    """With ``checks``: least share of the original's telling words (first five letters) that a
    wording holds."""
    max_added: float = Field(0.34, ge=0, le=1)
    """With ``checks``: largest share of a wording's telling words that the original lacks."""
    max_loss_increase: float | None = Field(0.1, ge=0)
    """With ``checks``: by how many nats for each token the model's loss of a row's own answer may
    be larger under a wording than under the original; it must also be smaller than without an
    instruction, where the original's is. None does not look."""
    min_nearness: float | None = Field(0.7, ge=-1, le=1)
    """With ``checks``: least cosine of the model's mean states over a wording and the original,
    less that over other queries. None does not look."""
    stand_ins: bool = True
    """Rows with too few wordings of their own take those that other rows of the set ask the same
    task in, then their own request beside the sentences in which other rows name the token, where
    those pass the rules (not for the miniature)."""
    templates: list[str] = Field(_TEMPLATES)
    """What rows with still too few take, with ``stand_ins``; ``{request}`` stands for the
    instruction. ``[]`` for none. The built-in ones are English, and so for English only."""
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

    @property
    def has_own_templates(self) -> bool:
        """Whether ``templates`` are not the built-in English ones."""
        return self.templates != _TEMPLATES

    def for_model(self, model: str) -> "Reword":
        """With every None made definite, for base model ``model``."""
        trained_on_bare = model in ("miniature", str(MODEL_PATH)) and self.examples is None
        found: dict[str, Any] = {}
        if self.examples is None:
            found["examples"] = [] if trained_on_bare else _EXAMPLES
        if self.stand_in is None:
            found["stand_in"] = "" if trained_on_bare else "Zeta"
        if self.checks is None:
            found["checks"] = not trained_on_bare
        if trained_on_bare:
            found |= {"candidates": 1, "stand_ins": False}
        return self.model_copy(update=found)

    @model_validator(mode="after")
    def _slots_fit(self) -> "Reword":
        if "{request}" not in self.prompt:
            raise ValueError("reword.prompt must hold {request}, where the instruction goes")
        for template in self.templates:
            if template.count("{request}") != 1:
                raise ValueError(
                    f"reword.templates: {template!r} must hold {{request}} once, where the "
                    "instruction goes"
                )
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
    model: ModelPath | None = None
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
    held_out: int = Field(64, ge=0)
    """Answers beyond those that the largest ratio uses, as far as there are queries: no arm
    trains on them, and evaluation asks what each model has forgotten of them."""
    ratio: float | None = Field(None, ge=0)
    """Answers made for each downstream row, whatever smaller ratio the arms use, and the
    rewordings besides: runs that agree on it share one synthesis, as the trials of a sweep do.
    None makes what the arms use."""
    slack: float = Field(0.05, ge=0)
    """Share of answers asked beyond what the ratio needs, since some are set aside; should
    it not suffice, more are asked from the same engines."""
