import json

import pytest

from delia_ray.errors import UserError
from delia_ray.ingest.stage import settings as stage_settings

from .helpers import QUERIES, config_of, jsonl, write


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"downstream": {"path": "nowhere", "format": "auto"}}, r"^downstream\.path=nowhere: no"),
        ({"corpus": [{"path": "nowhere"}]}, r"^corpus\[0\]\.path=nowhere: no such file"),
        ({"evaluate": {"suites": [{"name": "s", "path": "no/*"}], "summary": []}},
         r"^evaluate\.suites\[s\]\.path=no/\*: no file matches"),
        ({"downstream": {"path": "downstraem", "format": "miniature"}},
         r"downstream\.path=downstraem: no part of the miniature world; it has downstream, corpus"),
        ({"corpus": [{"path": "corpus", "format": "miniature"}]}, r"^corpus\[0\]\.rows: say how"),
        ({"corpus": [{"path": "x", "columns": {"promt": "q"}}]},
         r"^corpus\[0\]\.columns: no layout reads promt"),
        ({"corpus": [{"path": "x", "format": "ifeval"}]},
         r"^corpus\[0\]\.format=ifeval: its rows have constraints and no answers"),
    ],
)  # fmt: skip
def test_wrong_settings_fail_before_anything_starts(change, message):
    with pytest.raises(UserError, match=message):
        stage_settings(config_of(change))


def test_settings_follow_what_the_result_depends_on(base, tmp_path):
    def made(**change):
        return json.dumps(stage_settings(config_of({**base, **change})), sort_keys=True)

    before = made()
    assert made() == before
    assert made(seed=1) != before
    assert made(mix={"ratio": 1}) == before
    assert made(downstream={**base["downstream"], "special_tokens": {"<a>": "b"}}) == before
    assert made(downstream={**base["downstream"], "weight": 3}) == before
    assert made(corpus=[{**base["corpus"][0], "weight": 3}, base["corpus"][1]]) != before
    assert made(downstream={**base["downstream"], "rows": 2}) != before
    write(tmp_path, "in/c/two.jsonl.gz", jsonl(QUERIES), "gz")
    assert made() != before
