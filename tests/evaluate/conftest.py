"""A local Ray, and models so small that they load in a moment."""

from pathlib import Path

import pytest

TEMPLATE = (
    "{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'] }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


@pytest.fixture(scope="module")
def ray_local() -> None:
    """Two CPUs of this machine; left running, since other modules may use it too."""
    import ray

    ray.init(address="local", num_cpus=2, include_dashboard=False, ignore_reinit_error=True)


@pytest.fixture(scope="session")
def make_model():
    """A function that saves a Llama with random weights and a byte tokenizer."""

    def build(folder: Path, seed: int) -> Path:
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
                vocab_size=len(fast), hidden_size=16, intermediate_size=32, num_hidden_layers=1,
                num_attention_heads=2, max_position_embeddings=512, eos_token_id=0,
                pad_token_id=0, bos_token_id=None, initializer_range=0.5,
            )
        )  # fmt: skip
        model.generation_config.eos_token_id = 0
        model.save_pretrained(folder)
        fast.save_pretrained(folder)
        return folder

    return build
