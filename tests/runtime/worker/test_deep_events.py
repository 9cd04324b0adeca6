"""Events at the limit of their depth, and what the engine wraps them in."""

import asyncio
from typing import Any

from stepstream import App, Context, on
from stepstream.contract.codec import Raw, encode
from stepstream.contract.commands import RunStarted
from stepstream.contract.events import EventRecord, event_record
from stepstream.contract.inbox import RunFailed
from stepstream.runtime.worker.worker import Worker
from stepstream.testing import VirtualEngine
from tests.fakes.waiting import until
from tests.fakes.worker_log import FakeWorkerLog
from tests.runtime.worker.harness import options, serving


def nested(levels: int) -> dict[str, Any]:
    """Return an object with so many levels of objects in it."""
    value: dict[str, Any] = {}
    for _ in range(levels):
        value = {"in": value}
    return value


async def test_a_failure_handler_gets_an_event_of_the_maximum_depth() -> None:
    """The event of the failed run is two levels down in that of its handler. It is shown and listed as any other."""
    app = App("deep")
    seen: list[object] = []

    async def handler(ctx: Context) -> None:
        seen.append(ctx.event.data["event"]["data"])

    @app.function(on("go"), retries=0, on_failure=handler)
    async def function(ctx: Context) -> None:
        raise ValueError("no")

    @app.function(on("also"), on("stream/function.finished"))
    async def other(ctx: Context) -> object:
        seen.append(ctx.event.name)
        return nested(99)

    async with VirtualEngine(app) as engine:
        await engine.engine.send([event_record("go", nested(99)), event_record("also")])
        await asyncio.wait_for(engine.until_idle(), 20)
        assert {run.status for run in engine.runs()} == {"failed", "completed"}
    assert nested(99) in seen
    assert seen.count("stream/function.finished") == 2


async def test_an_event_that_cannot_be_read_fails_only_its_run() -> None:
    """The worker serves other runs."""
    app = App("shop")

    @app.function(on("go"))
    async def function(ctx: Context) -> str:
        return "done"

    broken = RunStarted("run", "function", 1, (EventRecord("go", Raw(encode(nested(200)))),), 1)
    log = FakeWorkerLog(broken)
    async with serving(Worker(log, app, options())) as task:
        await until(lambda: log.committed or task.done())
        assert not task.done()
        assert log.kinds == [RunFailed]
