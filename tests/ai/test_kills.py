"""Agents of each package with three parallel tools, killed at every point: all requests and calls are counted."""

from collections.abc import Iterable
from typing import Literal

import pytest

from stepstream import Event
from stepstream.testing import VirtualEngine
from stepstream.testing.crashes import Crash
from tests.ai.agents import ANSWER, STEPS, TOOLS, Calls, Support
from tests.ai.langchain_support import LangChainSupport
from tests.ai.openai_support import OpenAISupport

PARTS: tuple[Literal["worker", "engine"], ...] = ("worker", "engine")
MOMENTS: tuple[Literal["before", "after"], ...] = ("before", "after")

AGENTS = (Support, OpenAISupport, LangChainSupport)

ONCE = {"model": 2, **dict.fromkeys(TOOLS, 1)}


def repeated(step: str, calls: Iterable[str]) -> dict[str, int]:
    """Return how often ran what was lost with a worker: the body of a step, and of those that it reports after it.

    It reports tools in the order in which they were called.
    """
    if step.startswith("agent/model"):
        return {"model": 3}
    called = [name for name in calls if name in TOOLS]
    return dict.fromkeys(called[called.index(TOOLS[STEPS.index(step) - 1]) :], 2)


@pytest.mark.parametrize("agent", AGENTS)
@pytest.mark.parametrize("live_cache", [True, False])
@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("when", MOMENTS)
@pytest.mark.parametrize("part", PARTS)
async def test_a_kill_repeats_only_what_was_not_stored(
    agent: type[Calls],
    part: Literal["worker", "engine"],
    when: Literal["before", "after"],
    step: str,
    live_cache: bool,
) -> None:
    """Only bodies whose result the killed worker had not written run again, each once; the answer is the same."""
    support = agent()
    async with VirtualEngine(support.app, crashes=[Crash(part, when, step)], live_cache=live_cache) as engine:
        await engine.send(Event("mail"))
        await engine.advance("10s")
        run = engine.run()
        assert run.output == ANSWER
        assert sorted(found.id for found in run.steps) == sorted(STEPS)
        assert not run.warnings
    assert support.calls == {**ONCE, **(repeated(step, support.calls) if (part, when) == ("worker", "before") else {})}
