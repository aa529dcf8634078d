"""Numbers while it runs: how fast, how much is queued, how long it will take."""

import time
from dataclasses import dataclass, field


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

    def note(self, left: int) -> str:
        """One line for the terminal; ``left`` rows are still to come."""
        if self.began is None:
            return "starting the engine"
        parts = [
            f"{self.row_rate:,.0f} prompts/s",
            f"{self.rate:,.0f} tok/s",
            f"{self.queued:,} queued",
            f"{self.cached:,} from cache",
        ]
        if (eta := self.remaining(left)) is not None:
            parts.append(f"{span(eta)} left")
            if self.gpus:
                parts.append(f"{self.gpu_hours(self.seconds + eta):,.2f} GPU hours in all")
        return ", ".join(parts)


def span(seconds: float) -> str:
    """``3725`` -> ``1:02:05``; ``65`` -> ``1:05``."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
