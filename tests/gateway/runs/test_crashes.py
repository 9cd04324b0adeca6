"""Crashes of workers and of the engine while apps with official SDKs run: every run ends as if there were none."""

import pytest

from stepstream import Event
from stepstream.testing import Crash, VirtualEngine
from tests.gateway.runs.endpoint import app_of
from tests.gateway.runs.program import Program

STAGES = (("a",), ("b", "c", "nap", "wait"), ("d",))


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("part", ["worker", "engine"])
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("step", ["c", "wait"])
async def test_a_crash_loses_no_result(part: str, when: str, step: str, version: int) -> None:
    """The run continues with its memos; a body runs again only if its result was not durable."""
    program = Program(*STAGES, version=version)
    crash = Crash(part, when, step)  # type: ignore[arg-type]
    async with VirtualEngine(app_of(program), crashes=[crash]) as engine:
        await engine.send(Event("demo/go"))
        await engine.advance("1m")
        await engine.send(Event("demo/reply"))
        run = engine.run("demo-f")
    assert run.status == "completed"
    assert isinstance(run.output, list)
    assert set(map(str, run.output)) == {"a", "b", "c", "d", "nap", "wait"}
    if (part, when) == ("worker", "after"):
        assert program.ran[step] <= 1


@pytest.mark.parametrize("version", [1, 2])
async def test_the_order_of_results_is_that_of_the_engine(version: int) -> None:
    """A run that is loaded after each wait sees its results in the order in which they ended."""
    outputs = []
    for live in (True, False):
        program = Program(*STAGES, version=version)
        async with VirtualEngine(app_of(program), live_cache=live) as engine:
            await engine.send(Event("demo/go"))
            await engine.send(Event("demo/reply"))
            await engine.advance("1m")
            outputs.append(engine.run("demo-f").output)
    assert outputs[0] == outputs[1] == ["a", "b", "c", "wait", "nap", "d"]
