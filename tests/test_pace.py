"""Rates of now, and estimates only where they mean something; on a clock that stands still."""

from delia_ray.pace import SETTLED, WINDOW, Pace


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def _paced(rate, seconds: int, warm: float = 0, units: float = 10, start: float = 0) -> Pace:
    """Looked at once a second; ``rate`` is things per second, a number or a function."""
    clock = Clock()
    pace = Pace(warm, clock)
    done = start
    pace.see(done, done * units)
    for second in range(seconds):
        clock.now += 1
        done += rate(second) if callable(rate) else rate
        pace.see(done, done * units)
    return pace


def test_a_steady_rate_is_told_and_foretold() -> None:
    pace = _paced(4, 100)
    assert pace.rates() == (4.0, 40.0)
    assert pace.left(600, 1000) == 150.0


def test_nothing_done_is_no_rate() -> None:
    pace = _paced(0, 300)
    assert not pace.started
    assert pace.rates() == (0.0, 0.0)
    assert pace.left(10, 10) is None


def test_no_estimate_from_the_first_seconds() -> None:
    assert _paced(4, int(SETTLED)).left(600, 1000) is None
    assert _paced(4, int(SETTLED) + 1).left(600, 1000) == 150.0


def test_no_estimate_before_as_many_are_done_as_are_worked_on() -> None:
    """The first answers of an engine with 256 places are the shortest of 256."""
    assert _paced(4, 60, warm=256).left(600, 1000) is None
    assert _paced(4, 64, warm=256).left(600, 1000) == 150.0


def test_half_of_all_is_enough_where_all_fit_at_once() -> None:
    assert _paced(4, 24, warm=256).left(100, 200) is None
    assert _paced(4, 26, warm=256).left(96, 200) == 24.0


def test_a_rate_that_falls_is_not_continued() -> None:
    pace = _paced(lambda s: 40 if s < 40 else 0.1, 60)
    assert pace.rates()[0] > 20
    assert pace.left(600, 3000) is None


def test_a_rate_that_rises_is_not_continued() -> None:
    assert _paced(lambda s: 0.1 if s < 50 else 100, 60).left(600, 3000) is None


def test_what_was_long_ago_no_longer_counts() -> None:
    pace = _paced(lambda s: 100 if s < 60 else 2, 60 + 2 * int(WINDOW))
    assert pace.rates() == (2.0, 20.0)
    assert pace.left(20, 10_000) == 10.0


def test_a_stall_lowers_the_rate_though_nothing_is_seen() -> None:
    pace = _paced(4, 60)
    pace.clock.now += 60
    assert pace.rates()[0] == 2.0
    assert pace.left(600, 1000) is None


def test_a_resumed_count_is_measured_from_where_it_began() -> None:
    pace = _paced(4, 100, start=5000)
    assert pace.rates() == (4.0, 40.0)
    assert pace.left(600, 6000) == 150.0


def test_a_count_that_falls_begins_anew() -> None:
    pace = _paced(4, 100)
    pace.see(0, 0)
    assert not pace.started
    assert pace.left(600, 1000) is None


def test_little_is_kept() -> None:
    assert len(_paced(4, 5000).points) <= WINDOW + 2
