"""A run whose plan is slow to become durable does not get stuck when the worker dies meanwhile."""

import asyncio
from typing import Any

import msgspec
import pytest

from stepstream import App, Context, Event, on
from stepstream.contract.inbox import InboxRecord, StepsPlanned
from stepstream.runtime.ports import LogError, WorkerLog
from stepstream.sdk.event import to_record
from tests.scenarios.conftest import EngineOf

decode = msgspec.json.Decoder(InboxRecord).decode


class Slow:
    """A worker's log in which the first plan of a step is delayed, and then lost with the worker."""

    def __init__(self, log: WorkerLog, lost: list[str], release: asyncio.Event) -> None:
        self._log = log
        self._lost = lost
        self._release = release

    def __getattr__(self, name: str) -> Any:
        return getattr(self._log, name)

    async def append(self, routing_key: str, value: bytes) -> None:
        """Append a report, unless it is the one that is lost."""
        report = decode(value)
        if isinstance(report, StepsPlanned) and not self._lost and {plan.id for plan in report.plans} >= {"slow"}:
            self._lost.append(report.run_id)
            await self._release.wait()
            raise LogError("the worker dies")
        await self._log.append(routing_key, value)


@pytest.mark.parametrize("steps", [["slow"], ["slow", "slower"]], ids="-".join)
async def test_a_lost_plan_is_made_again(engine_of: EngineOf, steps: list[str]) -> None:
    """Other runs progress while a plan is being written; if it is lost, its run is re-entered and plans again."""
    app = App("slow")
    release = asyncio.Event()
    lost: list[str] = []

    @app.function(on("slow"))
    async def slow(ctx: Context) -> str:
        await ctx.group.parallel(*[ctx.step.sleep(step, "1h") for step in steps])
        return "awake"

    @app.function(on("quick"))
    async def quick(ctx: Context) -> str:
        for number in range(5):
            await ctx.step.sleep(f"nap-{number}", 0)
        release.set()
        return "awake"

    def wrap(name: str, port: Any) -> Any:
        return Slow(port, lost, release) if name == "worker-slow" else port

    async with engine_of(app, wrap=wrap) as engine:
        await engine.engine.send([to_record(Event("slow")), to_record(Event("quick"))])
        await release.wait()
        await engine.until_idle()
        await engine.advance("1h")
        assert {run.function: run.output for run in engine.runs()} == {"slow": "awake", "quick": "awake"}
    assert len(lost) == 1
