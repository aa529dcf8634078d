"""What a training says of itself while it starts and runs; on a clock that stands still."""

from delia_ray.artifacts import Folder
from delia_ray.finetune.progress import PROGRESS, Story, told


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def _point(arm: str, step: int, tokens: float, steps: int = 100) -> dict:
    return {"arm": arm, "step": step, "steps": steps, "loss": 1.5, "tokens": 50.0,
            "seconds": 0.5, "tokens_so_far": tokens}  # fmt: skip


def _story(clock: Clock) -> Story:
    return Story({"common": 100, "delia": 100}, clock)


def test_each_part_of_the_start_has_its_words() -> None:
    story = _story(Clock())
    said = [story.beginning(*seen) for seen in ((False, False), (True, False), (True, True))]
    assert said == ["starting workers", "loading the model", "first step: the slowest"]


def test_rates_and_an_estimate_after_a_while() -> None:
    clock = Clock()
    story = _story(clock)
    assert story.tell(_point("common", 1, 50)) == (0.005, "common: step 1/100, loss 1.500")
    for step in range(2, 41):
        clock.now += 1
        done, said = story.tell(_point("common", step, 50 * step))
        assert ("left" in said) == (step > 21)
    assert done == 0.2
    assert said == "common: step 40/100, loss 1.500, 50 tok/s, about 2:40 left"


def test_the_second_arm_goes_on_where_the_first_ended() -> None:
    clock = Clock()
    story = _story(clock)
    for number in range(1, 151):
        clock.now += 1
        arm, step = ("common", number) if number <= 100 else ("delia", number - 100)
        done, said = story.tell(_point(arm, step, 50 * step))
    assert done == 0.75
    assert said == "delia: step 50/100, loss 1.500, 50 tok/s, about 0:50 left"


def test_a_training_that_goes_on_at_a_checkpoint_is_no_jump() -> None:
    clock = Clock()
    story = _story(clock)
    story.tell(_point("common", 80, 50))
    clock.now += 30
    assert story.tell(_point("common", 83, 200))[1] == "common: step 83/100, loss 1.500, 5 tok/s"


def test_a_crash_that_goes_back_begins_anew() -> None:
    clock = Clock()
    story = _story(clock)
    for step in range(1, 60):
        clock.now += 1
        story.tell(_point("common", step, 50 * step))
    clock.now += 1
    assert "left" not in story.tell(_point("common", 20, 50))[1]


def test_what_is_no_progress_is_passed_over(tmp_path) -> None:
    folder = Folder(str(tmp_path))
    assert told(folder) is None
    folder.write_json(PROGRESS, {"arm": "delia"})
    assert told(folder) is None
    folder.write_json(PROGRESS, _point("delia", 3, 150.0))
    assert (told(folder) or {})["step"] == 3
