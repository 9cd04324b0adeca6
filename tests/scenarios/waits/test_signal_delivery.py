"""A signal wakes the one run that waits for it, with its data; without such a run it is not kept."""

from stepstream import Event
from tests.scenarios.apps import signal_app
from tests.scenarios.conftest import EngineOf


async def test_a_signal_delivers_data_and_is_not_kept(engine_of: EngineOf) -> None:
    """A signal for which no run waits returns False and is not kept."""
    async with engine_of(signal_app("fail")) as engine:
        assert not await engine.signal("approve", 1)
        await engine.send(Event("go"))
        assert engine.run().status == "running"
        assert await engine.signal("approve", {"by": "ann"})
        assert not await engine.signal("approve", 2)
        assert engine.run().output == {"by": "ann"}


async def test_a_signal_that_never_comes_returns_none(engine_of: EngineOf) -> None:
    """On timeout the result is None, and the name is free again."""
    async with engine_of(signal_app("fail")) as engine:
        await engine.send(Event("go"))
        await engine.advance("1h")
        assert engine.run().output is None
        assert not await engine.signal("approve")


async def test_a_cancelled_run_frees_its_signal(engine_of: EngineOf) -> None:
    """Another run may wait for the name of a run that was cancelled."""
    async with engine_of(signal_app("fail")) as engine:
        await engine.send(Event("go"))
        first = engine.run()
        assert await engine.cancel(first.run_id)
        assert not await engine.signal("approve", "early")
        await engine.send(Event("go"))
        assert await engine.signal("approve", "yes")
        assert {run.status: run.output for run in engine.runs()} == {"cancelled": None, "completed": "yes"}
