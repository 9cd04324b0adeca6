"""A signal wakes the one run that waits for it, with its data; one that nobody waits for is not kept."""

from stepstream import Event
from tests.scenarios.apps import signal_app
from tests.scenarios.conftest import EngineOf


async def test_a_signal_brings_data_and_is_not_kept(engine_of: EngineOf) -> None:
    """A signal that nobody waits for answers "not found" and is not kept."""
    async with engine_of(signal_app("fail")) as engine:
        assert not await engine.signal("approve", 1)
        await engine.send(Event("go"))
        assert engine.run().status == "running"
        assert await engine.signal("approve", {"by": "ann"})
        assert not await engine.signal("approve", 2)
        assert engine.run().output == {"by": "ann"}


async def test_a_signal_that_never_comes_gives_none(engine_of: EngineOf) -> None:
    """On timeout the result is None, and the name is free again."""
    async with engine_of(signal_app("fail")) as engine:
        await engine.send(Event("go"))
        await engine.advance("1h")
        assert engine.run().output is None
        assert not await engine.signal("approve")


async def test_the_name_is_free_after_a_cancel(engine_of: EngineOf) -> None:
    """One live waiter for a name: a cancelled run lives no more, and another may wait."""
    async with engine_of(signal_app("fail")) as engine:
        await engine.send(Event("go"))
        first = engine.run()
        assert await engine.cancel(first.run_id)
        assert not await engine.signal("approve", "early")
        await engine.send(Event("go"))
        assert await engine.signal("approve", "yes")
        assert {run.status: run.output for run in engine.runs()} == {"cancelled": None, "completed": "yes"}
