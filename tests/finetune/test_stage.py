"""Ray Train and DeepSpeed for real: every ZeRO stage and world size trains the same model."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from delia_ray.artifacts import open_storage
from delia_ray.config import RunConfig
from delia_ray.finetune.stage import run as finetune
from delia_ray.mix.stage import run as mix
from delia_ray.records import ANSWER, EXAMPLE, REWORDING, conform
from delia_ray.stage import StageRun
from delia_ray.store import Store

pytestmark = pytest.mark.ray


def _rows(count: int, start: int = 0) -> list[list[dict[str, str]]]:
    return [[{"role": "user", "content": f"say <sep> {i}"}] for i in range(start, start + count)]


@pytest.fixture(scope="module")
def prepared(tmp_path_factory, make_model):
    """Artifacts of the stages before, small, and the config that goes with them."""
    root = tmp_path_factory.mktemp("finetune")
    base = make_model(root / "base")
    config = RunConfig.model_validate(
        {
            "model": str(base), "storage": str(root / "runs"),
            "mix": {"ratio": 3, "max_length": 64},
            "arms": {"delia": {}},
            "finetune": {
                "steps": 6, "batch_size": 8, "micro_batch_size": 2, "lr": 0.01,
                "warmup_steps": 2, "checkpoint_every": 4, "lora": {"r": 4, "dropout": 0.0},
            },
        }
    )  # fmt: skip
    out = open_storage(str(root / "out"))
    origin = {"source": "s", "file": "f", "row": 1}
    down = [{"id": f"d{i}", **origin, "prompt": p, "answer": "yes"} for i, p in enumerate(_rows(6))]
    (out / "ingest").write_table("downstream.parquet", conform(down, EXAMPLE))
    answers = [
        {"id": f"q{i}", "source": "s", "prompt": p, "answer": f"no {i}", "finish_reason": "stop",
         "completion_tokens": 3, "reason": None}
        for i, p in enumerate(_rows(18, 100))
    ]  # fmt: skip
    (out / "synthesize").write_table("answers.parquet", conform(answers, ANSWER))
    reworded = [{"id": "d0", "variant": 1, "prompt": _rows(1, 50)[0],
                     "register": "", "placement": "after", "reason": None}]  # fmt: skip
    (out / "synthesize").write_table("rewordings.parquet", conform(reworded, REWORDING))
    inputs = {"ingest": out / "ingest", "synthesize": out / "synthesize"}
    mix(StageRun(config, out, out / "mix", inputs))
    return config, out


@pytest.fixture(scope="module")
def trained(ray_local, prepared):
    """Train once for each (workers, ZeRO stage); a function that caches."""
    config, out = prepared
    done: dict[tuple[int, int], Path] = {}

    def train(workers: int, zero: int) -> Path:
        if (workers, zero) not in done:
            tree = config.model_dump()
            tree["finetune"] |= {"workers": workers, "zero": zero}
            target = out / f"finetune-{workers}-{zero}"
            finetune(StageRun(RunConfig.model_validate(tree), out, target, {"mix": out / "mix"}))
            done[workers, zero] = Path(target.path) / "delia"
        return done[workers, zero]

    return train


def test_the_rows_of_the_mix_are_counted(prepared) -> None:
    _, out = prepared
    rows = (out / "mix").read_table("sequences.parquet").to_pylist()
    assert len(rows) == 6 + 1 + 18
    steps = Store(out / "mix", "steps-delia")
    assert len(steps) == 6
    for step in range(6):
        kinds = [rows[i]["kind"] for i in steps.row(step)["sequence"]]
        assert len(kinds) == 8
        assert all(kinds[i : i + 4].count("downstream") == 1 for i in (0, 4))


@pytest.mark.parametrize(("workers", "zero"), [(2, 2), (2, 3)])
def test_every_zero_stage_trains_the_same_adapter(trained, workers: int, zero: int) -> None:
    reference = load_file(trained(1, 1) / "adapter" / "adapter_model.safetensors")
    adapter = load_file(trained(workers, zero) / "adapter" / "adapter_model.safetensors")
    assert adapter.keys() == reference.keys()
    for name, value in adapter.items():
        torch.testing.assert_close(value, reference[name], rtol=1e-3, atol=1e-4)


def test_training_moved_the_row_and_nothing_else(trained, prepared) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    config, _ = prepared
    folder = trained(2, 2)
    base = AutoModelForCausalLM.from_pretrained(config.model, dtype=torch.float32)
    merged = AutoModelForCausalLM.from_pretrained(folder / "merged", dtype=torch.float32)
    known = len(AutoTokenizer.from_pretrained(config.model))
    changed = set()
    for name, weight in base.state_dict().items():
        same = torch.equal(merged.state_dict()[name][: len(weight)][:known], weight[:known])
        if not same:
            changed.add(name.rsplit(".", 2)[-2])
    assert changed == {"q_proj", "k_proj", "v_proj", "o_proj"}
    from_peft = load_file(folder / "adapter" / "adapter_model.safetensors")
    rows = [v for k, v in from_peft.items() if "token" in k]
    assert len(rows) == 2, "input and output side"
    assert all(v.shape == (1, 16) for v in rows)


def test_the_adapter_loads_in_plain_peft(trained, prepared) -> None:
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    config, _ = prepared
    folder = trained(2, 3)
    tokenizer = AutoTokenizer.from_pretrained(folder / "adapter")
    base = AutoModelForCausalLM.from_pretrained(config.model, dtype=torch.float32)
    base.resize_token_embeddings(len(tokenizer), pad_to_multiple_of=64, mean_resizing=False)
    model = PeftModel.from_pretrained(base, folder / "adapter").eval()
    merged = AutoModelForCausalLM.from_pretrained(folder / "merged", dtype=torch.float32).eval()
    ids = torch.tensor([tokenizer("say <sep> now")["input_ids"]])
    used = len(tokenizer)  # rows beyond it pad the matrix
    with torch.no_grad():
        torch.testing.assert_close(
            model(input_ids=ids).logits[..., :used], merged(input_ids=ids).logits[..., :used],
            rtol=1e-4, atol=1e-4,
        )  # fmt: skip


def test_the_curve_tells_the_sources_apart(trained) -> None:
    curve = open_storage(str(trained(2, 2))).read_table("curve.parquet").to_pylist()
    assert [p["step"] for p in curve] == [1, 2, 3, 4, 5, 6]
    assert curve[-1]["loss"] < curve[0]["loss"]
    assert curve[0]["lr"] == pytest.approx(0.005)
    for point in curve:
        low, high = sorted([point["loss_downstream"], point["loss_diverse"]])
        assert low <= point["loss"] <= high
