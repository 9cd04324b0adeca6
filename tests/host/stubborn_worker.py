"""A worker process, without Kafka, whose body never ends; with `spin` it is a coroutine. test_ending runs it."""

import asyncio
import sys
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any
from unittest.mock import AsyncMock, MagicMock

from stepstream import App, Context, on
from stepstream.host import kafka_worker
from stepstream.host.settings import settings_from
from stepstream.runtime.kafka.client.settings import KafkaSettings
from stepstream.runtime.kafka.topics.layout import Layout
from tests.fakes.worker_log import FakeWorkerLog
from tests.runtime.worker.harness import started

app = App("shop")


@app.function(on("go"))
async def function(ctx: Context) -> None:
    """Run a step that does not end."""
    await ctx.step.run("work", spin if "spin" in sys.argv else hang)


async def spin() -> None:
    """Report the start, and never await anything."""
    sys.stdout.write("running\n")
    sys.stdout.flush()
    while True:
        pass


def hang() -> None:
    """Report the start, and never return."""
    sys.stdout.write("running\n")
    sys.stdout.flush()
    threading.Event().wait()


@asynccontextmanager
async def hosted(_: object, **parts: Callable[[], Awaitable[None]]) -> AsyncIterator[None]:
    """Run only the worker."""
    serving = asyncio.ensure_future(parts["worker"]())
    yield
    serving.cancel()
    await asyncio.gather(serving, return_exceptions=True)


def main() -> None:
    """Serve with everything that needs a broker replaced."""
    log: Any = FakeWorkerLog(started())
    log.assignments, log.confirmed_at, log.member, log.partitions = 1, 0.0, True, []
    stand_ins: dict[str, Any] = {
        "hosted": hosted,
        "layout_of": AsyncMock(return_value=Layout(1, b"", [])),
        "KafkaBackbone": MagicMock(return_value=AsyncMock()),
        "KafkaCallers": MagicMock(),
        "KafkaWorkerLog": MagicMock(return_value=log),
        "FunctionRegistrar": MagicMock(return_value=AsyncMock()),
        "make_faust": MagicMock(),
    }
    for name, stand_in in stand_ins.items():
        setattr(kafka_worker, name, stand_in)
    settings = settings_from(drain_s=0.2)
    spec = kafka_worker.WorkerSpec(app)
    asyncio.run(kafka_worker.serve_worker(spec, settings, KafkaSettings(), lambda *_: None))
    sys.stdout.write("ended by itself\n")


if __name__ == "__main__":
    main()
