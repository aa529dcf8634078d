"""Every character of a log once, whatever becomes of the connection."""

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from delia_ray.errors import DeliaError
from delia_ray.submit.follow import ConnectionLost, State, exit_code, follow

DONE = State("SUCCEEDED", 0, "")


class Shaky:
    """A cluster whose connections break as planned; the job ends after the last one."""

    def __init__(self, log: str, breaks: list[int | None], sizes: int = 3) -> None:
        self.text, self.breaks, self.size = log, list(breaks), sizes

    def tail(self, job: str) -> Iterator[str]:
        """The log in pieces, up to a break; a break of None is a refused connection."""
        at = self.breaks.pop(0) if self.breaks else len(self.text)
        if at is None:
            raise ConnectionLost("refused")
        for start in range(0, min(at, len(self.text)), self.size):
            yield self.text[start : min(start + self.size, at)]
        if at < len(self.text):
            raise ConnectionLost("reset")

    def state(self, job: str) -> State:
        return State("RUNNING", None, "") if self.breaks else DONE

    def log(self, job: str) -> str:
        return self.text


@given(
    log=st.text(max_size=60),
    breaks=st.lists(st.one_of(st.none(), st.integers(0, 60)), max_size=6),
    size=st.integers(1, 9),
)
def test_every_character_once(log: str, breaks: list[int | None], size: int) -> None:
    said: list[str] = []
    state = follow(Shaky(log, breaks, size), "j", said.append, lambda _: None, pause=lambda _: None)
    assert "".join(said) == log
    assert state == DONE


def test_a_lost_connection_is_told_of_once() -> None:
    told: list[str] = []
    follow(Shaky("abc", [None, None, None]), "j", lambda _: None, told.append, pause=lambda _: None)
    assert told == ["connection lost (refused); the job goes on, trying again"]


def test_it_gives_up_in_the_end_and_says_how_to_go_on() -> None:
    waited: list[float] = []
    with pytest.raises(DeliaError, match=r"no connection for .* `delia submit --follow j`"):
        follow(
            Shaky("abc", [None] * 99), "j", lambda _: None, lambda _: None,
            patience=100, pause=waited.append,
        )  # fmt: skip
    assert 100 <= sum(waited) < 160
    assert max(waited) <= 30


@pytest.mark.parametrize(
    ("state", "code"),
    [
        (DONE, 0),
        (State("FAILED", 2, ""), 2),
        (State("FAILED", None, "no such image"), 1),
        (State("FAILED", -9, "killed"), 1),
        (State("STOPPED", None, ""), 130),
    ],
)
def test_the_exit_code_is_the_jobs(state: State, code: int) -> None:
    assert exit_code(state) == code
