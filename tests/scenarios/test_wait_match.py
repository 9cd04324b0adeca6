"""`match="data.id"` means that both events have the same value there; a missing one never matches."""

import pytest

from stepstream import Event
from tests.scenarios.apps import waiting_app
from tests.scenarios.conftest import EngineOf


async def test_match_wants_the_same_value(engine_of: EngineOf) -> None:
    """match="data.id" means that both events have the same value there."""
    async with engine_of(waiting_app(match="data.id")) as engine:
        await engine.send(Event("start", {"id": 1}), Event("start", {"id": 2}))
        await engine.send(Event("answer", {"id": 2, "n": "b"}), Event("answer", {"id": 1, "n": "a"}))
        assert sorted(str(run.output) for run in engine.runs()) == [
            "{'id': 1, 'n': 'a'}",
            "{'id': 2, 'n': 'b'}",
        ]


@pytest.mark.parametrize("own", [{}, {"id": None}], ids=["missing", "null"])
async def test_a_missing_value_never_matches(engine_of: EngineOf, own: dict[str, None]) -> None:
    """A path that is missing or null on either side never matches."""
    async with engine_of(waiting_app(match="data.id")) as engine:
        await engine.send(Event("start", own))
        await engine.send(Event("answer", {}), Event("answer", {"id": None}))
        await engine.advance("1d")
        assert engine.run().output is None
        assert engine.run().steps[0].status == "timed_out"
