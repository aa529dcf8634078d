"""The settings of stage 3."""

from typing import Literal

from pydantic import Field

from delia_ray.config.data import Settings


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
