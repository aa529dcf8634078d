"""Small finished stages to train on."""

from pathlib import Path
from typing import Any

from delia_ray.artifacts import Folder, open_storage
from delia_ray.config import RunConfig
from delia_ray.mix.stage import run as mix
from delia_ray.records import ANSWER, EXAMPLE, QUERY, REWORDING, conform
from delia_ray.stage import StageRun

TOKENS = {"<sep>": "as a list", "<new>": "in short"}


def _rows(count: int, start: int = 0) -> list[list[dict[str, str]]]:
    return [
        [{"role": "user", "content": f"say <sep> {i} <new>"}] for i in range(start, start + count)
    ]


def prepare(root: Path, base: Path, **settings: Any) -> tuple[RunConfig, Folder]:
    """(config, folder) of a run whose stages before ``finetune`` are done: 6 downstream rows,
    18 diverse ones with reference answers, and a mix for 6 steps of 8 rows."""
    tree: dict[str, Any] = {
        "model": str(base), "storage": str(root / "runs"),
        "downstream": {"special_tokens": TOKENS},
        "mix": {"ratio": 3, "max_length": 64},
        "arms": {"delia": {}},
        "finetune": {
            "steps": 6, "batch_size": 8, "micro_batch_size": 2, "lr": 0.01, "precision": "fp32",
            "warmup_steps": 2, "checkpoint_every": 2, "lora": {"r": 4, "dropout": 0.1},
            "watch": {"every": 3, "rows": 3},
        },
    }  # fmt: skip
    tree["finetune"] |= settings.pop("finetune", {})
    config = RunConfig.model_validate(tree | settings)
    out = open_storage(str(root / "out"))
    origin = {"source": "s", "file": "f", "row": 1}
    down = [{"id": f"d{i}", **origin, "prompt": p, "answer": "yes"} for i, p in enumerate(_rows(6))]
    (out / "ingest").write_table("downstream.parquet", conform(down, EXAMPLE))
    queries = [
        {"id": f"q{i}", **origin, "prompt": p, "answer": f"never {i}", "key": i / 18}
        for i, p in enumerate(_rows(18, 100))
    ]
    (out / "ingest").write_table("corpus.parquet", conform(queries, QUERY))
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


def changed(config: RunConfig, **finetune: Any) -> RunConfig:
    """``config`` with other settings of the fine-tuning."""
    tree = config.model_dump()
    tree["finetune"] |= finetune
    return RunConfig.model_validate(tree)
