"""What is taken away from a run: an adapter that plain PEFT loads, and a card that is true.

The hub is stood in for at its edge (``HfApi``): nothing here leaves the machine.
"""

import io
import json
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from huggingface_hub import ModelCard
from transformers import AutoModelForCausalLM

from delia_ray.artifacts import Folder, open_storage
from delia_ray.chat import model_of
from delia_ray.cli import main
from delia_ray.config import RunConfig
from delia_ray.errors import DeliaError, UserError
from delia_ray.export import hub
from delia_ray.export.bundle import export
from delia_ray.export.layout import UNFINISHED, model_in
from delia_ray.export.markdown import code, reasons
from delia_ray.finetune.model import attach, load_base
from delia_ray.finetune.result import merge
from delia_ray.finetune.stage import settings as finetune_settings
from delia_ray.mix.stage import run as mix
from delia_ray.mix.stage import settings as mix_settings
from delia_ray.pipeline import CURRENT
from delia_ray.records import ANSWER, EXAMPLE, REWORDING, conform, digest
from delia_ray.stage import StageRun
from delia_ray.synthesize.stage import settings as synthesize_settings
from delia_ray.token_rows import initialise_rows
from tests.report.conftest import scores

PROMPT = "say <sep> now"


def _config(base: Path, storage: Path, tokens: dict[str, str]) -> RunConfig:
    down = storage.parent / "down.jsonl"
    down.write_text("".join(_line(f"say <sep> {i}", "yes") for i in range(6)))
    (storage.parent / "pool.jsonl").write_text("".join(_line(f"q {i}", "r") for i in range(20)))
    return RunConfig.model_validate(
        {
            "name": "tiny", "model": str(base), "storage": str(storage),
            "downstream": {
                "path": str(down), "format": "auto", "rows": None, "special_tokens": tokens
            },
            "corpus": [
                {"path": str(down.with_name("pool.jsonl"))},
                {"path": "hf://datasets/owner/name/*.parquet"},
            ],
            "synthesize": {"engine": {"type": "transformers"}},
            "mix": {"ratio": 3, "max_length": 64, "overlong": "set_aside"},
            "finetune": {"steps": 6, "batch_size": 8, "lora": {"r": 4, "dropout": 0.0}},
            "evaluate": {"suites": [{"name": "words", "path": "w"}], "summary": ["words"]},
        }
    )  # fmt: skip


def _line(question: str, answer: str) -> str:
    turns = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    return json.dumps({"messages": turns}) + "\n"


def _rows(count: int, start: int = 0) -> list[list[dict[str, str]]]:
    return [[{"role": "user", "content": f"say <sep> {i}"}] for i in range(start, start + count)]


def _data(config: RunConfig, run: Folder) -> dict[str, Folder]:
    """Tables and counts of the first three stages; the mix is the real one."""
    at = {name: run / name / digest(name) for name in ("ingest", "synthesize", "mix", "finetune")}
    origin = {"source": "s", "file": "f", "row": 1}
    down = [{"id": f"d{i}", **origin, "prompt": p, "answer": "yes"} for i, p in enumerate(_rows(6))]
    at["ingest"].write_table("downstream.parquet", conform(down, EXAMPLE))
    answers = [
        {"id": f"q{i}", "source": "s", "prompt": p, "answer": "no" * (40 if i == 7 else 1),
         "finish_reason": "stop", "completion_tokens": 3, "reason": None}
        for i, p in enumerate(_rows(19, 100))
    ]  # fmt: skip
    at["synthesize"].write_table("answers.parquet", conform(answers, ANSWER))
    at["synthesize"].write_table("rewordings.parquet", conform([], REWORDING))
    outcome = mix(StageRun(config, run, at["mix"], at))
    whole = {
        "read": 30, "records": 6, "rejects": {"empty": 3, "a | b": 1}, "duplicates": 0,
        "beyond_limit": 20,
    }  # fmt: skip
    _publish(
        at["ingest"], "ingest", {},
        {"downstream": {config.downstream.path: whole}, "corpus": {"pool": whole}},
    )  # fmt: skip
    _publish(
        at["synthesize"], "synthesize", synthesize_settings(config),
        {
            "self_sample": {"kept": 19, "set_aside": {"refused": 2, "cut off": 1}},
            "reword": {"asked": 12, "kept": 9, "set_aside": {"not new": 3}},
            "queries_set_aside": {}, "engine": "transformers",
        },
    )  # fmt: skip
    _publish(at["mix"], "mix", mix_settings(config), outcome.counts)
    return at


def _publish(folder: Folder, stage: str, settings: Any, counts: Any) -> None:
    folder.publish(
        {
            "stage": stage, "fingerprint": digest(stage), "settings": settings, "counts": counts,
            "summary": "", "seconds": 1.0, "created": "2026-01-02T03:04:05",
            "versions": {"peft": "1.2.3"},
        }
    )  # fmt: skip


def _train(config: RunConfig, base: Path, out: Path) -> None:
    """An adapter that was trained for five steps, and its merged model, by the stage's own
    functions; only the writing is PEFT's, because the stage's wants a process group."""
    tokens = config.downstream.special_tokens
    model, tokenizer = load_base(str(base), tokens, torch.float32)
    initialise_rows(model, str(base), tokenizer, tokens, "random", seed=0)
    tuned = attach(model, tokenizer, tokens, config.finetune)
    ids = torch.tensor([tokenizer("one <sep> two")["input_ids"]])
    optimizer = torch.optim.AdamW([p for p in tuned.parameters() if p.requires_grad], lr=0.05)
    for _ in range(5):
        optimizer.zero_grad()
        tuned(input_ids=ids, labels=ids).loss.backward()
        optimizer.step()
    tuned.save_pretrained(out / "adapter", save_embedding_layers=False)
    tokenizer.save_pretrained(out / "adapter")
    (out / "adapter" / "README.md").unlink(missing_ok=True)
    merge(str(base), out / "adapter", tokens, out / "merged")


@pytest.fixture(scope="module")
def make_run(make_model, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Folder]:
    """A function that leaves a run of which ``delia`` is trained; evaluated or not."""

    def build(tokens: dict[str, str] | None = None, evaluated: bool = True, **model: Any) -> Folder:
        root = tmp_path_factory.mktemp("run")
        base = make_model(root / "base", **model)
        tokens = {"<sep>": "a `JSON` | object"} if tokens is None else tokens
        config = _config(base, root / "runs", tokens)
        run = open_storage(str(root / "runs" / "tiny"))
        at = _data(config, run)
        _train(config, base, Path(at["finetune"].path) / "delia")
        done = {"steps": 6, "loss": 0.25}
        _publish(
            at["finetune"], "finetune", finetune_settings(config),
            {"arms": {"common": done, "delia": done}, "workers": 2, "zero": 2},
        )  # fmt: skip
        if evaluated:
            at["evaluate"] = run / "evaluate" / digest("evaluate")
            at["evaluate"].write_json("scores.json", scores())
            _publish(at["evaluate"], "evaluate", {}, {"suites": {"words": 8, "texts": 8}})
        run.write_json("config.json", config.model_dump(mode="json"))
        run.write_json(CURRENT, {name: digest(name) for name in at})
        return run

    return build


@pytest.fixture(scope="module")
def tiny(make_run: Callable[..., Folder]) -> Folder:
    return make_run()


@pytest.fixture
def copied(tiny: Folder, tmp_path: Path) -> Folder:
    """A run to change."""
    return open_storage(str(shutil.copytree(tiny.path, tmp_path / "copied")))


def _code(card: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", card, re.DOTALL)


def _say(card: str, number: int) -> dict[str, Any]:
    """The names that a block of the card leaves."""
    names: dict[str, Any] = {}
    # Random weights do not end their turn.
    block = _code(card)[number].replace("max_new_tokens=256", "max_new_tokens=4")
    exec(compile(block, "card", "exec"), names)
    return names


def _logits(model: Any, tokenizer: Any) -> torch.Tensor:
    with torch.no_grad():
        found = model(input_ids=torch.tensor([tokenizer(PROMPT)["input_ids"]])).logits
    return torch.as_tensor(found)


@pytest.mark.parametrize(
    ("model", "rows"),
    [({}, 320), ({"tied": True}, 320), ({"spare": 50}, None)],
    ids=["untied", "tied", "with spare rows"],
)
def test_the_lines_of_the_card_load_it(
    make_run, monkeypatch, capsys, model: dict[str, Any], rows: int | None
) -> None:
    done = export(make_run(evaluated=False, **model), merged=True)
    card = done.folder.read_bytes("README.md").decode()
    assert ("resize_token_embeddings" in _code(card)[0]) == (rows is not None)
    assert rows is None or f"resize_token_embeddings({rows})" in card
    monkeypatch.chdir(done.folder.path)
    names = _say(card, 0)
    assert capsys.readouterr().out.strip(), "the card's chat got an answer"
    tokenizer, adapted = names["tokenizer"], names["model"]
    assert tokenizer.chat_template
    names = _say(card, 1)
    merged = names["model"]
    assert merged.get_input_embeddings().num_embeddings == rows or rows is None
    ours = _logits(adapted, tokenizer)
    torch.testing.assert_close(ours, _logits(merged, names["tokenizer"]), rtol=1e-3, atol=1e-3)
    base = AutoModelForCausalLM.from_pretrained(
        json.loads((Path("adapter/adapter_config.json")).read_text())["base_model_name_or_path"]
    )
    known = base.get_input_embeddings().num_embeddings
    plain = base(input_ids=torch.tensor([tokenizer("say now")["input_ids"]])).logits
    with torch.no_grad():
        tuned = adapted(input_ids=torch.tensor([tokenizer("say now")["input_ids"]])).logits
    assert not torch.allclose(plain, tuned[..., :known], atol=1e-2), "the adapter does something"


def test_without_a_merged_model_two_lines_make_it(tiny, tmp_path, monkeypatch) -> None:
    done = export(tiny, to=open_storage(str(tmp_path / "out")))
    assert done.folder.names() == ["Modelfile", "README.md", "adapter", "manifest.json"]
    card = done.folder.read_bytes("README.md").decode()
    monkeypatch.chdir(done.folder.path)
    names = _say(card, 0)
    before = _logits(names["model"], names["tokenizer"])
    exec(_code(card)[1], names)
    made = AutoModelForCausalLM.from_pretrained("merged")
    torch.testing.assert_close(before, _logits(made, names["tokenizer"]), rtol=1e-3, atol=1e-3)


def test_the_card_says_what_the_manifests_say(tiny, tmp_path) -> None:
    done = export(tiny, to=open_storage(str(tmp_path / "out")), merged=True)
    text = done.folder.read_bytes("README.md").decode()
    card = ModelCard(text)
    assert card.data.library_name == "peft"
    assert "delia" in card.data.tags
    assert card.data.datasets == ["owner/name"]
    assert card.data.base_model is None, "a folder is no model of the hub"
    said = " ".join(text.split())
    config = RunConfig.model_validate(tiny.read_json("config.json"))
    for fact in (
        f"`{config.model}`", "arXiv 2408.10841", "| downstream | 30 | 6 | 4 (3 empty, 1 a \\| b) |",
        "The base model gave the answers of the diverse rows itself (transformers, temperature "
        "0.7, top_p 0.95, at most 512 tokens), through its own chat template.",
        "answers kept: 19; set aside: 3 (2 refused, 1 cut off)",
        "kept: 9 of 12 asked (temperature 1.0); set aside: 3 (3 not new)",
        "asked for: 3; realised: 3.",
        "| rows | 12 (25.0%) | 36 (75.0%) | 3.0 |",
        "(longer than 64 tokens, or not to be masked): 1 (1 diverse,",
        "6 optimizer steps of 8 rows; loss at the end 0.25",
        "learning rate 0.0002, constant after 25 warm-up steps",
        "LoRA: r 4, alpha 16, dropout 0.0, on `k_proj`, `o_proj`, `q_proj`, `v_proj`",
        "the loss counts the answers alone", "2 workers, DeepSpeed ZeRO-2",
        "peft 1.2.3", "| `<sep>` | `` a `JSON` \\| object `` |",
        "| words | exact_match | 0.00 [0.00, 0.05] | 0.61 [0.56, 0.66] | 0.90 [0.85, 0.95] |",
        "| texts | chrf | 0.0 [0.0, 4.0] | 61.2 [57.2, 65.2] | 90.0 [86.0, 94.0] |",
        "95 % bootstrap intervals (2,000 resamples", "words 8, texts 8; `mean` is over words.",
        "vllm serve merged --served-model-name tiny-delia delia chat .",
    ):  # fmt: skip
        assert fact in said, fact
    assert "\n\n\n" not in text
    assert "This arm is a comparison" not in text


def test_what_did_not_happen_is_said(make_run) -> None:
    run = make_run(evaluated=False, tokens={})
    text = export(run).folder.read_bytes("README.md").decode()
    assert "This run has not been evaluated yet." in text
    assert "Special tokens" not in text
    assert "trained token rows" not in text
    assert "resize_token_embeddings" not in text


def test_an_arm_without_diverse_rows_says_so(tiny, tmp_path) -> None:
    trained = tiny / "finetune" / digest("finetune")
    for name in ("adapter", "merged"):
        (trained / "common").upload(Path((trained / "delia").file(name)), name)
    trained.publish(trained.manifest() or {})
    done = export(tiny, "common", open_storage(str(tmp_path / "out")))
    text = done.folder.read_bytes("README.md").decode()
    assert "**This arm is a comparison: it saw downstream rows alone.**" in text
    assert "this arm was trained with none of them" in text
    assert "| rows | 48 (100.0%) | 0 (0.0%) | 0.0 |" in text
    assert "in their original wording only" in text


def test_other_ways_to_train_are_said(copied) -> None:
    tree = copied.read_json("config.json")
    tree["arms"]["delia"] |= {"answers": "reference", "objective": "whole_chat"}
    copied.write_json("config.json", tree)
    trained = copied / "finetune" / digest("finetune")
    manifest = trained.manifest() or {}
    manifest["settings"]["finetune"] |= {"schedule": "cosine", "quantize": "4bit"}
    trained.write_json("manifest.json", manifest)
    said = " ".join(export(copied).folder.read_bytes("README.md").decode().split())
    for fact in (
        "its diverse rows have the reference answers of their sources, not the model's own",
        "this arm was trained with none of them",
        "the loss counts every token of the chat, instructions too",
        "after 25 warm-up steps down to zero in a cosine",
        "the frozen weights were held in 4bit",
    ):
        assert fact in said, fact


def test_where_every_weight_was_trained_there_is_a_model_only(copied, monkeypatch) -> None:
    (copied / "finetune" / digest("finetune") / "delia").remove("adapter")
    with pytest.raises(UserError, match=r"no adapter, .*finetune\.method=full.*--merge"):
        export(copied)
    assert not copied.exists("exports")
    done = export(copied, merged=True)
    assert done.folder.names() == ["Modelfile", "README.md", "manifest.json", "merged"]
    assert [line.split()[0] for line in done.lines()] == [
        "merged",
        "card",
        "ollama",
        "serve",
        "try",
    ]
    text = done.folder.read_bytes("README.md").decode()
    assert ModelCard(text).data.library_name == "transformers"
    assert "every weight was trained" in text
    assert "peft import" not in text
    monkeypatch.chdir(done.folder.path)
    _say(text, 0)


def test_only_the_recipes_own_paths_leave_the_machine(tiny, copied, monkeypatch, tmp_path) -> None:
    run, root = copied, Path(tiny.path).parent.parent
    tree = run.read_json("config.json") | {"model": "base", "corpus": []}
    tree["downstream"]["path"] = "down.jsonl"
    run.write_json("config.json", tree)
    ingest = run / "ingest" / digest("ingest")
    manifest = ingest.manifest() or {}
    manifest["counts"]["downstream"] = {"down.jsonl": manifest["counts"]["corpus"]["pool"]}
    ingest.write_json("manifest.json", manifest)
    monkeypatch.chdir(tmp_path)
    done = export(run, to=open_storage("out"), merged=True)
    files = [p for p in Path(done.folder.path).rglob("*") if p.is_file()]
    assert len(files) > 8
    for file in files:
        found = file.read_bytes()
        assert str(root).encode() not in found, file
        assert str(tmp_path).encode() not in found, file
    settings = json.loads(Path("out/adapter/adapter_config.json").read_text())
    assert settings["base_model_name_or_path"] == "base"
    assert settings["revision"] is None


def test_a_base_from_the_hub_keeps_its_commit(copied) -> None:
    run = copied
    commit = "0123456789abcdef0123456789abcdef01234567"
    file = Path((run / "finetune" / digest("finetune") / "delia").file("adapter"))
    settings = json.loads((file / "adapter_config.json").read_text())
    settings["base_model_name_or_path"] = f"/cache/models--owner--chat/snapshots/{commit}"
    (file / "adapter_config.json").write_text(json.dumps(settings))
    trained = run / "finetune" / digest("finetune")
    trained.publish(trained.manifest() or {})
    run.write_json("config.json", run.read_json("config.json") | {"model": "owner/chat"})
    done = export(run)
    settings = done.folder.read_json("adapter/adapter_config.json")
    assert (settings["base_model_name_or_path"], settings["revision"]) == ("owner/chat", commit)
    text = done.folder.read_bytes("README.md").decode()
    assert ModelCard(text).data.base_model == "owner/chat"
    assert f'from_pretrained("owner/chat", revision="{commit}", dtype="auto")' in text


@pytest.mark.parametrize("kind", ["folder", "memory"])
def test_exporting_again_replaces_it(tiny, tmp_path, kind: str) -> None:
    url = str(tmp_path / "out") if kind == "folder" else f"memory://{tmp_path}/out"
    first = export(tiny, to=open_storage(url), merged=True)
    manifest = first.folder.manifest() or {}
    assert (manifest["stage"], manifest["arm"]) == ("export", "delia")
    assert set(manifest["files"]) == {"Modelfile", "README.md", "adapter", "merged"}
    assert set(manifest["stages"]) == {"ingest", "synthesize", "mix", "finetune", "evaluate"}
    first.folder.write_text("adapter/old.txt", "of before")
    again = export(tiny, to=open_storage(url))
    assert again.folder.names() == ["Modelfile", "README.md", "adapter", "manifest.json"]
    assert not again.folder.exists("adapter/old.txt")


def test_half_an_export_does_not_look_whole(tiny, tmp_path, monkeypatch) -> None:
    target = open_storage(str(tmp_path / "out"))
    upload = Folder.upload

    def dying(self: Folder, local: Path, name: str) -> None:
        if name == "merged":
            raise OSError("the disk is full")
        upload(self, local, name)

    export(tiny, to=target, merged=True)
    monkeypatch.setattr(Folder, "upload", dying)
    with pytest.raises(OSError, match="disk is full"):
        export(tiny, to=target, merged=True)
    assert target.manifest() is None
    assert not target.exists("README.md")
    with pytest.raises(UserError, match="was not finished"):
        model_in(target)
    monkeypatch.undo()
    export(tiny, to=target, merged=True)
    assert not target.exists(UNFINISHED)
    assert model_in(target) == str(target / "merged")


# --- what is refused ----------------------------------------------------------------------


def test_what_cannot_be_exported_is_refused_before_anything_is_written(tiny, tmp_path) -> None:
    out = open_storage(str(tmp_path / "out"))
    cases: list[tuple[dict[str, Any], str]] = [
        ({"arm": "dleia"}, r"--arm dleia: the run has common, delia"),
        ({"arm": "base"}, r"nothing to export"),
        ({"private": True}, r"give --push HUB_REPO"),
        ({"repo": "a/b/c"}, r"--push a/b/c: .*OWNER/NAME"),
    ]
    for options, message in cases:
        with pytest.raises(UserError, match=message):
            export(tiny, to=out, **options)
    assert not out.exists()
    with pytest.raises(UserError, match="is not a run's folder"):
        export(out, to=out)
    model = tiny / "finetune" / digest("finetune") / "delia" / "merged"
    with pytest.raises(UserError, match=r"is not a run's folder of this version: .*config\.json"):
        export(model, to=out)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").touch()
    with pytest.raises(UserError, match=r"--to .*thesis\.tex and is no earlier export"):
        export(tiny, to=open_storage(str(tmp_path / "mine")))
    assert [p.name for p in (tmp_path / "mine").iterdir()] == ["thesis.tex"]


def test_an_arm_must_be_trained(copied) -> None:
    run = copied
    done = run / "finetune" / digest("finetune")
    done.remove("manifest.json")
    with pytest.raises(UserError, match="not trained yet; finish it with `delia finetune`"):
        export(run)
    run.write_json(CURRENT, {"ingest": digest("ingest")})
    with pytest.raises(UserError, match="not trained yet"):
        export(run)
    assert not run.exists("exports")


# --- the hub, at its edge -----------------------------------------------------------------


class Hub:
    """Stands in for ``HfApi``; remembers what it was asked."""

    public = False
    fails = False
    calls: list[tuple[str, Any]] = []  # noqa: RUF012

    def create_repo(self, repo: str, *, private: bool | None, exist_ok: bool) -> Any:
        assert exist_ok
        self.calls.append(("create", private))
        return SimpleNamespace(repo_id=f"me/{repo}")

    def model_info(self, repo: str) -> Any:
        return SimpleNamespace(private=not self.public)

    def upload_folder(self, *, repo_id: str, folder_path: Path, **_: Any) -> Any:
        if self.fails:
            raise OSError("the line is cut\nand more")
        files = {str(p.relative_to(folder_path)) for p in Path(folder_path).rglob("*")}
        self.calls.append((repo_id, files))
        return SimpleNamespace(repo_url=f"https://hub/{repo_id}")


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Hub]]:
    monkeypatch.setattr("huggingface_hub.HfApi", Hub)
    monkeypatch.setattr("huggingface_hub.get_token", lambda: "hf_secret")
    monkeypatch.setattr(Hub, "calls", [])
    yield Hub
    Hub.public = Hub.fails = False


def test_pushing_uploads_the_whole_folder(tiny, tmp_path, api, capsys) -> None:
    out = tmp_path / "out"
    command = ["export", tiny.path, "--to", str(out), "--merge", "--push", "tiny", "--private"]
    assert main(command) == 0
    (_, private), (repo, files) = api.calls
    assert private is True
    assert repo == "me/tiny"
    assert {"README.md", "adapter/adapter_model.safetensors", "merged/config.json"} <= files
    card = (out / "README.md").read_text()
    assert 'adapter = snapshot_download("me/tiny", allow_patterns="adapter/*") + "/adapter"' in card
    assert "hf download me/tiny --local-dir tiny-delia && cd tiny-delia" in card
    said = capsys.readouterr().out
    assert "https://hub/me/tiny" in said
    assert f"vllm serve {out}/merged --served-model-name tiny-delia" in said
    assert f"delia chat {out}" in said
    assert "hf_secret" not in said + card + (out / "manifest.json").read_text()


def test_pushing_can_be_refused(tiny, tmp_path, api, monkeypatch) -> None:
    out = open_storage(str(tmp_path / "out"))
    api.public = True
    with pytest.raises(UserError, match="exists and is public"):
        export(tiny, to=out, repo="tiny", private=True)
    monkeypatch.setattr("huggingface_hub.get_token", lambda: None)
    with pytest.raises(UserError, match="hf auth login"):
        export(tiny, to=out, repo="tiny")
    assert not out.exists()


def test_a_push_that_fails_leaves_the_export_whole(tiny, tmp_path, api) -> None:
    api.fails = True
    out = open_storage(str(tmp_path / "out"))
    with pytest.raises(DeliaError, match="the line is cut; the export is whole") as caught:
        export(tiny, to=out, repo="tiny")
    assert not isinstance(caught.value, UserError)
    assert out.manifest() is not None


def test_a_closed_hub_is_said(api, monkeypatch) -> None:
    def refuse(self: Hub, repo: str, **_: Any) -> None:
        raise OSError("403 Forbidden")

    monkeypatch.setattr(Hub, "create_repo", refuse)
    with pytest.raises(UserError, match="--push tiny: OSError: 403 Forbidden"):
        hub.create("tiny", False)


# --- delia chat -------------------------------------------------------------------------


def test_what_chat_finds(tiny, tmp_path) -> None:
    out = open_storage(str(tmp_path / "out"))
    export(tiny, to=out)
    for folder in (out, out / "adapter"):
        with pytest.raises(UserError, match="an adapter and no plain model"):
            model_in(folder)
    export(tiny, to=out, merged=True)
    assert model_in(out) == str(out / "merged")
    assert model_in(out / "merged") == str(out / "merged")
    assert model_in(tiny) is None, "a run is not one model"
    assert model_in(out / "nowhere") is None
    config = RunConfig.model_validate(tiny.read_json("config.json"))
    trained = tiny / "finetune" / digest("finetune")
    assert model_of(config, trained, "base") == config.model
    assert model_of(config, trained, "delia") == str(trained / "delia" / "merged")
    with pytest.raises(UserError, match="not trained yet"):
        model_of(config, None, "delia")
    with pytest.raises(UserError, match="--arm x: the run has base, common, delia"):
        model_of(config, trained, "x")


def test_chat_talks_to_an_export(tiny, tmp_path, monkeypatch, capsys) -> None:
    export(tiny, to=open_storage(str(tmp_path / "out")), merged=True)
    monkeypatch.setattr(sys, "stdin", io.StringIO("say <sep>\n"))
    assert main(["chat", str(tmp_path / "out"), "--max-tokens", "4"]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0] == f"{tmp_path}/out; /new for a new chat, Ctrl-D to leave"
    assert main(["chat", str(tmp_path / "out"), "--arm", "base"]) == 2
    assert "is one model; leave --arm out" in capsys.readouterr().err


# --- pieces -----------------------------------------------------------------------------


def test_words_in_markdown() -> None:
    assert code("<sep>") == "`<sep>`"
    assert code("a`b``c") == "``` a`b``c ```"
    assert reasons({}) == "0"
    assert reasons({"empty": 1200, "layout": 1}) == "1,201 (1,200 empty, 1 layout)"
