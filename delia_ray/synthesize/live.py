"""Numbers while it runs: how fast, how much is queued, how long it will take."""

import time
from dataclasses import dataclass, field

from delia_ray.pace import Pace, span


@dataclass
class Live:
    """Counts of one stage run; times in seconds, rates since the first engine was ready."""

    gpus: int = 0
    """GPUs of all engines together; 0 where there are none."""
    wanted: int = 0
    """Distinct requests, cached ones among them."""
    cached: int = 0
    """Of these, found in the cache."""
    asked: int = 0
    """Handed to the engines; what is asked again after a death counts again."""
    rows: int = 0
    """Came back from the engines."""
    failed: int = 0
    """Of these, with an error."""
    prompt_tokens: int = 0
    tokens: int = 0
    """Generated ones."""
    starts: int = 0
    """Times that engines were started; each costs their loading time."""
    deaths: int = 0
    """Passes that ended with a lost engine, actor or node and were taken up again."""
    queued: int = 0
    """With the engines now, or on the way to them."""
    began: float | None = None
    """When the first request reached an engine; ``time.monotonic``."""
    ended: float = 0.0
    phase: str = ""
    """What happens while no answer is there."""
    pace: Pace = field(default_factory=Pace)
    """Of requests and generated tokens, since the engines started."""
    base: tuple[int, int] = (0, 0)
    """``rows`` and ``tokens`` when they did."""
    timeline: list[tuple[float, int, int]] = field(default_factory=list)
    """(seconds, rows, generated tokens) of every batch that came back."""

    def batch(self, rows: int, failed: int, prompt: int, tokens: int, latency: float) -> None:
        """A batch came back whose slowest request took ``latency`` seconds."""
        now = time.monotonic()
        if self.began is None:
            self.began = now - latency
        self.ended = now
        self.rows += rows
        self.failed += failed
        self.prompt_tokens += prompt
        self.tokens += tokens
        self.heard(self.rows - self.base[0], self.tokens - self.base[1])
        self.timeline.append((round(now - self.began, 2), self.rows, self.tokens))

    @property
    def seconds(self) -> float:
        """Of generating, without the start of the engines."""
        return self.ended - self.began if self.began is not None else 0.0

    @property
    def rate(self) -> float:
        """Generated tokens per second."""
        return self.tokens / self.seconds if self.seconds > 0 else 0.0

    @property
    def row_rate(self) -> float:
        """Prompts per second."""
        return self.rows / self.seconds if self.seconds > 0 else 0.0

    def remaining(self, rows: int) -> float | None:
        """Seconds that ``rows`` more will take; None while nobody knows."""
        return rows / self.row_rate if self.row_rate else None

    def gpu_hours(self, seconds: float) -> float:
        return seconds * self.gpus / 3600

    def start(self, at_once: int) -> None:
        """Engines start that work on so many requests at once."""
        self.starts += 1
        self.phase = "the engine starts"
        self.base = self.rows, self.tokens
        self.pace = Pace(at_once)

    def heard(self, rows: int, tokens: int) -> None:
        """What the engines have finished since they started, also inside batches that are not
        back yet."""
        self.phase = "the engine is up, waiting for its first answers"
        ahead = max(self.rows, self.base[0] + rows), max(self.tokens, self.base[1] + tokens)
        self.pace.see(*ahead)

    def note(self, left: int) -> str:
        """One line for the terminal; ``left`` rows are still to come."""
        ahead = self.pace.points[-1][1] - self.rows if self.pace.points else 0
        left = max(0, round(left - ahead))
        if not self.pace.started:
            return self.phase
        rows, tokens = self.pace.rates()
        parts = [
            f"{rows:,.1f} prompts/s" if rows < 10 else f"{rows:,.0f} prompts/s",
            f"{tokens:,.0f} tok/s",
            f"{self.queued:,} queued",
            f"{self.cached:,} from cache",
        ]
        if ahead:
            parts.insert(0, f"{ahead:,.0f} more answered")
        if (eta := self.pace.left(left, self.wanted - self.cached)) is not None:
            parts.append(f"about {span(eta)} left")
            if self.gpus:
                parts.append(f"{self.gpu_hours(self.seconds + eta):,.2f} GPU hours in all")
        return ", ".join(parts)
