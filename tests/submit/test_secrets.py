"""Secrets go by name, and tokens are asked for before anything else."""

from pathlib import Path

import pytest

from delia_ray.errors import UserError
from delia_ray.submit.secrets import use_token, values_of


def test_values_by_name() -> None:
    assert values_of(["A", "B"], {"A": "1", "B": "2", "C": "3"}) == {"A": "1", "B": "2"}
    assert values_of([], {"A": "1"}) == {}


def test_a_missing_or_misused_name_is_refused_without_its_value() -> None:
    with pytest.raises(UserError, match=r"--secret B: there is no such variable"):
        values_of(["A", "B"], {"A": "planted"})
    with pytest.raises(UserError, match=r"takes the name") as caught:
        values_of(["HF_TOKEN=planted"], {})
    assert "planted" not in str(caught.value)


def test_a_token_is_needed_unless_turned_off(tmp_path: Path) -> None:
    nowhere = {"RAY_AUTH_TOKEN_PATH": str(tmp_path / "none")}
    with pytest.raises(UserError, match=r"there is no token .* get-auth-token"):
        use_token(nowhere)
    use_token({**nowhere, "RAY_AUTH_MODE": "disabled"})
    use_token({**nowhere, "RAY_AUTH_TOKEN": "t"})
    (tmp_path / "none").write_text("t")
    use_token(nowhere)
