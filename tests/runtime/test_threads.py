"""Threads of plain functions: a call that is to go no further gives its thread back, whenever it comes to that."""

import asyncio
import threading

import pytest

from stepstream import App, ThreadedContext, on
from stepstream.contract.codec import encode
from stepstream.contract.commands import RunResumed, StepDispatched
from stepstream.contract.events import EventRecord
from stepstream.contract.ids import step_hash
from stepstream.contract.topics import commands_topic
from stepstream.runtime.clocks import VirtualClock
from stepstream.runtime.ports import LogError
from stepstream.runtime.worker.pool import PoolWorker
from stepstream.runtime.worker.worker import Worker
from stepstream.sdk import threads
from stepstream.sdk.execution import Bodies
from tests.runtime.desk import served, started, turns
from tests.runtime.test_drain import Door, until, until_free
from tests.runtime.test_moves import Gate, charging


@pytest.fixture(autouse=True)
def _one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "RUNS_ACTIVE_MAX", 1)


async def test_a_lost_report_gives_its_thread_back() -> None:
    """The next worker of the process has the same threads: else each lost report would take one away for ever."""
    door, ran, bodies = Door(), list[str](), Bodies()

    async def broken(_routing_key: str, value: bytes) -> None:
        raise LogError(f"the broker is away, and {len(value)} bytes are not written")

    door.append = broken  # type: ignore[method-assign]  # There is no broker.
    with pytest.raises(LogError):
        await asyncio.wait_for(Worker(door, VirtualClock(0), charging(ran, threaded=True), bodies=bodies).serve(), 5)
    assert ran == ["charged"]
    await until_free(bodies)
    bodies.threads.close()


async def test_a_body_that_ends_after_its_worker_gives_its_thread_back() -> None:
    """The report of another run was lost while it was at work; its own is not written any more."""
    app, bodies = App("shop"), Bodies()
    begun, go_on = threading.Event(), threading.Event()

    def body() -> None:
        begun.set()
        go_on.wait(20)

    @app.function(on("go"), id="function")
    def function(ctx: ThreadedContext) -> None:
        ctx.step.run("work", body)

    async with served(app, bodies=bodies) as desk:
        await desk.give(started("run"))
        await until(begun.is_set)

        async def broken(_routing_key: str, value: bytes) -> None:
            raise LogError(f"the broker is away, and {len(value)} bytes are not written")

        desk.door.append = broken  # type: ignore[method-assign]  # There is no broker any more.
        await desk.give(RunResumed("other", 1))
        await until(lambda: desk.door.closed)
    go_on.set()
    await until_free(bodies)
    bodies.threads.close()


async def test_a_lent_step_that_went_while_it_was_held_back_gives_its_thread_back() -> None:
    """Its code waits at the door when its partition goes, and is let through afterwards."""
    door, ran, bodies = Door(), list[str](), Bodies()
    gate = Gate(door)
    app = App("shop", queues=["q"])

    @app.function(on("go"), id="function")
    def function(ctx: ThreadedContext) -> None:
        ctx.step.options(queue="q").run("charge", lambda: ran.append("charged"))

    lent = StepDispatched("run", "function", step_hash("charge", 0), "charge", (EventRecord("go"),), 1)
    door.commands = [door.commands[0]._replace(topic=commands_topic("shop", "q"), value=encode(lent))]
    worker = PoolWorker(door, VirtualClock(0), app, "q", bodies=bodies)
    serving = asyncio.ensure_future(worker.serve())
    await asyncio.wait_for(gate.asked.wait(), 5)
    assert door.tenant
    await door.tenant.moving()
    await door.tenant.moved((), lost=False)
    await turns()
    gate.open.set()
    await until_free(bodies)
    assert ran == []
    serving.cancel()
    await asyncio.gather(serving, return_exceptions=True)
    bodies.threads.close()
