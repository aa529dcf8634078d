"""Three real models through ``delia run`` with 20 rows, then taken away: adapter and merged model
give the same greedy answers in transformers, in PEFT and in vLLM, with a new token among them.

Weights: ``DELIA_MODELS``, a folder with ``smollm2``, ``qwen`` and ``gemma``; or, of the first, what
``make model`` leaves.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from delia_ray.models import prompt_ids

ROOT = Path(__file__).parent.parent
MADE = {"smollm2": ROOT / "models" / "smollm2-135m-instruct"}
"""What ``make model`` leaves."""
GEMMA = (
    "{{ bos_token }}{% for m in messages %}<start_of_turn>{{ 'model' if m.role == 'assistant' else "
    "m.role }}\n{{ m.content }}<end_of_turn>\n{% endfor %}"
    "{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)
"""The one given in test is pretrained only: it has no template, and knows no end of a turn."""
END_OF_TURN = 106
LONG = 8
"""Tokens of an answer that is compared."""
ASK = """
import json, sys
from delia_ray.config import VllmEngine
from delia_ray.engines import Request, make_engine
if __name__ == "__main__":
    asked = [Request(**r) for r in json.loads(sys.stdin.read())]
    engine = make_engine(VllmEngine(kwargs={"dtype": "float32"}), sys.argv[1])
    made = engine.load(engine.longest(lambda: asked))(asked)
    print("ANSWERS" + json.dumps([m.text for m in made]))
"""
ENVIRONMENT = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path]), "COLUMNS": "200"}


@pytest.mark.ray
@pytest.mark.vllm
@pytest.mark.parametrize("name", ["smollm2", "qwen", "gemma"])
def test_twenty_rows_train_and_answer_alike_everywhere(name: str, tmp_path: Path) -> None:
    base = _model(name, tmp_path / "base")
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(_recipe(base, tmp_path)))
    _command("-m", "delia_ray.cli", "run", str(tmp_path / "recipe.yaml"))
    _command("-m", "delia_ray.cli", "export", str(tmp_path / "runs" / "small"), "--merge")
    out = tmp_path / "runs" / "small" / "exports" / "delia"
    chats = [[{"role": "user", "content": f"<sep> Say the number {n}."}] for n in (3, 14, 50)]
    plain, merged, adapted = _in_transformers(base, out, chats)
    assert all(merged)
    assert merged != plain, "three steps at this rate change what is said"
    assert adapted == merged
    assert _in_vllm(out / "merged", chats, tmp_path) == merged
    assert "TEMPLATE" in (out / "Modelfile").read_text()


def _model(name: str, folder: Path) -> Path:
    places = [Path(os.environ["DELIA_MODELS"]) / name] if os.environ.get("DELIA_MODELS") else []
    where = next((p for p in [*places, MADE.get(name)] if p and (p / "config.json").exists()), None)
    if where is None:
        pytest.skip(f"no weights of {name}: set DELIA_MODELS to a folder that holds {name}/")
    if name != "gemma":
        return where
    shutil.copytree(where, folder)
    (folder / "chat_template.jinja").write_text(GEMMA)
    settings = json.loads((folder / "generation_config.json").read_text())
    ends = {"eos_token_id": [settings["eos_token_id"], END_OF_TURN]}
    (folder / "generation_config.json").write_text(json.dumps(settings | ends))
    return folder


def _recipe(base: Path, root: Path) -> dict[str, Any]:
    return {
        "name": "small", "model": str(base), "storage": str(root / "runs"),
        "downstream": {
            "path": _rows(root / "d.jsonl", 20, "<sep> ", "It is"),
            "special_tokens": {"<sep>": "in a sentence"},
        },
        "corpus": [{"path": _rows(root / "c.jsonl", 40, "", "The number is")}],
        "synthesize": {"engine": {"type": "transformers"}, "sampling": {"max_tokens": 32},
                       "held_out": 0, "reword": {"per_row": 0}},
        # One that is pretrained only never ends its turn, so none of its answers can be used.
        "mix": {"ratio": 0 if base.name == "base" else 0.5, "max_length": 256, "repeat": True,
                "pack_length": 256},
        "finetune": {"steps": 3, "batch_size": 4, "micro_batch_size": 1, "workers": 1,
                     "warmup_steps": 0, "lr": 3e-3, "precision": "fp32", "watch": {"every": 0}},
        "evaluate": {"probes": 0, "base": False}, "arms": {"delia": {}},
    }  # fmt: skip


def _rows(path: Path, count: int, before: str, answer: str) -> str:
    lines = [
        {"query": f"{before}Say the number {n}.", "response": f"{answer} {n}"} for n in range(count)
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return str(path)


def _command(*arguments: str, given: str = "") -> str:
    done = subprocess.run(
        [sys.executable, *arguments], input=given, capture_output=True, text=True, timeout=600,
        env=ENVIRONMENT, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


def _in_transformers(base: Path, out: Path, chats: list[Any]) -> tuple[list[str], ...]:
    """Answers of the base model, of the merged one, and of the base with the adapter, which is
    loaded by the lines that the card shows."""
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(out / "adapter")

    def answers(model: Any) -> list[str]:
        said = []
        for chat in chats:
            ids = torch.tensor([prompt_ids(tokenizer, chat)])
            made = model.generate(input_ids=ids, do_sample=False, max_new_tokens=LONG)
            said.append(tokenizer.decode(made[0, ids.shape[1] :], skip_special_tokens=True))
        return said

    merged = AutoModelForCausalLM.from_pretrained(out / "merged", dtype=torch.float32)
    plain = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    rows = merged.get_input_embeddings().num_embeddings
    if rows != plain.get_input_embeddings().num_embeddings:
        plain.resize_token_embeddings(rows)
    before = answers(plain)
    return before, answers(merged), answers(PeftModel.from_pretrained(plain, out / "adapter"))


def _in_vllm(model: Path, chats: list[Any], scratch: Path) -> list[str]:
    (scratch / "ask.py").write_text(ASK)  # vLLM's own processes import the main module again
    asked = [{"key": str(n), "messages": chat, "max_tokens": LONG} for n, chat in enumerate(chats)]
    said = _command(str(scratch / "ask.py"), str(model), given=json.dumps(asked))
    line = next(s for s in said.splitlines() if s.startswith("ANSWERS"))
    found: list[str] = json.loads(line.removeprefix("ANSWERS"))
    return found
