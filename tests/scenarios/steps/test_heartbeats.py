"""ctx.heartbeat says that a body is alive and how far it is; the next attempt continues from there."""

import asyncio
from typing import Any

import pytest

from stepstream import App, Context, Event, StepError, ThreadedContext, on
from stepstream.contract.inbox import StepReported, decode_inbox
from stepstream.runtime.ports import LogError
from stepstream.sdk.event import to_record
from stepstream.testing import VirtualEngine
from tests.fakes.waiting import until
from tests.scenarios.conftest import EngineOf


def progress_of(engine: VirtualEngine) -> list[tuple[str, object, int]]:
    """Return the status, the progress and the attempts of the steps of the only run, once there is one."""
    return [(step.status, step.progress, step.attempts) for run in engine.runs() for step in run.steps]


class Dying:
    """The log of a worker that fails at the first result of a step, once."""

    def __init__(self, port: Any, died: list[str]) -> None:
        self._port = port
        self._died = died

    def __getattr__(self, name: str) -> Any:
        return getattr(self._port, name)

    async def append(self, routing_key: str, value: bytes) -> None:
        """Append a report, or fail."""
        if isinstance(decode_inbox(value), StepReported) and not self._died:
            self._died.append("died")
            raise LogError("the test asked for it")
        await self._port.append(routing_key, value)


@pytest.mark.parametrize("queue", ["", "gpu"])
async def test_the_next_attempt_gets_what_the_failed_one_said(engine_of: EngineOf, queue: str) -> None:
    """Its newest progress is in its report, also if it was never reported before; the run shows it."""
    app = App("copy", queues=["gpu"])
    found: list[object] = []

    async def copy() -> str:
        found.append(ctx_of[0].progress)
        ctx_of[0].heartbeat({"page": 3 * len(found)})
        if len(found) < 3:
            raise ValueError("broken")
        return "copied"

    ctx_of: list[Context] = []

    @app.function(on("go"))
    async def function(ctx: Context) -> str:
        ctx_of[:] = [ctx]
        return await ctx.step.options(queue=queue, retries=2, backoff="1m").run("copy", copy)

    async with engine_of(app) as engine:
        await engine.send(Event("go"))
        assert progress_of(engine) == [("retrying", {"page": 3}, 1)]
        await engine.advance("2m")
        assert engine.run().output == "copied"
    assert found == [None, {"page": 3}, {"page": 6}]


@pytest.mark.parametrize("queue", ["", "gpu"])
async def test_a_body_continues_after_the_crash_of_its_worker(engine_of: EngineOf, queue: str) -> None:
    """The worker reported nothing but the heartbeat; this is the same attempt, which another worker runs again."""
    app = App("copy", queues=["gpu"])
    found: list[object] = []

    @app.function(on("go"))
    async def function(ctx: Context) -> object:
        async def copy() -> object:
            found.append(ctx.progress)
            if len(found) == 1:
                ctx.heartbeat(40)
                await until(lambda: ("running", 40, 1) in progress_of(engine))
            return ctx.progress

        return await ctx.step.options(queue=queue).run("copy", copy)

    died: list[str] = []
    async with engine_of(app, wrap=lambda name, port: Dying(port, died) if "worker" in name else port) as engine:
        await engine.send(Event("go"))
        assert engine.run().output == 40
        assert progress_of(engine) == [("completed", 40, 1)]
    assert (found, died) == ([None, 40], ["died"])


async def test_a_silent_body_is_retried_and_fails_with_a_code(engine_of: EngineOf) -> None:
    """Each attempt without a heartbeat in time is cancelled; a plain function can say so too."""
    app = App("copy")
    cancelled: list[int] = []

    async def silent() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.append(1)
            raise

    @app.function(on("go"))
    def function(ctx: ThreadedContext) -> str:
        try:
            ctx.step.options(retries=1, backoff=0, heartbeat_timeout=0.01).run("copy", silent)
        except StepError as error:
            return f"{error.code} {error.name}"
        return "never"

    async with engine_of(app) as engine:
        await engine.send(Event("go"))
        await engine.advance(0)
        assert engine.run().output == "heartbeat-timeout HeartbeatTimeoutError"
    assert len(cancelled) == 2


async def test_the_loser_of_a_race_that_sent_heartbeats_is_cancelled(engine_of: EngineOf) -> None:
    """The engine had a row of it from its first heartbeat on, which ends with the race."""
    app = App("copy")
    begun = asyncio.Event()

    @app.function(on("go"))
    async def function(ctx: Context) -> str:
        async def endless() -> str:
            ctx.heartbeat(1)
            begun.set()
            await asyncio.Event().wait()
            return "never"

        async def quick() -> str:
            await begun.wait()
            await until(lambda: ("running", 1, 1) in progress_of(engine))
            return "won"

        won = await ctx.group.race(ctx.step.run("endless", endless), ctx.step.run("quick", quick))
        await ctx.step.sleep("nap", "1h")
        return won

    async with engine_of(app) as engine:
        await engine.engine.send([to_record(Event("go"))])
        await begun.wait()
        await engine.until_idle()
        assert progress_of(engine)[:2] == [("cancelled", 1, 1), ("completed", None, 1)]
        await engine.advance("1h")
        assert engine.run().output == "won"
