"""What a user sees when something is wrong: one clear paragraph and the right exit code."""

import json
import os
import shutil
import subprocess
import sys
import traceback
from pathlib import Path

import pytest

from delia_ray.reasons import reason

ENV = {**os.environ, "HF_HUB_OFFLINE": "1", "RAY_ADDRESS": ""}


def delia(
    *arguments: str, cwd: Path, timeout: float = 120, stdin: str = ""
) -> subprocess.CompletedProcess[str]:
    """Run the command as users do; no terminal."""
    return subprocess.run(
        [sys.executable, "-m", "delia_ray.cli", *arguments], cwd=cwd, capture_output=True,
        text=True, timeout=timeout, input=stdin, env=ENV,
    )  # fmt: skip


def rows(path: Path, count: int) -> Path:
    turns = [
        {"messages": [{"role": "user", "content": f"q{i}"}, {"role": "assistant", "content": "a"}]}
        for i in range(count)
    ]
    path.write_text("".join(json.dumps(t) + "\n" for t in turns))
    return path


BAD = {
    "unknown key": (["mix.ratoi=3"], r"mix.ratoi is not a setting (did you mean mix.ratio?)"),
    "missing recipe": (["nowhere.yaml"], "cannot read the recipe nowhere.yaml"),
    "missing downstream": (
        ["downstream={path: nowhere.jsonl}"],
        "nowhere.jsonl",
    ),
    "missing corpus": (["corpus=[{path: nowhere/*.json}]"], "nowhere/*.json"),
    "empty downstream": (["downstream={path: empty.jsonl}"], "empty.jsonl"),
    "missing model": (["model=./nowhere"], "model=./nowhere: no such folder"),
    "not a model": (["model=./folder"], "has no config.json"),
    "no chat template": (["model=./mute"], "has no chat template"),
    "unknown part of the world": (["corpus=[{path: x, format: miniature, rows: 3}]"], "corpus"),
    "too many workers": (["finetune.workers=99"], "finetune.workers=99"),
}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, make_model) -> Path:
    folder = tmp_path_factory.mktemp("cli")
    (folder / "empty.jsonl").touch()
    (folder / "folder").mkdir()
    mute = make_model(folder / "mute")
    for file in mute.glob("chat_template*"):
        file.unlink()
    return folder


@pytest.mark.parametrize("case", BAD)
def test_bad_input_ends_at_once(case: str, place: Path) -> None:
    overrides, message = BAD[case]
    done = delia("run", *overrides, "name=bad", cwd=place)
    assert done.returncode == 2, done.stderr
    assert message in done.stderr
    assert done.stderr.startswith("error: ")
    assert "Traceback" not in done.stderr + done.stdout
    assert not list(place.glob("runs/**/manifest.json")), "nothing may look finished"


@pytest.mark.ray
def test_a_ratio_larger_than_the_pool(tmp_path: Path) -> None:
    rows(tmp_path / "down.jsonl", 5)
    rows(tmp_path / "pool.jsonl", 12)
    done = delia(
        "run", "downstream={path: down.jsonl, format: auto, rows: null, special_tokens: {}}",
        "corpus=[{path: pool.jsonl}]", "mix.ratio=3", cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 2
    assert "mix.ratio=3 needs 15 diverse queries for 5 downstream rows" in done.stderr
    assert "the corpus has 12" in done.stderr
    assert "lower the ratio to 2" in done.stderr
    assert [p.parts[-3] for p in tmp_path.glob("runs/**/manifest.json")] == ["ingest"]


def test_show_prints_every_setting_with_its_meaning(tmp_path: Path) -> None:
    done = delia("show", "mix.ratio=67", cwd=tmp_path)
    assert done.returncode == 0
    assert "mix.ratio = 67" in done.stdout
    assert "Diverse rows for each downstream row" in done.stdout
    assert not list(tmp_path.iterdir()), "showing leaves nothing behind"


def test_help_and_version(tmp_path: Path) -> None:
    assert "self-sample" in delia("--help", cwd=tmp_path).stdout
    assert delia("--version", cwd=tmp_path).stdout.startswith("delia-ray ")
    assert delia("frobnicate", cwd=tmp_path).returncode == 2


def test_a_folder_that_is_no_run(tmp_path: Path) -> None:
    for verb in ("report", "chat", "export"):
        done = delia(verb, str(tmp_path), cwd=tmp_path)
        assert (done.returncode, "Traceback" in done.stderr) == (2, False)
        assert "is not a run's folder" in done.stderr


def test_an_error_of_a_worker_is_said_by_its_first_cause() -> None:
    """Ray's text of it ends with advice on retries."""
    text = (
        "ray::MapBatches(_read)() (pid=7, ip=10.0.0.2)\n"
        '  File "engines/vllm.py", line 193, in _render\n'
        "FileNotFoundError: [Errno 2] No such file or directory\n\n"
        "The above exception was the direct cause of the following exception:\n\n"
        "ray.exceptions.UserCodeException: UDF failed to process a data block.\n"
        "To change retry attempts, configure the context."
    )
    assert reason(RuntimeError(text)) == "FileNotFoundError: [Errno 2] No such file or directory"
    assert reason(ValueError("one\ntwo")) == "ValueError: one two"
    assert reason(KeyError()) == "KeyError: "


SAID = {
    "a heading, and what follows": (
        ValueError("GenerationConfig is invalid: \n- `temperature`: `do_sample` is set to `False`. "
                   "However, `temperature` is set to `0.5`, which is for samples only.\nMore."),
        "`temperature` is set to `0.5`, which is for samples only.",
    ),
    "brackets over several lines": (
        ValueError("Target module Clippable(\n  (linear): Linear(in_features=64. bias=False)\n) is "
                   "not supported. Currently, only the following modules are: `Linear`."),
        "Clippable( (linear): Linear(in_features=64. bias=False) ) is not supported.",
    ),
    "a list of two": (
        ValueError("Set to http://127.0.0.1:8265, which is a job address.\n  1. Unset\n  2. Set."),
        "ValueError: Set to http://127.0.0.1:8265, which is a job address.",
    ),
    "of a worker, in several lines": (
        RuntimeError('ray::f() (pid=1)\n  File "a.py", line 3, in f\n    raise x\n'
                     "RuntimeError: Error(s) in loading state_dict for Llama:\n\tsize mismatch for "
                     "model.embed: the shape is torch.Size([33, 4])."),
        "RuntimeError: Error(s) in loading state_dict for Llama: size mismatch for model.embed: "
        "the shape is torch.Size([33, 4]).",
    ),
    "endless": (RuntimeError("x" * 5000), "RuntimeError: xxx"),
}  # fmt: skip


@pytest.mark.parametrize("case", SAID)
def test_of_an_error_in_several_lines_the_telling_part_is_shown(case: str) -> None:
    error, part = SAID[case]
    said = reason(error)
    assert part in said
    assert "\n" not in said
    assert len(said) < 700


@pytest.mark.parametrize("storage", ["file", "file/below", "file/a/b"])
def test_storage_below_a_file(storage: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    done = delia("ingest", f"storage={storage}", "name=x", cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith("error: storage: cannot write ")
    assert "Not a directory" in done.stderr
    assert "Traceback" not in done.stderr


MOUNTS = {
    "read-only": ("mount --bind s s; mount -o remount,bind,ro s s", 2, "Read-only file system"),
    "full": ("mount -t tmpfs -o size=4k t s; head -c 9999 /dev/zero > s/z", 1, "no space is left"),
}


@pytest.mark.parametrize("case", MOUNTS)
def test_a_disk_that_refuses_or_is_full(case: str, tmp_path: Path) -> None:
    """In a mount namespace of its own. The log lies on the same disk, and must not matter."""
    mount, code, message = MOUNTS[case]
    (tmp_path / "s").mkdir()
    own = ["unshare", "--mount", "bash", "-c"]
    if shutil.which("unshare") is None or subprocess.run([*own, "true"]).returncode:
        pytest.skip("no namespaces of one's own here")
    command = f"{sys.executable} -m delia_ray.cli ingest storage=s/runs name=x model=./none"
    done = subprocess.run(
        [*own, f"mount --make-rprivate /; {mount} 2>/dev/null; {command}"], cwd=tmp_path, env=ENV,
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert "Traceback" not in done.stderr + done.stdout
    assert done.returncode == code, done.stderr
    assert message in done.stderr


def test_chatter_never_fails(capfd: pytest.CaptureFixture[str]) -> None:
    """/dev/full is always full; an error that is told there must not become another."""
    from delia_ray.console import chatter_to

    with chatter_to(Path("/dev/full")) as screen:
        print("lost" * 10_000, flush=True)
        try:
            raise ValueError("mine")
        except ValueError:
            traceback.print_exc()
        os.system("echo lost too")
        screen.line("seen")
    print("after")
    out, err = capfd.readouterr()
    assert (out, err) == ("seen\nafter\n", "")
