"""The configuration tree: composition, documentation, and errors that help."""

from pathlib import Path

import pytest

from delia_ray.config import BASELINES, Arm, RunConfig, describe, load_config
from delia_ray.errors import UserError

ROOT = Path(__file__).parent.parent
RECIPES = sorted((ROOT / "jobs" / "recipes").glob("*.yaml"))


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda p: p.name)
def test_every_recipe_loads(recipe: Path) -> None:
    assert isinstance(load_config([recipe]), RunConfig)


def test_there_are_recipes() -> None:
    names = {p.name for p in RECIPES}
    assert {"miniature.yaml", "paper.yaml", "baselines.yaml"} <= names


def test_the_packaged_demo_is_the_recipe() -> None:
    packaged = ROOT / "delia_ray" / "miniature" / "miniature.yaml"
    assert (ROOT / "jobs" / "recipes" / "miniature.yaml").resolve() == packaged.resolve()


def test_files_compose_and_overrides_come_last(tmp_path: Path) -> None:
    one, two = tmp_path / "one.yaml", tmp_path / "two.yaml"
    one.write_text("mix: {ratio: 67, max_length: 99}\nfinetune: {lr: 1e-3}\n")
    two.write_text("mix: {ratio: 135}\n")
    config = load_config([one, two], ["mix.max_length=100", "synthesize.engine.type=vllm"])
    assert (config.mix.ratio, config.mix.max_length) == (135, 100)
    assert config.finetune.lr == 1e-3
    assert config.synthesize.engine.type == "vllm"


def test_another_engine_does_not_inherit_keys(tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    file.write_text("synthesize: {engine: {type: vllm, max_model_len: 512}}\n")
    config = load_config([file], ["synthesize.engine.type=transformers"])
    assert config.synthesize.engine.model_dump() == {
        "type": "transformers", "replicas": 1, "batch_size": 64, "max_restarts": 3,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("mix.ratoi=520", r"^mix\.ratoi is not a setting \(did you mean mix\.ratio\?\)$"),
        ("modle=x", r"modle is not a setting \(did you mean model\?\)"),
        ("mix.ratio=-1", r"mix\.ratio=-1: .*greater than or equal to 0"),
        ("mix.ratio=many", r"mix\.ratio='many': .*valid number"),
        ("finetune.zero=4", r"finetune\.zero=4: .*1, 2 or 3"),
        ("name=a/b", r"name='a/b'"),
        ("evaluate.summary=[nope]", r"evaluate\.summary names \['nope'\]"),
        ("mix.ratio", r"neither a recipe file nor an override"),
        ("mix={", r"not valid YAML"),
        (
            "evaluate={suites: [{name: mean, path: plain, format: miniature}], summary: []}",
            r"'mean' is the summary's name",
        ),
        (
            "evaluate={suites: [{name: a, path: p, metrics: [{name: field_accuracy}]}]}",
            r"field_accuracy needs `field`",
        ),
        *(
            (f"evaluate={{suites: [{{name: a, path: p, metrics: [{metric}]}}]}}", message)
            for metric, message in (
                (
                    "{name: exact_match, field: a}",
                    r"exact_match takes no `field`; these do: field_accuracy, accuracy, f1",
                ),
                ("{name: chrf, tokenize: zh}", r"chrf takes no `tokenize`; these do: bleu"),
                ("{name: bleurt}", r"bleurt needs `checkpoint`"),
                ("{name: comet}", r"comet needs `checkpoint`"),
                ("{name: accuracy, pattern: '('}", r"`pattern` is no regular expression"),
                ("{name: accuracy, pattern: abc}", r"exactly one group, it has 0"),
                ("{name: f1, pattern: (a), field: b}", r"not both"),
                ("{name: f1, labels: [a, ' a']}", r"`labels` names a class twice"),
                ("{name: format_validity, form: regex}", r"form: regex`, .* needs `pattern`"),
                ("{name: format_validity, pattern: a}", r"form: regex`, .* needs `pattern`"),
                ("{name: format_validity, form: json_schema}", r"needs `json_schema`"),
                ("{name: length}", r"the first metric of a suite says how good"),
                ("{name: blue}", r"'exact_match', 'content_match'"),
            )
        ),
        ("arms.base={}", r"'base' is the untrained model's name"),
        ("arms=[base, delia]", r"'base' is the untrained model's name"),
        ("arms=[common, relpay]", r"^arms: 'relpay' is not one of .*did you mean replay\?\)$"),
        ("arms.mine=mixpu", r"^arms: 'mixpu' is not one of common, .*did you mean mixup\?\)$"),
        ("arms=[common, common]", r"arms: names must differ"),
        ("arms=[{mine: {}}]", r"arms: a list holds names, got {'mine': {}}"),
        ("arms=common", r"arms='common'"),
        ("arms.mine.answers=mine", r"arms\.mine\.answers='mine': .*'self_sampled' or 'reference'"),
        (
            "arms.mine={answers: reference, ratio: 0}",
            r"arms\.mine: answers=reference .* ratio=0 has none",
        ),
        ("synthesize.engine={type: vllm, batchsize: 2}", r"did you mean synthesize\.engine\.batch"),
    ],
)
def test_mistakes_are_named(override: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        load_config([], [override])


def test_arms_by_name(tmp_path: Path) -> None:
    names = load_config([], ["arms=[common, replay, delia]"])
    assert names.arms == {
        "common": Arm(ratio=0, reworded=False),
        "replay": Arm(reworded=False, answers="reference"),
        "delia": Arm(),
    }
    assert list(names.arms) == ["common", "replay", "delia"]
    assert names.uses_reference()
    assert not load_config([], ["arms=[common, replay]", "mix.ratio=0"]).uses_reference()
    assert not load_config().uses_reference()
    assert RunConfig.model_validate({"arms": list(BASELINES)}).arms == BASELINES
    file = tmp_path / "a.yaml"
    file.write_text("arms: {common: common, mine: replay, other: {ratio: 3}}\n")
    config = load_config([file], ["arms.mine.ratio=2", "arms.third=whole_chat"])
    assert config.arms == {
        "common": BASELINES["common"],
        "mine": Arm(ratio=2, reworded=False, answers="reference"),
        "other": Arm(ratio=3),
        "third": BASELINES["whole_chat"],
    }
    # A list replaces what stood there, as lists do everywhere.
    assert list(load_config([file], ["arms=[delia]"]).arms) == ["delia"]
    assert list(load_config([file], ["arms=[delia]", "arms.delia.ratio=2"]).arms) == ["delia"]


def test_references_need_a_corpus_whose_queries_are_asked() -> None:
    with pytest.raises(UserError, match=r"arms\.replay: .*magpie invents its own"):
        load_config([], ["arms=[replay]", "synthesize.method=magpie"])


def test_missing_and_broken_recipes(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"cannot read the recipe .*nowhere\.yaml"):
        load_config([tmp_path / "nowhere.yaml"])
    bad = tmp_path / "bad.yaml"
    bad.write_text("a: [1\n")
    with pytest.raises(UserError, match="not valid YAML"):
        load_config([bad])
    bad.write_text("- 1\n")
    with pytest.raises(UserError, match="must hold settings"):
        load_config([bad])


def test_every_setting_is_documented() -> None:
    undocumented = [key for key, _, text in describe(RunConfig()) if not text]
    assert not undocumented


def test_the_tree_survives_a_round_trip() -> None:
    config = load_config([ROOT / "jobs" / "recipes" / "miniature.yaml"])
    assert RunConfig.model_validate(config.model_dump(mode="json")) == config
