"""A plain function that waits often: the cost of a wait does not grow with the number of waits before it."""

import asyncio
from typing import Any

import pytest

from stepstream import App, Event, ThreadedContext, on
from tests.scenarios.conftest import EngineOf, World

WAITS = 40


async def test_a_plain_function_keeps_its_thread_while_it_waits(
    engine_of: EngineOf, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its code is entered once for many waits. Without the live cache it is entered again after each wait, but the
    stored results cost no switch to the event loop."""
    app = App("threads")
    entries: list[int] = []
    steps: list[int] = []

    @app.function(on("go"))
    def function(ctx: ThreadedContext) -> int:
        entries.append(1)
        for number in range(WAITS):
            steps.append(number)
            ctx.step.sleep(f"nap {number}", "1s")
        return WAITS

    switches: list[object] = []
    threadsafe = asyncio.run_coroutine_threadsafe

    def count(code: Any, loop: asyncio.AbstractEventLoop) -> Any:
        switches.append(code)
        return threadsafe(code, loop)

    monkeypatch.setattr(asyncio, "run_coroutine_threadsafe", count)
    async with engine_of(app) as engine:
        await engine.send(Event("go"))
        for _ in range(WAITS):
            await engine.advance("1s")
        assert engine.run().output == WAITS
    if world.live_cache:
        assert (len(entries), len(steps)) == (1, WAITS)
    else:
        assert (len(entries), len(steps)) == (WAITS + 1, WAITS * (WAITS + 3) // 2)
    assert len(switches) == WAITS
