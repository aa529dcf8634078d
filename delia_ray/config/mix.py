"""The settings of stage 3."""

from typing import Literal

from pydantic import Field, model_validator

from delia_ray.config.data import Settings


class RatioPhase(Settings):
    """A stretch of the training with a ratio of its own."""

    from_step: int = Field(ge=0)
    """Its first optimizer step, from 0."""
    ratio: float = Field(ge=0)
    """Diverse rows for each downstream row from there on."""


class Mix(Settings):
    """Stage 3: one exact order of downstream and diverse rows, tokenised and packed."""

    ratio: float = Field(260, ge=0)
    """Diverse rows for each downstream row; the paper uses 67 to 520, 0 is common
    instruction tuning."""
    schedule: list[RatioPhase] = []
    """A ratio that changes over the training, instead of ``ratio``:
    ``[{from_step: 0, ratio: 520}, {from_step: 200, ratio: 67}]``. Arms with a ratio of their
    own keep it."""
    strategy: Literal[
        "uniform", "weighted", "token_balanced", "farthest_first", "low_loss_first",
        "high_loss_first",
    ] = "uniform"  # fmt: skip
    """Which diverse rows are used. ``uniform`` (the paper's) takes the pool as it is;
    ``weighted`` gives each source its share (``weight`` x rows) in every stretch of the
    training, exactly; ``token_balanced`` does so in tokens instead of rows. The others rank
    the rows by the base model's view of them, and an arm that uses fewer than were
    synthesised takes the first: those whose prompts are far from each other, or whose answers
    the model finds most (least) likely."""
    temperature: float = Field(1.0, gt=0)
    """Of ``weighted`` and ``token_balanced``: shares to the power of 1 / temperature. Above 1
    small sources gain; far above, all sources are equal."""
    mosaic: int = Field(1, ge=1)
    """Diverse instructions in one row, numbered and answered in order (Mosaic-IT, arXiv
    2405.13326); ``ratio`` counts such rows, so as many times more answers are synthesised."""
    paired_wordings: bool = False
    """Train a downstream row in two of its wordings side by side in one step, so that the
    step's gradient holds what they have in common."""
    repeat: bool = False
    """Allow diverse rows to repeat when there are fewer than the ratio needs, in all or of
    one source; otherwise a shortfall is an error."""
    max_length: int = Field(1024, ge=16)
    """Longest training sequence in tokens."""
    overlong: Literal["error", "set_aside", "split"] = "error"
    """What happens to a longer one: end with an error, leave it out and count it, or cut it
    into pieces that are trained in the same step."""
    turns: Literal["last", "all"] = "last"
    """Which turns of the assistant count in the loss: the answer, or those before it too."""
    pack_length: int | None = Field(None, ge=16)
    """Tokens that rows are packed into; None takes ``max_length``."""

    @model_validator(mode="after")
    def _schedule_rises(self) -> "Mix":
        steps = [p.from_step for p in self.schedule]
        if steps and (steps[0] != 0 or sorted(set(steps)) != steps):
            raise ValueError(f"mix.schedule: from_step must start at 0 and rise, got {steps}")
        return self
