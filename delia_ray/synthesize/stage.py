"""The stage: which chats the ratio needs, one pass through the engines, what is kept."""

import math
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict
from functools import cached_property
from typing import Any

import pyarrow as pa

from delia_ray import runtime
from delia_ray.artifacts import open_storage
from delia_ray.config import RunConfig, Sampling
from delia_ray.engines import Request, make_engine, resolve
from delia_ray.errors import DeliaError, UserError
from delia_ray.models import fingerprint, load_tokenizer, locate
from delia_ray.records import ANSWER, MESSAGES, REWORDING, Message, conform, digest
from delia_ray.stage import Outcome, Stage, StageRun
from delia_ray.synthesize import prompts
from delia_ray.synthesize.cache import Cache
from delia_ray.synthesize.checks import answer_problem, rewording_problem

_REQUEST = pa.schema(
    [
        ("key", pa.string()),
        ("messages", MESSAGES),
        ("max_tokens", pa.int64()),
        ("temperature", pa.float64()),
        ("top_p", pa.float64()),
        ("seed", pa.int64()),
    ]
)


def settings(config: RunConfig) -> dict[str, Any]:
    """What the answers depend on; ``mix.ratio`` only through the number of rows needed."""
    locate_and_check(config)
    return {
        "synthesize": config.synthesize.model_dump(mode="json")
        | {"engine": resolve(config.synthesize.engine).model_dump(mode="json")},
        "special_tokens": config.downstream.special_tokens,
        "ratio": largest_ratio(config),
        "repeat": config.mix.repeat,
        "seed": config.seed,
        "model": fingerprint(config.model),
    }


def locate_and_check(config: RunConfig) -> None:
    """Raise UserError unless the model exists and has a chat template."""
    load_tokenizer(locate(config.model))


def largest_ratio(config: RunConfig) -> float:
    """The most diverse rows per downstream row that any arm uses."""
    return max(config.arm_ratio(arm) for arm in config.arms) if config.arms else config.mix.ratio


def run(stage: StageRun) -> Outcome:
    """Write ``answers``, ``rewordings`` and what was set aside of each."""
    work = _Synthesis(stage)
    answers, rewordings = work.generate()
    kept = [a for a in answers if a["reason"] is None]
    good = [r for r in rewordings if r["reason"] is None]
    aside = [a for a in answers if a["reason"] is not None]
    bad = [r for r in rewordings if r["reason"] is not None]
    stage.out.write_table("answers.parquet", conform(kept, ANSWER))
    stage.out.write_table("answers_set_aside.parquet", conform(aside, ANSWER))
    stage.out.write_table("rewordings.parquet", conform(good, REWORDING))
    stage.out.write_table("rewordings_set_aside.parquet", conform(bad, REWORDING))
    rate = work.clock.rate
    counts = {
        "self_sample": {
            "needed": work.needed,
            "asked": work.asked,
            "kept": len(kept),
            "set_aside": dict(Counter(a["reason"] for a in aside)),
            "spare": work.asked - len(answers),
        },
        "reword": {
            "asked": len(rewordings),
            "kept": len(good),
            "set_aside": dict(Counter(r["reason"] for r in bad)),
        },
        "generated": work.generated,
        "from_cache": work.from_cache,
        "tokens_generated": work.tokens,
        "tokens_per_second": round(rate),
        "engine": resolve(stage.config.synthesize.engine).type,
        "passes": work.passes,
    }
    speed = f", {rate:,.0f} tok/s" if rate else ""
    return Outcome(
        counts,
        f"{len(kept):,} answers by {counts['engine']}, {len(aside):,} set aside; "
        f"{len(good):,} of {len(rewordings):,} rewordings kept; "
        f"{work.from_cache:,} from cache{speed}",
    )


STAGE = Stage(
    "synthesize",
    version=1,
    needs={"ingest": ("downstream.parquet", "corpus.parquet")},
    settings=settings,
    run=run,
)


class _Synthesis:
    """One run of the stage: asks, and asks more while too few answers are good."""

    def __init__(self, stage: StageRun) -> None:
        self.stage = stage
        self.config = stage.config.synthesize
        self.model = fingerprint(stage.config.model)
        self.cache = Cache(open_storage(stage.config.storage) / f"cache/synthesis/{self.model}")
        self.downstream = stage.inputs["ingest"].read_table("downstream.parquet").to_pylist()
        corpus = stage.inputs["ingest"].read_table("corpus.parquet", ["id"])
        self.pool = len(corpus)
        self.needed = self._needed()
        self.asked = min(self.pool, math.ceil(self.needed * (1 + self.config.slack)))
        self.tokens = self.generated = self.from_cache = self.passes = 0
        self.clock = _Clock()

    def _needed(self) -> int:
        """Rows of the pool that the largest ratio uses; UserError where it has too few."""
        config, rows = self.stage.config, len(self.downstream)
        ratio = largest_ratio(config)
        needed = math.ceil(ratio * rows)
        if needed <= self.pool:
            return needed
        if config.mix.repeat and self.pool:
            return self.pool
        corpus = (self.stage.inputs["ingest"].manifest() or {})["counts"]["corpus"].values()
        duplicates = sum(c["duplicates"] for c in corpus)
        rejects = sum(sum(c["rejects"].values()) for c in corpus)
        raise UserError(
            f"mix.ratio={ratio:g} needs {needed:,} diverse queries for {rows:,} downstream rows; "
            f"the corpus has {self.pool:,} ({duplicates:,} duplicates and {rejects:,} rejects left "
            f"out). Add a source, raise its `rows`, lower the ratio to {self.pool // rows}, or "
            "allow repeats with mix.repeat=true."
        )

    def generate(self) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        """All answers up to the last one needed, in pool order, and all rewordings."""
        while True:
            queries = self._queries(self.asked)
            chats = [self._answer_request(q) for q in queries]
            rewords = [
                self._reword_request(row, variant)
                for row in self.downstream
                for variant in range(1, self.config.reword.per_row + 1)
            ]
            done = self._complete([*chats, *rewords])
            answers = self._judge_answers(queries, [done[r.key] for r in chats])
            kept = sum(a["reason"] is None for a in answers)
            if kept >= self.needed or self.asked == self.pool:
                break
            # Each pass starts the engines anew, so it asks for what should suffice at the
            # share of good answers seen so far.
            share = max(kept / len(answers), 0.02)
            more = math.ceil((self.needed - kept) / share * (1 + self.config.slack)) + 8
            self.asked = min(self.pool, self.asked + more)
        if kept < self.needed and not self.stage.config.mix.repeat:
            raise self._too_few_kept(answers, kept)
        return self._cut(answers), self._judge_rewordings([done[r.key] for r in rewords])

    def _cut(self, answers: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Up to the last needed answer: what comes after it depends on the slack alone."""
        kept = 0
        for index, answer in enumerate(answers):
            if kept == self.needed:
                return answers[:index]
            kept += answer["reason"] is None
        return answers

    def _too_few_kept(self, answers: list[dict[str, Any]], kept: int) -> UserError:
        reasons = Counter(a["reason"] for a in answers if a["reason"])
        said = ", ".join(f"{n:,} {reason}" for reason, n in reasons.most_common())
        hint = (
            f"raise synthesize.sampling.max_tokens above {self.config.sampling.max_tokens}, "
            if reasons["cut off"]
            else ""
        )
        return UserError(
            f"mix.ratio needs {self.needed:,} diverse answers, but only {kept:,} of the "
            f"{self.asked:,} generated are good ({said}): {hint}add a source, lower the ratio to "
            f"{kept // len(self.downstream)}, or allow repeats with mix.repeat=true."
        )

    # --- requests ---------------------------------------------------------------------

    def _queries(self, count: int) -> list[dict[str, Any]]:
        table = self.stage.inputs["ingest"].read_table(
            "corpus.parquet", ["id", "source", "prompt", "answer"]
        )
        rows: list[dict[str, Any]] = table.slice(0, count).to_pylist()
        return rows

    def _answer_request(self, query: dict[str, Any]) -> Request:
        reference = query["answer"] if self.config.use_reference else None
        messages = prompts.self_sample(query["prompt"], reference)
        return self._request(messages, self.config.sampling, query["id"])

    def _reword_request(self, row: dict[str, Any], variant: int) -> Request:
        _, instruction = prompts.split_instruction(
            row["prompt"][-1]["content"], self.config.reword.part
        )
        messages = prompts.reword(self.config.reword.prompt, instruction)
        return self._request(messages, self.config.reword.sampling, [row["id"], variant])

    def _request(self, messages: list[Message], sampling: Sampling, identity: Any) -> Request:
        seed = int(digest([self.stage.config.seed, identity], 7), 16)
        drawn = sampling.model_dump(mode="json")
        engine = resolve(self.config.engine).type
        key = digest([messages, self.model, drawn, seed, engine], 32)
        return Request(
            key, messages, sampling.max_tokens, sampling.temperature, sampling.top_p, seed
        )

    # --- generation -------------------------------------------------------------------

    def _complete(self, requests: list[Request]) -> dict[str, dict[str, Any]]:
        """The completion of every request, from the cache or generated now."""
        unique = {r.key: r for r in requests}
        done = self.cache.read(unique)
        if not self.passes:
            self.from_cache = len(done)
        missing = [r for key, r in unique.items() if key not in done]
        if missing:
            self.passes += 1
            self.generated += len(missing)
            errors = self._ask(missing)
            done |= self.cache.read([r.key for r in missing])
            lost = [r.key for r in missing if r.key not in done]
            if len(lost) == len(missing):
                raise DeliaError(f"the engine answered none of {len(missing):,} requests: {errors}")
            done |= {key: _failed(key) for key in lost}
        return done

    def _ask(self, requests: list[Request]) -> str:
        """Generate into the cache; the first error text, if any."""
        import ray.data

        runtime.connect(self.stage.config)
        engine = make_engine(self.config.engine, self.stage.config.model)
        size = getattr(engine.settings, "batch_size", 64)  # type: ignore[attr-defined]
        table = pa.Table.from_pylist([asdict(r) for r in requests], schema=_REQUEST)
        # One block for each batch: blocks are what streams, and what a death repeats.
        blocks = [table.slice(i, size) for i in range(0, len(table), size)]
        counted = engine.map(ray.data.from_arrow(blocks)).map_batches(
            self.cache.write, batch_size=size, batch_format="pyarrow", num_cpus=0.1, concurrency=1
        )
        self.stage.progress(0, len(requests), "starting the engine")
        rows, error, clock = 0, "", _Clock()
        for batch in counted.iter_batches(batch_size=None, batch_format="pyarrow"):
            for count in batch.to_pylist():
                rows += count["rows"]
                self.tokens += count["tokens"]
                error = error or count["error"]
                clock.tick(count["tokens"])
            self.stage.progress(rows, len(requests), f"{clock.rate:,.0f} tok/s")
        self.clock = clock
        return error

    # --- judging ----------------------------------------------------------------------

    @cached_property
    def control_tokens(self) -> list[str]:
        """Of the base model's template; the declared tokens are wanted, not a leak."""
        tokenizer = load_tokenizer(locate(self.stage.config.model))
        declared = self.stage.config.downstream.special_tokens
        return [t for t in tokenizer.all_special_tokens if t not in declared]

    def _judge_answers(
        self, queries: Iterable[dict[str, Any]], done: Iterable[dict[str, Any]]
    ) -> list[dict[str, Any]]:
        return [
            {
                "id": query["id"],
                "source": query["source"],
                "prompt": query["prompt"],
                "answer": c["text"].strip(),
                "finish_reason": c["finish_reason"],
                "completion_tokens": c["completion_tokens"],
                "reason": answer_problem(c["text"], c["finish_reason"], self.control_tokens),
            }
            for query, c in zip(queries, done, strict=True)
        ]

    def _judge_rewordings(self, done: list[dict[str, Any]]) -> list[dict[str, Any]]:
        part, judged = self.config.reword.part, []
        completions = iter(done)
        for row in self.downstream:
            _, original = prompts.split_instruction(row["prompt"][-1]["content"], part)
            kept: list[str] = []
            for variant in range(1, self.config.reword.per_row + 1):
                completion = next(completions)
                text = completion["text"].strip()
                reason = rewording_problem(
                    text, completion["finish_reason"], original, row["answer"], kept,
                    self.stage.config.downstream.special_tokens, self.control_tokens,
                )  # fmt: skip
                if reason is None:
                    kept.append(text)
                prompt = prompts.with_instruction(row["prompt"], part, text)
                judged.append(
                    {"id": row["id"], "variant": variant, "prompt": prompt, "reason": reason}
                )
        return judged


def _failed(key: str) -> dict[str, Any]:
    return {"key": key, "text": "", "finish_reason": "error", "completion_tokens": 0}


class _Clock:
    """Tokens per second since the first batch came back, so without the engine's start."""

    def __init__(self) -> None:
        self.first: float | None = None
        self.tokens = 0

    def tick(self, tokens: int) -> None:
        if self.first is None:
            self.first = time.monotonic()  # this batch was made before: it only starts the clock
        else:
            self.tokens += tokens

    @property
    def rate(self) -> float:
        passed = time.monotonic() - self.first if self.first is not None else 0.0
        return self.tokens / passed if passed and self.tokens else 0.0
