"""What the checks look at: a recipe, its model's files, and what is made of them once for all."""

from functools import cached_property
from typing import TYPE_CHECKING, Any

from delia_ray.config import RunConfig
from delia_ray.models import end_ids, load_tokenizer, locate

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedTokenizerBase


class Subject:
    """A recipe under examination. Everything is made at its first use and shared by the checks.

    The properties raise UserError where the model lacks what they give; a check may let it
    pass, since it becomes a problem like any other.
    """

    def __init__(self, config: RunConfig) -> None:
        self.config = config

    @property
    def trains(self) -> bool:
        """Whether anything is trained at all."""
        return bool(self.config.arms)

    @cached_property
    def path(self) -> str:
        """The local folder of the base model."""
        return locate(self.config.model)

    @cached_property
    def tokenizer(self) -> "PreTrainedTokenizerBase":
        """The base model's, with the recipe's new special tokens."""
        return load_tokenizer(self.path, self.config.downstream.special_tokens)

    @cached_property
    def ends(self) -> frozenset[int]:
        """Token ids that end an answer of the base model."""
        return end_ids(self.path)

    @cached_property
    def model_config(self) -> "PreTrainedConfig":
        """The base model's, as transformers reads it."""
        from transformers import AutoConfig

        return AutoConfig.from_pretrained(self.path)

    @cached_property
    def text_config(self) -> Any:
        """The part of ``model_config`` that says what the language model is."""
        return self.model_config.get_text_config(decoder=True)
