"""Requests through the engines, each once, whatever dies on the way."""

import gc
import itertools
import threading
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from delia_ray import runtime
from delia_ray.config import RunConfig
from delia_ray.engines import Request, make_engine
from delia_ray.engines.sizes import SEQUENCES
from delia_ray.errors import DeliaError
from delia_ray.metrics import Meter
from delia_ray.records import MESSAGES
from delia_ray.stage import Progress
from delia_ray.synthesize.cache import Cache, once
from delia_ray.synthesize.feed import Feed
from delia_ray.synthesize.live import Live

REQUEST = pa.schema(
    [
        ("key", pa.string()),
        ("messages", MESSAGES),
        ("max_tokens", pa.int64()),
        ("temperature", pa.float64()),
        ("top_p", pa.float64()),
        ("seed", pa.int64()),
        ("schema", pa.string()),
        ("adapter", pa.string()),
        ("turn", pa.string()),
    ]
)
_SPARE_BLOCKS = 64
_AROUND = 128
"""Tokens that a template puts around a query."""


class Generator:
    """The engines of one model: started when the first request is not cached, kept until
    ``close``, so that several rounds of requests share one start."""

    def __init__(
        self, config: RunConfig, model: str, cache: Cache, live: Live, progress: Progress
    ) -> None:
        self.config, self.cache, self.live, self.progress = config, cache, live, progress
        self.meter = Meter(config.name)
        self.engine = make_engine(config.synthesize.engine, model)
        self.size = self.engine.settings.batch_size
        self.feed: Feed | None = None
        self.longest = 0
        """Tokens of the longest request that the engines can take; 0 for the model's limit."""
        self.results: Iterator[pa.Table] = iter(())

    def __enter__(self) -> "Generator":
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()

    def complete(self, make: Callable[[], Iterable[Request]]) -> "Completions":
        """The completions of all requests that ``make`` yields; it is called several times.

        Raises:
            DeliaError: engines keep dying with nothing done in between, or no request
                was answered.
        """
        keys = list(dict.fromkeys(r.key for r in make()))
        found = self.cache.read(keys)
        missing = dict.fromkeys(keys)
        _remove(missing, found)
        self.live.wanted += len(keys)
        self.live.cached += len(found)
        self.meter.add("delia_cache_hits_total", len(found))
        tables, asked, deaths = [found], len(missing), 0
        if missing:
            self._fit(lambda: only(make(), missing))
        while missing:
            before, death = len(missing), ""
            try:
                with self._listening(missing):
                    for table in self._stream(only(make(), missing), len(missing)):
                        tables.append(table)
                        _remove(missing, table)
                        self._show(len(missing))
            except _ray_error() as error:
                if not _is_death(error) and (self.feed is None or self.feed.is_alive()):
                    raise
                death = str(error)
            if death:
                self._abandon()
                # The error's traceback held the engines that are still alive: without this
                # they keep their share of the cluster, and new ones may wait for it forever.
                gc.collect()
                self.live.deaths += 1
                self.meter.add("delia_engine_deaths_total", 1)
                tables.append(self.cache.read(missing))  # written, and lost on the way here
                _remove(missing, tables[-1])
                deaths = 1 if len(missing) < before else deaths + 1
                if deaths > self.engine.settings.max_restarts:
                    raise DeliaError(
                        f"the engines died {deaths} times with nothing done in between; "
                        f"{len(missing):,} of {asked:,} requests are left. The last death: {death}"
                    )
        done = Completions(once(pa.concat_tables(tables)))
        if asked and done.failed == len(keys):
            raise DeliaError(f"the engine answered none of {asked:,} requests: {done.error}")
        return done

    def close(self) -> None:
        """End the engines."""
        self._abandon()
        self.cache.compact()

    def _abandon(self) -> None:
        """Dropping the iterator ends the dataset's execution, and so its actors."""
        if self.feed is not None:
            runtime.note_shared_memory()
        close = getattr(self.results, "close", None)
        self.results = iter(())
        if close is not None:
            close()
        if self.feed is not None:
            self.feed.close()
            self.feed = None
        self.live.queued = 0

    def _fit(self, requests: Callable[[], Iterator[Request]]) -> None:
        """Let engines take the longest of ``requests``; those that cannot are ended, and
        ``_open`` starts others."""
        room = self.config.synthesize.sampling.max_tokens + _AROUND

        def with_what_follows() -> Iterator[Request]:
            """An invented query is a prompt next; the engines should hold its answer too."""
            for request in requests():
                own = request.max_tokens + (room if request.turn == "user" else 0)
                yield replace(request, max_tokens=own)

        needed = self.engine.longest(with_what_follows)
        if needed > self.longest:
            if self.feed is not None:
                self._abandon()
            self.longest = needed

    def _open(self, count: int) -> Feed:
        """Start the engines, or those that are running."""
        import ray

        if self.feed is not None:
            return self.feed
        runtime.connect(self.config)
        most = self.engine.replicas[1]
        batches = getattr(self.engine.settings, "max_concurrent_batches", 1)
        if ray.cluster_resources().get("GPU", 0):
            self.live.gpus = self.engine.gpus * most
        self.live.start(most * min(self.size * batches, SEQUENCES))
        self.feed = Feed(2 * -(-count // self.size) + _SPARE_BLOCKS, readers=-(-most // 4))
        # In one expression: a dataset in a local variable would keep its engines alive, since
        # libraries below hold on to frames of ours (in tracebacks of errors they handled).
        # Prefetching would hold the last batch back until one more is ready.
        self.results = iter(
            self.engine.map(self.feed.dataset(), self.longest, self.feed.teller())
            .map_batches(
                self.cache.write, batch_size=None, batch_format="pyarrow", num_cpus=0.1,
                concurrency=-(-most // 8),
            )
            .iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0)
        )  # fmt: skip
        self._show(count)
        return self.feed

    def _show(self, left: int) -> None:
        """Tell how far it is; ``left`` requests are not back."""
        self.progress(self.live.wanted - left, self.live.wanted, self.live.note(left))

    @contextmanager
    def _listening(self, missing: Collection[str]) -> Iterator[None]:
        """While a batch is waited for, show what the engines tell of the inside of theirs."""
        stop = threading.Event()

        def listen() -> None:
            while not stop.wait(1.0):
                feed = self.feed
                if feed is not None and (heard := feed.heard()) is not None:
                    self.live.heard(*heard)
                if not stop.is_set():
                    self._show(len(missing))

        thread = threading.Thread(target=listen, name="progress of the engines", daemon=True)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join(timeout=10)

    def _stream(self, requests: Iterator[Request], count: int) -> Iterator[pa.Table]:
        """Feed what the engines can hold, hand on what comes back."""
        blocks: dict[int, int] = {}
        owner: dict[str, int] = {}
        batches = iter(lambda: list(itertools.islice(requests, self.size)), [])
        batch = next(batches, None)
        most = self.engine.in_flight
        while batch or owner:
            feed = self._open(count)
            while batch and self.live.queued < most and feed.used < feed.blocks:
                rows = [asdict(r) for r in batch]
                number = feed.put(pa.Table.from_pylist(rows, schema=REQUEST))
                blocks[number] = len(batch)
                owner.update((r.key, number) for r in batch)
                self.live.queued += len(batch)
                self.live.asked += len(batch)
                batch = next(batches, None)
            table = next(self.results, None)
            if table is None:  # every block of the feed was used: go on with a new one
                self._abandon()
                if owner:
                    raise DeliaError(f"{len(owner):,} requests came to no end")
                continue
            for key in table["key"].to_pylist():
                number = owner.pop(key, -1)
                if number >= 0:
                    blocks[number] -= 1
                    self.live.queued -= 1
                    if not blocks[number]:
                        feed.drop(number)
            self._count(table)
            yield table

    def _count(self, table: pa.Table) -> None:
        if not len(table):
            return
        failed = int(pc.sum(pc.not_equal(table["error"], "")).as_py())
        prompt = int(pc.sum(table["prompt_tokens"]).as_py())
        tokens = int(pc.sum(table["completion_tokens"]).as_py())
        self.live.batch(len(table), failed, prompt, tokens, float(pc.max(table["seconds"]).as_py()))
        self.meter.add("delia_rows_total", len(table))
        self.meter.add("delia_failed_rows_total", failed)
        self.meter.add("delia_prompt_tokens_total", prompt)
        self.meter.add("delia_generated_tokens_total", tokens)
        self.meter.set("delia_queued_rows", self.live.queued)


class Completions:
    """Completions by key."""

    def __init__(self, table: pa.Table) -> None:
        self.table = table
        errors = table.filter(pc.not_equal(table["error"], ""))["error"]
        self.failed = len(errors)
        self.error = errors[0].as_py() if len(errors) else ""

    def of(self, keys: Iterable[str], chunk: int = 4096) -> Iterator[dict[str, Any]]:
        """The completion of each of ``keys``, in their order."""
        known, keys = self.table["key"].combine_chunks(), iter(keys)
        while some := list(itertools.islice(keys, chunk)):
            at = pc.index_in(pa.array(some), value_set=known)
            yield from self.table.take(at).to_pylist()


def only(requests: Iterable[Request], wanted: dict[str, None]) -> Iterator[Request]:
    """Those whose key is wanted, each once."""
    seen: set[str] = set()
    for request in requests:
        if request.key in wanted and request.key not in seen:
            seen.add(request.key)
            yield request


def _remove(missing: dict[str, None], table: pa.Table) -> None:
    for key in table["key"].to_pylist():
        missing.pop(key, None)


def _ray_error() -> type[BaseException]:
    from ray import exceptions

    error: type[BaseException] = exceptions.RayError
    return error


def _is_death(error: BaseException) -> bool:
    """Whether a process or a node is gone: worth another start. An exception that our own or
    the user's code raised is not. Ray Data wraps what happens inside its tasks."""
    from ray import exceptions as ray

    kinds = (
        ray.RayActorError, ray.NodeDiedError, ray.ObjectLostError, ray.WorkerCrashedError,
        ray.OutOfMemoryError, ray.LocalRayletDiedError, ray.ActorUnschedulableError,
    )  # fmt: skip
    seen: set[int] = set()
    queue: list[Any] = [error]
    while queue:
        one = queue.pop()
        if one is None or id(one) in seen:
            continue
        seen.add(id(one))
        if isinstance(one, kinds):
            return True
        queue += [one.__cause__, one.__context__, getattr(one, "cause", None)]
    return False
