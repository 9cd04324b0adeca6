"""`if_` is CEL on `event`, the run's own event, and `async`, the candidate."""

import pytest

from stepstream import Event
from tests.scenarios.apps import waiting_app
from tests.scenarios.conftest import EngineOf


async def test_an_expression_sees_both_events(engine_of: EngineOf) -> None:
    """`event` is the run's own, `async` the other; an error in the expression is not a match."""
    condition = "async.data.id == event.data.id && async.data.amount >= event.data.least"
    async with engine_of(waiting_app(if_=condition)) as engine:
        await engine.send(Event("start", {"id": "x", "least": 10}))
        await engine.send(
            Event("answer", {"id": "x", "amount": 9}),
            Event("answer", {"id": "x"}),
            Event("answer", {"id": "y", "amount": 99}),
        )
        assert engine.run().status == "running"
        await engine.send(Event("answer", {"id": "x", "amount": 10}))
        assert engine.run().output == {"id": "x", "amount": 10}


async def test_an_expression_without_an_equality_is_scanned(engine_of: EngineOf) -> None:
    """A wait that no equality can index is compared with every event of its name."""
    async with engine_of(waiting_app(if_="async.data.n > event.data.n")) as engine:
        await engine.send(Event("start", {"n": 5}))
        await engine.send(Event("answer", {"n": 5}), Event("answer", {"n": 6}))
        assert engine.run().output == {"n": 6}


async def test_an_invalid_expression_fails_at_the_call(engine_of: EngineOf) -> None:
    """The error has the position and the reason."""
    async with engine_of(waiting_app(if_="async.data.x = 1")) as engine:
        await engine.send(Event("start"))
        assert "1:14" in str(engine.run().error)


@pytest.mark.parametrize("condition", ["async.data.error == null", "async.data.error == event.data.error"])
async def test_if_compares_null_as_a_trigger_does(engine_of: EngineOf, condition: str) -> None:
    """In if_= null equals null and a missing field is an error, so no match; only match= never matches null."""
    async with engine_of(waiting_app(if_=condition)) as engine:
        await engine.send(Event("start", {"error": None}))
        await engine.send(Event("answer", {"error": "lost"}), Event("answer", {}), Event("answer", {"error": 0}))
        assert engine.run().status == "running"
        await engine.send(Event("answer", {"error": None}))
        assert engine.run().output == {"error": None}
