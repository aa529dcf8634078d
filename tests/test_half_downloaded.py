"""A model of which a part is here says what is missing; a page's prefix is the mix's."""

import json
from fractions import Fraction
from pathlib import Path

import pytest

from delia_ray.config import RunConfig
from delia_ray.errors import UserError
from delia_ray.mix.order import Windows, needed, phases
from delia_ray.models import locate
from delia_ray.report.pool import prefixes

SHARDS = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]


@pytest.mark.parametrize(
    ("there", "said"),
    [
        ([], "lacks weights: all"),
        (["model.safetensors.index.json"], r"lacks weights: 2 of 2 files \(model-00001"),
        (["model.safetensors.index.json", SHARDS[0]], r"lacks weights: 1 of 2 files \(model-00002"),
        (["pytorch_model.bin"], "Weights in pickles"),
    ],
)
def test_a_half_downloaded_model_says_what_is_missing(
    tmp_path: Path, there: list[str], said: str
) -> None:
    (tmp_path / "config.json").write_text("{}")
    for name in there:
        index = json.dumps({"weight_map": {"a": SHARDS[0], "b": SHARDS[1]}})
        (tmp_path / name).write_text(index if name.endswith(".json") else "")
    with pytest.raises(UserError, match=said) as told:
        locate(str(tmp_path))
    assert ("hf download" in str(told.value)) == ("pickles" not in str(told.value))


@pytest.mark.parametrize(("ratio", "rows"), [(0.5, 5), (0.1, 30), (1.5, 7), (0.3, 11), (2, 4)])
def test_the_page_shows_the_prefix_that_the_mix_takes(ratio: float, rows: int) -> None:
    config = RunConfig.model_validate({"mix": {"ratio": ratio}, "arms": ["delia"]})
    taken = needed(Windows(0, phases(ratio, [], 1)), rows)
    assert taken == -(-Fraction(str(ratio)) * rows // 1)
    assert list(prefixes(config, rows, 1000).values()) == [taken, 1000]
