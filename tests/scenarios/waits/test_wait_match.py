"""`match=` means that both events have the same value at a path; a missing one never matches."""

import pytest

from stepstream import Event
from tests.scenarios.apps import waiting_app
from tests.scenarios.conftest import EngineOf


async def test_match_requires_the_same_value(engine_of: EngineOf) -> None:
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


@pytest.mark.parametrize(
    ("own", "other", "matches"),
    [(1, "1", False), ("1", 1, False), (1, 1.0, True), (True, 1, False), ("a", "A", False), ([1], [1], True)],
    ids=str,
)
async def test_values_match_by_type_and_value(engine_of: EngineOf, own: object, other: object, matches: bool) -> None:
    """A number does not equal its string; 1 and 1.0 are one number in JSON."""
    async with engine_of(waiting_app(match="data.id")) as engine:
        await engine.send(Event("start", {"id": own}))
        await engine.send(Event("answer", {"id": other}))
        assert (engine.run().status == "completed") == matches


async def test_match_takes_a_nested_path(engine_of: EngineOf) -> None:
    """A path leads through objects, and to the event's own fields."""
    async with engine_of(waiting_app(match="user.id")) as engine:
        await engine.send(Event("start", user={"id": "u-1"}))
        await engine.send(Event("answer", {"n": 1}, user={"id": "u-2"}), Event("answer", {"n": 2}, user={"id": "u-1"}))
        assert engine.run().output == {"n": 2}
