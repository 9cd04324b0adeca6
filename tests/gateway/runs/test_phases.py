"""The phases of the calls to a function: each move of the table, and the discovery call that some of them begin."""

import asyncio

import pytest

from stepstream.gateway.runs.phases import PHASES, Need, OpenCalls, Phase
from tests.fakes.waiting import iterate

MOVES = [(was, need, to) for was, moves in PHASES.items() for need, to in moves.items()]


@pytest.mark.parametrize(("was", "need", "to"), MOVES)
async def test_a_discovery_call_begins_when_calling_is_entered(was: Phase, need: Need, to: Phase) -> None:
    """A move that stays in a phase, or leads elsewhere, begins none."""
    begun: list[int] = []

    async def discover() -> None:
        begun.append(1)

    calls = OpenCalls(discover, begun.append, lambda: None)  # type: ignore[arg-type]
    calls.phase = was
    calls.need(need)
    await iterate(2)
    assert (calls.phase, begun) == (to, [1] * (to is Phase.CALLING))


async def test_an_error_of_a_call_is_passed_on() -> None:
    """A task that fails must not leave its run without an end."""
    failed: list[Exception] = []
    proceeded = asyncio.Event()

    async def broken() -> None:
        raise ValueError("broken")

    calls = OpenCalls(broken, failed.append, proceeded.set)
    calls.need(Need.CALL)
    await asyncio.wait_for(proceeded.wait(), 60)
    assert [str(error) for error in failed] == ["broken"]
    assert not calls
