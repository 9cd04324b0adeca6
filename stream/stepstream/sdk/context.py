"""What a function gets as its first argument."""

import asyncio
import logging
from collections.abc import Awaitable, MutableMapping, Sequence
from typing import Any, Generic, TypeVar

from stepstream.sdk.event import Event
from stepstream.sdk.replay import Replay, current_body
from stepstream.sdk.step import Step, StepCall
from stepstream.sdk.threaded import ThreadedStep

T = TypeVar("T")
S = TypeVar("S", bound=Step | ThreadedStep)


class RunLogger(logging.LoggerAdapter[logging.Logger]):
    """A logger that knows its run, and is silent while kept results are replayed."""

    def __init__(self, logger: logging.Logger, replay: Replay, function: str) -> None:
        super().__init__(logger, {"run_id": replay.run_id, "function": function})
        self._replay = replay

    def isEnabledFor(self, level: int) -> bool:
        """Tell whether `level` is logged now."""
        return not self._replay.replaying and super().isEnabledFor(level)

    def process(self, msg: Any, kwargs: MutableMapping[str, Any]) -> tuple[Any, MutableMapping[str, Any]]:
        """Add the run, and the step whose body speaks, to the message."""
        step = {"step": body} if (body := current_body.get()) else {}
        kwargs["extra"] = {**(kwargs.get("extra") or {}), **step, **(self.extra or {})}
        return f"[{self._replay.run_id}] {msg}", kwargs


class Group:
    """`ctx.group`: steps side by side."""

    def __init__(self, replay: Replay) -> None:
        self._replay = replay

    async def parallel(self, *steps: Awaitable[T]) -> list[T]:
        """Run all; return their results in order. The first error is raised once it comes, and cancels the others."""
        group = self._replay.groups.new()
        for step in steps:
            if isinstance(step, StepCall):
                step.group = group
        tasks = [asyncio.ensure_future(step) for step in steps]
        try:
            return list(await asyncio.gather(*tasks))
        finally:
            _cancel(tasks)

    async def race(self, *steps: Awaitable[T]) -> T:
        """Return the result of the first to settle, or raise its error; the others are cancelled."""
        if not steps:
            raise ValueError("race() wants at least one step")
        tasks = [asyncio.ensure_future(step) for step in steps]
        settled: list[asyncio.Future[T]] = []
        for task in tasks:
            task.add_done_callback(settled.append)
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            return settled[0].result()
        finally:
            _cancel(tasks)


def _cancel(tasks: Sequence[asyncio.Future[Any]]) -> None:
    for task in tasks:
        task.cancel()


class _Context(Generic[S]):
    def __init__(
        self, step: S, replay: Replay, function: str, events: Sequence[Event], attempt: int, group: Group
    ) -> None:
        self.step = step
        self.group = group
        self.events = list(events)
        self.event = self.events[0]
        self.run_id = replay.run_id
        self.attempt = attempt
        self.logger = RunLogger(logging.getLogger(f"stepstream.run.{function}"), replay, function)


class Context(_Context[Step]):
    """What an `async def` function gets: its event (the first of `events`), run id, attempt from 0, steps, logger."""


class ThreadedContext(_Context[ThreadedStep]):
    """What a plain `def` function gets: the same, with steps that block."""


def make_context(replay: Replay, step: Step, function: str, events: Sequence[Event], attempt: int) -> Context:
    """Return the context of an async function."""
    return Context(step, replay, function, events, attempt, Group(replay))


def make_threaded_context(
    replay: Replay, step: Step, function: str, events: Sequence[Event], attempt: int
) -> ThreadedContext:
    """Return the context of a plain function."""
    threaded = ThreadedStep(step, asyncio.get_running_loop())
    return ThreadedContext(threaded, replay, function, events, attempt, Group(replay))
