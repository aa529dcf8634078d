"""Shared by all tests: one Ray for the session, and models that load in a moment."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from delia_ray.config import RunConfig

ROOT = Path(__file__).parent.parent
DATA = ROOT.parent / "shared" / "data"

TEMPLATE = (
    "{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'] }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


@pytest.fixture(scope="session")
def ray_local():
    """A cluster of two logical CPUs, started the way the product starts one.

    Tests of the command line start clusters of their own, in processes of their own.
    """
    from delia_ray import runtime

    # Workers import nothing from the working folder, and tests hand them functions of their own.
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    os.environ["PYTHONPATH"] = os.pathsep.join(paths)
    runtime.connect(RunConfig(cluster={"num_cpus": 2}))
    yield
    runtime.disconnect()


@pytest.fixture(scope="session")
def data() -> Path:
    """Real corpora that are not part of the project."""
    if not DATA.exists():
        pytest.skip(f"the real corpora are not at {DATA}")
    return DATA


@pytest.fixture(scope="session")
def make_model() -> Callable[..., Path]:
    """A function that saves a Llama with random weights and a byte tokenizer.

    ``spare`` rows of the embedding stand beyond the vocabulary; ``tied`` embeddings or not;
    vLLM wants heads of at least 32, so a ``hidden`` size of 64 for the two.
    """

    def build(
        folder: Path, seed: int = 0, tied: bool = False, spare: int = 0, hidden: int = 16
    ) -> Path:
        import torch
        from tokenizers import Tokenizer, decoders, models, pre_tokenizers
        from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

        alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
        special = ["<|end|>", "<|user|>", "<|assistant|>", "<|system|>"]
        tokenizer = Tokenizer(
            models.BPE(vocab={t: i for i, t in enumerate(special + alphabet)}, merges=[])
        )
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = decoders.ByteLevel()
        fast = PreTrainedTokenizerFast(
            tokenizer_object=tokenizer, eos_token="<|end|>", pad_token="<|end|>",
            additional_special_tokens=special[1:],
        )  # fmt: skip
        fast.chat_template = TEMPLATE
        torch.manual_seed(seed)
        model = LlamaForCausalLM(
            LlamaConfig(
                vocab_size=len(fast) + spare, hidden_size=hidden, intermediate_size=2 * hidden,
                num_hidden_layers=2, num_attention_heads=2, max_position_embeddings=512,
                eos_token_id=0, pad_token_id=0, bos_token_id=None,
                initializer_range=2 / hidden**0.5, tie_word_embeddings=tied,
            )
        )  # fmt: skip
        model.generation_config.eos_token_id = 0
        model.save_pretrained(folder)
        fast.save_pretrained(folder)
        return folder

    return build


LONG = (
    "test_end_to_end", "sweep/test_ray", "cluster/test_real_cluster", "synthesize/test_chaos",
    "test_token_life", "test_resume", "finetune/test_stage", "test_real_models",
)  # fmt: skip
"""Files that take minutes, the longest first."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The long ones first, so that two processes end at about the same time."""

    def place(item: pytest.Item) -> int:
        found = [i for i, name in enumerate(LONG) if name in item.nodeid]
        return found[0] if found else len(LONG)

    items.sort(key=place)
