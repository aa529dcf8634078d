"""The stage: which answers the ratio needs, one pass through the engines, what is kept."""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from delia_ray import runtime
from delia_ray.artifacts import open_storage
from delia_ray.config import RunConfig
from delia_ray.engines import Request, resolve
from delia_ray.errors import UserError
from delia_ray.models import fingerprint, folder_digest, load_tokenizer, locate
from delia_ray.pace import span
from delia_ray.records import ANSWER, TIMELINE, conform, digest
from delia_ray.stage import Outcome, Stage, StageRun
from delia_ray.stored import reading
from delia_ray.synthesize.cache import Cache
from delia_ray.synthesize.checks import answer_problem
from delia_ray.synthesize.generate import Completions, Generator
from delia_ray.synthesize.lengths import REFERENCES, lengths, warning
from delia_ray.synthesize.live import Live
from delia_ray.synthesize.methods import METHODS, Method, Query
from delia_ray.synthesize.model_checks import Seen, Task, look_all
from delia_ray.synthesize.requests import Asker, model_of
from delia_ray.synthesize.rewordings import Look, Rewordings

PLAN = "synthesis-plan.json"
"""What ``delia synthesize --plan`` foresaw, in the run's folder."""
_CHUNK = 4096
OTHERS = 64
"""Queries whose mean state is what all requests have in common."""


def settings(config: RunConfig) -> dict[str, Any]:
    """What the answers depend on; ``mix.ratio`` only through the number of rows needed.

    Raises:
        UserError: a model is missing or has no chat template, or the engine lacks what is asked.
    """
    chosen = config.synthesize
    engine = resolve(chosen.engine)
    load_tokenizer(locate(model_of(config)))
    _check_engine(config, engine)
    if chosen.method != "magpie" and not config.corpus:
        raise UserError(
            f"synthesize.method={chosen.method} asks the queries of a corpus, and corpus is "
            "empty; add a source, or set synthesize.method=magpie"
        )
    return {
        # How fast it goes changes nothing.
        "synthesize": chosen.model_dump(mode="json", exclude={"engine", "ratio"}),
        "engine": engine.model_dump(
            mode="json",
            exclude={"replicas", "batch_size", "max_concurrent_batches", "max_restarts"},
        ),
        "adapters": [folder_digest(a) for a in getattr(engine, "adapters", [])],
        "special_tokens": config.downstream.special_tokens,
        "ratio": largest_ratio(config),
        "repeat": config.mix.repeat,
        "reworded": _reworded(config),
        "seed": config.seed,
        "model": fingerprint(model_of(config)),
    }


def _check_engine(config: RunConfig, engine: Any) -> None:
    if engine.type == "vllm":
        return
    chosen = config.synthesize
    for name, sampling in (
        ("sampling", chosen.sampling),
        ("queries.sampling", chosen.queries.sampling),
        ("reword.sampling", chosen.reword.sampling),
    ):
        if sampling.json_schema:
            raise UserError(
                f"synthesize.{name}.json_schema needs synthesize.engine.type=vllm, "
                f"which is {engine.type}"
            )


def _reworded(config: RunConfig) -> bool:
    """Whether any arm uses rewordings, here or in a run that shares the synthesis."""
    shared = config.synthesize.ratio is not None
    return shared or any(arm.reworded for arm in config.arms.values())


def largest_ratio(config: RunConfig) -> float:
    """The most answers per downstream row that any arm uses, here or in a run that shares
    the synthesis (``synthesize.ratio``)."""
    used = max((config.arm_ratio(arm) for arm in config.arms), default=0) * config.mix.mosaic
    return max(used, config.synthesize.ratio or 0)


class Synthesis:
    """What one run of the stage asks, and how it judges what comes back."""

    def __init__(self, stage: StageRun) -> None:
        self.stage, self.config = stage, stage.config.synthesize
        self.ask = Asker(stage.config)
        self.live = Live()
        engine = resolve(self.config.engine)
        limits = [
            engine.type,
            getattr(engine, "max_model_len", None),
            getattr(engine, "kwargs", {}),
        ]
        self.cache = Cache(
            open_storage(stage.config.storage) / f"cache/synthesis/{self.ask.fingerprint}",
            digest(limits),
        )
        corpus = stage.inputs["ingest"]
        self.method: Method = METHODS[self.config.method](corpus, self.ask, self.config.slack)
        downstream = corpus.read_table("downstream.parquet").to_pylist()
        tokens = stage.config.downstream.special_tokens
        wanted = downstream if _reworded(stage.config) else []
        self.rewordings = Rewordings(wanted, self.ask, tokens)
        self.rows = len(downstream)
        self.pool = self._pool()
        """Answers that can be asked for; None where queries never end."""
        self.needed = self._needed()
        self.wanted = self._limit(self.needed + (self.config.held_out if self.needed else 0))
        """Those that are held out, too."""
        self.asked = self._limit(math.ceil(self.wanted * (1 + self.config.slack)))

    def look(self, answers: pa.Table) -> Look | None:
        """What asks the model about wordings; None where the config does not want that.

        Args:
            answers: their queries are what other requests look like.
        """
        reword = self.ask.reword
        wanted = (reword.max_loss_increase, reword.min_nearness) != (None, None)
        if not (reword.checks and wanted):
            return None
        first = answers.slice(0, OTHERS).column("prompt").to_pylist()
        others = [prompt[-1]["content"] for prompt in first]
        shown = [example.request for example in reword.examples or ()]

        def asked(tasks: list[Task]) -> list[list[Seen]]:
            if not tasks:
                return []
            runtime.connect(self.stage.config)
            self.stage.progress(0, 1, f"looking at wordings of {len(tasks):,} instructions")
            gpu = runtime.has_gpu()
            cpus = int(runtime.cpus_of_cluster()[1])
            return look_all(self.ask.model, tasks, others or shown, gpu, cpus)

        return asked

    def _pool(self) -> int | None:
        if self.config.method == "magpie":
            return None
        queries = len(self.stage.inputs["ingest"].read_table("corpus.parquet", ["id"]))
        return queries * self.config.samples

    def _limit(self, answers: int) -> int:
        return answers if self.pool is None else min(self.pool, answers)

    def _needed(self) -> int:
        """Answers that the largest ratio uses; UserError where the pool has too few."""
        config = self.stage.config
        ratio = largest_ratio(config)
        needed = math.ceil(ratio * self.rows)
        if self.pool is None or needed <= self.pool:
            return needed
        if config.mix.repeat and self.pool:
            return self.pool
        corpus = (self.stage.inputs["ingest"].manifest() or {})["counts"]["corpus"].values()
        duplicates = sum(c["duplicates"] for c in corpus)
        rejects = sum(sum(c["rejects"].values()) for c in corpus)
        raise UserError(
            f"mix.ratio={ratio / config.mix.mosaic:g}"
            + (f" with mix.mosaic={config.mix.mosaic}" if config.mix.mosaic > 1 else "")
            + f" needs {needed:,} diverse queries for {self.rows:,} downstream "
            f"rows; the corpus has {self.pool:,} ({duplicates:,} duplicates and {rejects:,} "
            "rejects left out). Add a source, raise its `rows`, lower the ratio to "
            f"{self.pool // (self.rows * config.mix.mosaic)}, ask for several answers each with "
            "synthesize.samples, or allow repeats with mix.repeat=true."
        )

    def generator(self) -> Generator:
        return Generator(
            self.stage.config, model_of(self.stage.config), self.cache, self.live,
            self.stage.progress,
        )  # fmt: skip

    def run(self) -> tuple[pa.Table, Completions]:
        """All answers up to the last one needed, in pool order, and all completions.

        Raises:
            UserError: too few answers are good.
            DeliaError: see ``Generator.complete``.
        """
        with self.generator() as generator:
            while True:
                queries = self.queries(generator)
                done = generator.complete(self.everything(queries))
                judged = self._judge(queries, done)
                kept = judged["reason"].null_count
                if kept >= self.wanted or not self._ask_more(len(judged), kept):
                    break
        if kept < self.needed and not self.stage.config.mix.repeat:
            raise self._too_few_kept(judged, kept)
        return self._cut(judged), done

    def queries(self, generator: Generator | None) -> Iterable[Query]:
        """Those whose answers are asked."""
        return self.method.queries(math.ceil(self.asked / self.config.samples), generator)

    def everything(self, queries: Iterable[Query]) -> Callable[[], Iterator[Request]]:
        """All requests for answers and rewordings: one pass through the engines."""

        def requests() -> Iterator[Request]:
            yield from self.answers(queries)
            yield from self.rewordings.requests()

        return requests

    def probed(self, count: int) -> Callable[[], Iterator[Request]]:
        """Some requests of every kind where the queries are not known yet."""

        def requests() -> Iterator[Request]:
            yield from map(self.ask.invention, range(count))
            yield from self.rewordings.requests()

        return requests

    def answers(self, queries: Iterable[Query]) -> Iterator[Request]:
        """The first ``asked`` requests for answers: every sample of a query, then the next."""
        left = self.asked
        for query in queries:
            chat = self.method.chat(query)
            for sample in range(min(self.config.samples, left)):
                yield self.ask.answer(query, chat, sample)
            left -= self.config.samples

    def _ask_more(self, judged: int, kept: int) -> bool:
        """Raise ``asked`` to what should suffice at the share of good answers so far."""
        if judged < self.asked or self.asked == self.pool:
            return False  # there are no more queries
        share = max(kept / judged, 0.02)
        more = math.ceil((self.wanted - kept) / share * (1 + self.config.slack)) + 8
        self.asked = self._limit(self.asked + more)
        return True

    def _judge(self, queries: Iterable[Query], done: Completions) -> pa.Table:
        tables: list[pa.Table] = []
        chunk: list[dict[str, Any]] = []
        completions = done.of(r.key for r in self.answers(queries))
        left = self.asked
        for query in queries:
            said: set[str] = set()
            for sample in range(min(self.config.samples, left)):
                made = next(completions)
                chunk.append(self._answer(query, sample, made, said))
            left -= self.config.samples
            if len(chunk) >= _CHUNK:
                tables.append(conform(chunk, ANSWER))
                chunk = []
        return pa.concat_tables([*tables, conform(chunk, ANSWER)])

    def _answer(
        self, query: Query, sample: int, made: dict[str, Any], said: set[str]
    ) -> dict[str, Any]:
        text = self.ask.said(made["text"])
        reason = answer_problem(
            text, made["finish_reason"], self.ask.control, self.config.rules,
            query["prompt"][-1]["content"],
        )  # fmt: skip
        if reason is None and text in said:
            reason = "same as another sample"
        said.add(text)
        return {
            "id": query["id"] + (f"-{sample + 1}" if sample else ""),
            "source": query["source"],
            "prompt": query["prompt"],
            "answer": text,
            "finish_reason": made["finish_reason"],
            "completion_tokens": made["completion_tokens"],
            "reason": reason,
        }

    def _cut(self, answers: pa.Table) -> pa.Table:
        """Up to the last needed answer: what comes after it depends on the slack alone."""
        good = pc.cumulative_sum(pc.is_null(answers["reason"]).cast(pa.int64()))
        at = pc.index(good, self.wanted).as_py() if self.wanted else -1
        return answers if self.wanted and at < 0 else answers.slice(0, at + 1)

    def _too_few_kept(self, answers: pa.Table, kept: int) -> UserError:
        reasons = Counter(answers["reason"].drop_null().to_pylist())
        reasons.update(r["reason"] for r in self.method.rejected)
        said = ", ".join(f"{n:,} {reason}" for reason, n in reasons.most_common())
        longer = self.config.sampling.max_tokens
        hint = (
            f"raise synthesize.sampling.max_tokens above {longer}, " if reasons["cut off"] else ""
        )
        if reasons["query: cut off"]:
            longest = self.config.queries.sampling.max_tokens
            hint += f"raise synthesize.queries.sampling.max_tokens above {longest}, "
        return UserError(
            f"mix.ratio needs {self.needed:,} diverse answers, but only {kept:,} of the "
            f"{len(answers):,} generated are good ({said}): {hint}look at "
            "synthesize.rules, add a source, lower the ratio to "
            f"{kept // self.rows}, or allow repeats with mix.repeat=true."
        )


def run(stage: StageRun) -> Outcome:
    """Write ``answers``, ``held_out``, ``rewordings``, what was set aside of each, and
    ``timeline``."""
    work = Synthesis(stage)
    answers, done = work.run()
    good, bad, reworded = work.rewordings.judge(done, work.look(answers))
    kept = answers.filter(pc.is_null(answers["reason"]))
    aside = answers.filter(pc.is_valid(answers["reason"]))
    rejected = conform(work.method.rejected, ANSWER)
    kept, held_out = kept.slice(0, work.needed), kept.slice(work.needed)
    stage.out.write_table("answers.parquet", kept)
    stage.out.write_table("held_out.parquet", held_out)
    stage.out.write_table("answers_set_aside.parquet", pa.concat_tables([aside, rejected]))
    stage.out.write_table("rewordings.parquet", good)
    stage.out.write_table("rewordings_set_aside.parquet", bad)
    live = work.live
    planned = against_plan(stage, live)
    points = [dict(zip(TIMELINE.names, point, strict=True)) for point in live.timeline]
    stage.out.write_table("timeline.parquet", pa.Table.from_pylist(points, TIMELINE))
    found = lengths(answers, _references(stage, work.ask))
    counts = {
        "lengths": found,
        "self_sample": {
            "needed": work.needed,
            "asked": work.asked,
            "kept": len(kept),
            "held_out": len(held_out),
            "set_aside": dict(Counter(aside["reason"].to_pylist())),
            "spare": work.asked - len(answers),
        },
        "queries_set_aside": dict(Counter(r["reason"] for r in work.method.rejected)),
        "reword": reworded,
        "generated": live.rows,
        "from_cache": live.cached,
        "prompt_tokens": live.prompt_tokens,
        "tokens_generated": live.tokens,
        "tokens_per_second": round(live.rate),
        "prompts_per_second": round(live.row_rate, 1),
        "seconds_generating": round(live.seconds, 1),
        "engine": work.ask.engine,
        "engine_starts": live.starts,
        "engine_deaths": live.deaths,
        "asked_again": live.asked - live.rows,
        "planned_and_actual": planned,
    }
    by = reworded["rows_by_kind"]
    speed = f", {live.rate:,.0f} tok/s" if live.rate else ""
    if foreseen := planned.get("time"):
        speed += f"; planned {foreseen['planned']}, took {foreseen['actual']}"
    return Outcome(
        counts,
        f"{len(kept):,} answers by {counts['engine']}, {len(aside):,} set aside; "
        f"{reworded['kept']:,} of {reworded['asked']:,} rewordings kept, {by['model']:,} rows have "
        f"one, {by['row']:,} another row's, {by['frame'] + by['template']:,} a frame or template, "
        f"{by['original']:,} none; "
        f"{live.cached:,} from cache{speed}",
        [w for w in [warning(found, stage.config.synthesize.sampling.max_tokens)] if w],
    )


def _references(stage: StageRun, ask: Asker) -> list[int]:
    """Tokens of the corpus's answers, of the first rows."""
    if stage.config.synthesize.method == "magpie" or not stage.config.corpus:
        return []
    table = stage.inputs["ingest"].read_first("corpus.parquet", ["answer"], REFERENCES)
    texts = table.column("answer").drop_null().to_pylist()
    tokenizer = load_tokenizer(locate(ask.model))
    return (
        [len(i) for i in tokenizer(texts, add_special_tokens=False)["input_ids"]] if texts else []
    )


def against_plan(stage: StageRun, live: Live) -> dict[str, Any]:
    """What the last plan of this configuration foresaw, beside what came; empty without one."""
    if not stage.run.exists(PLAN):
        return {}
    plan = stage.run.read_json(PLAN)
    if not isinstance(plan, dict) or plan.get("config") != settings(stage.config) or not live.rows:
        return {}
    actual = {
        "rows": live.rows,
        "prompt tokens": live.prompt_tokens,
        "generated tokens": live.tokens,
        "time": span(live.seconds),
        "GPU hours": round(live.gpu_hours(live.seconds), 3),
    }
    with reading(f"{stage.run}/{PLAN}", "remove it; it is only compared with what came"):
        foreseen = plan["foreseen"]
        return {name: {"planned": foreseen[name], "actual": actual[name]} for name in actual}


STAGE = Stage(
    "synthesize",
    version=7,
    needs={"ingest": ("downstream.parquet", "corpus.parquet")},
    settings=settings,
    run=run,
)
