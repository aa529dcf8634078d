"""Recipes as people write them: what does not mean what it says is an error with its line."""

from pathlib import Path

import pytest

from delia_ray.config import load_config, parted
from delia_ray.errors import UserError


def said(tmp_path: Path, text: str | bytes, *overrides: str) -> str:
    """The error that a recipe ends with."""
    file = tmp_path / "r.yaml"
    file.write_bytes(text.encode() if isinstance(text, str) else text)
    with pytest.raises(UserError) as raised:
        load_config([file], overrides)
    return str(raised.value)


TWICE = {
    "blocks": ("name: a\nmix: {ratio: 3}\nseed: 4\nmix: {max_length: 99}\n", "mix", 4, 2),
    "nested": ("finetune:\n  lr: 1\n  zero: 2\n  lr: 2\n", "lr", 4, 2),
    "in a list": ("corpus:\n  - path: a\n    rows: 3\n    path: b\n", "path", 4, 2),
    "in one line": ("mix: {ratio: 3, ratio: 4}\n", "ratio", 1, 1),
    "JSON": ('{"name": "a",\n "seed": 1,\n "name": "b"}\n', "name", 3, 1),
    "quoted and not": ("name: a\n'name': b\n", "name", 2, 1),
    "of an anchor": ("finetune: &f\n  lr: 1\n  lr: 2\nmix: {ratio: 1}\n", "lr", 3, 2),
    "merged twice": ("a: &a {x: 1}\nb:\n  <<: *a\n  <<: *a\n", "<<", 4, 3),
}  # fmt: skip


@pytest.mark.parametrize("case", TWICE)
def test_a_key_twice_is_an_error_with_both_lines(case: str, tmp_path: Path) -> None:
    text, key, second, first = TWICE[case]
    message = said(tmp_path, text)
    assert f"line {second}: {key} stands there for the second time, after line {first}" in message
    assert "r.yaml" in message


def test_a_key_twice_in_an_override(tmp_path: Path) -> None:
    assert "lr stands there for the second time" in said(
        tmp_path, "name: a", "finetune={lr: 1, lr: 2}"
    )


def test_what_a_mapping_takes_over_it_may_overwrite(tmp_path: Path) -> None:
    file = tmp_path / "r.yaml"
    file.write_text(
        "synthesize:\n  sampling: &s {temperature: 0.5, max_tokens: 7}\n"
        "  reword:\n    sampling: &w\n      <<: *s\n      max_tokens: 9\n"
        "finetune: {deepspeed: {one: {<<: *w, max_tokens: 11}, two: {<<: [*w, *s]}}}\n"
    )
    config = load_config([file])
    assert config.synthesize.sampling.max_tokens == 7
    assert config.synthesize.reword.sampling.max_tokens == 9
    assert config.synthesize.reword.sampling.temperature == 0.5
    one, two = config.finetune.deepspeed["one"], config.finetune.deepspeed["two"]
    assert (one["max_tokens"], two["max_tokens"], two["temperature"]) == (11, 9, 0.5)


@pytest.mark.parametrize(
    ("word", "value"),
    [("1e-1", 0.1), ("1E3", 1000.0), ("-2e+5", -2e5), (".5", 0.5), ("5.", 5.0), ("1_000", 1000),
     ("0x1F", 31), (".inf", float("inf")), ("12:30", "12:30"), ("007", "007"), ("1e", "1e"),
     ("e5", "e5"), ('"1e-1"', "1e-1"), ("12e3a", "12e3a")],
)  # fmt: skip
@pytest.mark.parametrize("where", ["finetune.deepspeed", "synthesize.engine.kwargs"])
def test_numbers_below_free_settings(where: str, word: str, value: object, tmp_path: Path) -> None:
    """As in a typed setting, where pydantic reads them."""
    file = tmp_path / "r.yaml"
    outer, *inner = where.split(".")
    nested = f"{{{inner[0]}: {{type: vllm, {inner[1]}: {{x: {word}}}}}}}" if len(inner) > 1 else (
        f"{{{inner[0]}: {{x: {word}}}}}"
    )  # fmt: skip
    file.write_text(f"{outer}: {nested}\n")
    kwargs = {"finetune.deepspeed": lambda c: c.finetune.deepspeed}.get(
        where, lambda c: c.synthesize.engine.kwargs
    )
    found = kwargs(load_config([file]))["x"]
    assert found == value
    assert type(found) is type(value)
    override = [] if where == "finetune.deepspeed" else ["synthesize.engine.type=vllm"]
    assert kwargs(load_config([], [*override, f"{where}={{x: {word}}}"]))["x"] == value


def test_a_text_that_yaml_takes_for_something_else_must_be_quoted(tmp_path: Path) -> None:
    task = "downstream: {path: a.tsv, format: parallel, parallel: {source: en, target: no}}"
    message = said(tmp_path, f"name: a\n{task}\n")
    assert "downstream.parallel.target=False" in message
    assert 'r.yaml, line 2, no must be quoted: "no"; without quotes it means false' in message
    assert 'yes must be quoted: "yes"' in said(tmp_path, "downstream: {special_tokens: {<a>: yes}}")
    assert 'on must be quoted: "on"; without quotes it means true' in said(tmp_path, "model: on")
    assert "2026-12-01 must be quoted" in said(tmp_path, "name: 2026-12-01")
    assert "1e3 must be quoted: name='\"1e3\"'; without quotes it means a number" in said(
        tmp_path, "model: x", "name=1e3"
    )
    assert 'line 2: the key on must be quoted: "on"' in said(tmp_path, "model: x\non: 3\n")
    quoted = tmp_path / "quoted.yaml"
    quoted.write_text(task.replace("target: no", 'target: "no"'))
    assert load_config([quoted]).downstream.parallel.target == "no"
    assert load_config([], ["evaluate.base=no"]).evaluate.base is False, "where it is meant so"


TEXT = 'model: "café"\n'


@pytest.mark.parametrize(
    "data",
    [TEXT.encode(), TEXT.encode("utf-8-sig"), TEXT.encode("utf-16"),
     b"\xfe\xff" + TEXT.encode("utf-16-be"), TEXT.replace("\n", "\r\n").encode()],
    ids=["utf-8", "utf-8 with BOM", "utf-16 LE", "utf-16 BE", "CRLF"],
)  # fmt: skip
def test_encodings_that_say_what_they_are_are_read(data: bytes, tmp_path: Path) -> None:
    file = tmp_path / "r.yaml"
    file.write_bytes(data)
    assert load_config([file]).model == "café"


BAD = {
    "Latin-1": (b'name: "caf\xe9"\n', "not in UTF-8: byte 11 is 0xe9; save it as UTF-8"),
    "UTF-16 without BOM": (TEXT.encode("utf-16-le"), "it holds zero bytes; save it as UTF-8"),
    "control character": (b"name: a\x07\n", "is 0x07, a character that YAML does not allow"),
    "empty": (b"", "holds no settings"),
    "comments": (b"# only\n", "holds no settings"),
    "list": (b"- a\n", "must hold settings as `key: value`, got a list"),
    "word": (b"hello\n", "must hold settings as `key: value`, got a str"),
    "tabs": (b"mix:\n\tratio: 3\n", "line 2, column 1: found character '\\t'"),
    "two documents": (b"name: a\n---\nname: b\n", "a second document begins"),
    "deep": (b"a: " + b"[" * 2000, "nested too deeply"),
    "object": (b"a: !!python/object/apply:os.getpid []\n", "could not determine a constructor"),
    "no space": (b"finetune: {xyz:1}\n", "a space is missing after the colon"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_what_is_no_recipe_is_said_in_one_paragraph(case: str, tmp_path: Path) -> None:
    data, message = BAD[case]
    assert message in said(tmp_path, data)


def test_a_folder_is_no_recipe(tmp_path: Path) -> None:
    (tmp_path / "d.yaml").mkdir()
    with pytest.raises(UserError, match=r"cannot read the recipe .*d\.yaml: Is a directory"):
        load_config([tmp_path / "d.yaml"])
    with pytest.raises(UserError, match="is a folder; name a recipe in it"):
        load_config([], [str(tmp_path)])


def test_recipes_go_by_any_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("lr=1/r.yaml", "a=b.yaml", "R.YAML", "r.Yml", "plain", "x=1/y=2/r.yml"):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_text("name: x\n")
        assert parted([name]) == ([name], []), name
        assert load_config(*parted([name])).name == "x"
    assert parted(["runs/lr=2/missing.yaml"])[0], "a file that is not there, and no setting"
    for setting in ("downstream.path=data.yaml", "storage=runs/a.yaml", "mix.ratio=3",
                    "downstream.special_tokens.</s>=x"):  # fmt: skip
        assert parted([setting]) == ([], [setting])


def test_an_override_may_be_longer_than_the_name_of_a_file() -> None:
    override = "downstream.special_tokens={" + ", ".join(f"<t{i}>: word" for i in range(200)) + "}"
    assert parted([override]) == ([], [override])


def test_an_empty_mapping_takes_those_of_a_recipe_away(tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_text('downstream: {path: x.jsonl, special_tokens: {"<a>": json}}\n')
    config = load_config([tmp_path / "r.yaml"], ["downstream.special_tokens={}"])
    assert config.downstream.special_tokens == {}
