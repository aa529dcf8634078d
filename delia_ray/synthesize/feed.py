"""A dataset whose rows are decided while it runs.

Ray Data starts an engine with a dataset and ends it with the dataset. Which queries are
asked depends on answers that came before (some are set aside and replaced; a model that
invents the queries has to answer them next), and starting engines again costs minutes. So
the source of the dataset is a queue: block i of it is whatever is put i-th, and reading it
waits until that is there. Reading is a pure function of i, so Ray can repeat it after a
node was lost.
"""

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pyarrow as pa

if TYPE_CHECKING:
    from ray.data import Dataset


class Feed:
    """At most ``blocks`` tables for one dataset; lives on the node of the driver."""

    def __init__(self, blocks: int, readers: int) -> None:
        import ray
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        self.queue: Any = ray.remote(_Queue).options(num_cpus=0, scheduling_strategy=here).remote()
        self.blocks, self.readers = blocks, readers
        self.used = 0

    def dataset(self) -> "Dataset":
        """The rows that are put, one block for each ``put``."""
        import ray.data

        numbers = [pa.table({"block": [i]}) for i in range(self.blocks)]
        return ray.data.from_arrow(numbers).map_batches(
            functools.partial(_read, queue=self.queue), batch_size=None, batch_format="pyarrow",
            num_cpus=0.1, concurrency=self.readers,
        )  # fmt: skip

    def put(self, table: pa.Table) -> int:
        """Append a block; its number."""
        number, self.used = self.used, self.used + 1
        self.queue.put.remote(number, table)
        return number

    def drop(self, number: int) -> None:
        """A block is done with; nothing will read it again."""
        self.queue.drop.remote(number)

    def teller(self) -> Callable[[int, int], None]:
        """What an engine calls with the requests and tokens that it finished since its last call,
        from wherever it runs."""
        return functools.partial(_tell, queue=self.queue)

    def heard(self) -> tuple[int, int] | None:
        """(requests, tokens) that all engines told; None before one is up, and where the queue
        does not answer."""
        import ray

        try:
            found: tuple[int, int] | None = ray.get(self.queue.heard.remote(), timeout=5)
            return found
        except ray.exceptions.RayError:
            return None

    def is_alive(self) -> bool:
        """Whether the queue still answers. Its death looks like an error of ours to Ray Data,
        which keeps no cause of what happens inside a task."""
        import ray

        try:
            return bool(ray.get(self.queue.ping.remote(), timeout=30))
        except ray.exceptions.RayError:
            return False

    def close(self) -> None:
        import ray

        ray.kill(self.queue)


class _Queue:
    """The actor: blocks by number, handed out when they are there."""

    def __init__(self) -> None:
        import asyncio

        self.tables: dict[int, pa.Table] = {}
        self.told: tuple[int, int] | None = None
        self.came = asyncio.Event()

    async def put(self, number: int, table: pa.Table) -> None:
        import asyncio

        self.tables[number] = table
        self.came.set()
        self.came = asyncio.Event()

    async def get(self, number: int) -> pa.Table:
        while number not in self.tables:
            await self.came.wait()
        return self.tables[number]

    async def tell(self, rows: int, tokens: int) -> None:
        before = self.told or (0, 0)
        self.told = before[0] + rows, before[1] + tokens

    async def heard(self) -> tuple[int, int] | None:
        return self.told

    async def ping(self) -> bool:
        return True

    async def drop(self, number: int) -> None:
        self.tables.pop(number, None)


def _tell(rows: int, tokens: int, queue: Any) -> None:
    queue.tell.remote(rows, tokens)


def _read(batch: pa.Table, queue: Any) -> pa.Table:
    import ray

    table: pa.Table = ray.get(queue.get.remote(batch["block"][0].as_py()))
    return table
