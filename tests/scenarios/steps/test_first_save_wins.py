"""The first result of a step is kept; the same result again is a success, and a different one is ignored."""

from typing import Any

import msgspec
import pytest

from stepstream import App, Context, Event, on
from stepstream.contract.codec import dump_json, encode
from stepstream.contract.inbox import InboxRecord, StepReported
from stepstream.contract.outcomes import Value
from stepstream.runtime.ports import WorkerLog
from tests.scenarios.conftest import EngineOf


class Repeating:
    """The log of a worker that appends each report of a step twice, the second time with `second` if that is given."""

    def __init__(self, log: WorkerLog, second: str | None) -> None:
        self._log = log
        self._second = second
        self._decoder: msgspec.json.Decoder[InboxRecord] = msgspec.json.Decoder(InboxRecord)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._log, name)

    async def append(self, routing_key: str, value: bytes) -> None:
        """Append a report, and a second one of the same step."""
        await self._log.append(routing_key, value)
        report = self._decoder.decode(value)
        if isinstance(report, StepReported):
            if self._second is not None:
                report = msgspec.structs.replace(report, outcome=Value(dump_json(self._second)))
            await self._log.append(routing_key, encode(report))


@pytest.mark.parametrize("second", [None, "other"], ids=["repeat", "different"])
async def test_the_first_result_of_a_step_is_kept(engine_of: EngineOf, second: str | None) -> None:
    """A second result of a step is not an error and changes nothing, whatever it is."""
    app = App("saves")

    @app.function(on("go"))
    async def function(ctx: Context) -> list[str]:
        first = await ctx.step.run("a", lambda: "first")
        await ctx.step.sleep("nap", "1h")
        return [first, await ctx.step.run("b", lambda: "b")]

    def wrap(name: str, port: Any) -> Any:
        return Repeating(port, second) if name == "worker-saves" else port

    async with engine_of(app, wrap=wrap) as engine:
        await engine.send(Event("go"))
        await engine.advance("1h")
        run = engine.run()
        assert (run.status, run.output) == ("completed", ["first", "b"])
        assert [step.output for step in run.steps] == ["first", None, "b"]
