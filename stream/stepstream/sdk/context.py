"""The context: the argument that a handler is called with."""

import asyncio
import logging
from collections.abc import Awaitable, MutableMapping, Sequence
from typing import Any, Generic, TypeVar

from stepstream.sdk.event import Event
from stepstream.sdk.replay import Replay, current_body
from stepstream.sdk.step import Step
from stepstream.sdk.step_call import StepCall
from stepstream.sdk.threaded import ThreadedStep

T = TypeVar("T")
S = TypeVar("S", bound=Step | ThreadedStep)


class RunLogger(logging.LoggerAdapter[logging.Logger]):
    """A logger that adds the run id, the function and the step, and is silent while a replay uses stored results."""

    def __init__(self, logger: logging.Logger, replay: Replay, function: str) -> None:
        super().__init__(logger, {"run_id": replay.run_id, "function": function})
        self._replay = replay

    def isEnabledFor(self, level: int) -> bool:
        """Return whether `level` is logged now."""
        return not self._replay.replaying and super().isEnabledFor(level)

    def process(self, msg: Any, kwargs: MutableMapping[str, Any]) -> tuple[Any, MutableMapping[str, Any]]:
        """Add the run, and the step whose body logs, to the message."""
        step = {"step": body} if (body := current_body.get()) else {}
        kwargs["extra"] = {**(kwargs.get("extra") or {}), **step, **(self.extra or {})}
        return f"[{self._replay.run_id}] {msg}", kwargs


class Group:
    """`ctx.group`: steps in parallel."""

    def __init__(self, replay: Replay) -> None:
        self._replay = replay

    async def parallel(self, *steps: Awaitable[T]) -> list[T]:
        """Run the steps in parallel and return their results in the order of the arguments.

        The first error is raised at once and cancels the others; `asyncio.gather` lets them continue.

        Example:
            ```python
            sizes = await ctx.group.parallel(*(ctx.step.run(f"size {page}", size, page) for page in pages))
            ```
        """
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
        """Return the result of the first step to end, or raise its error, and cancel the others.

        Raises `ValueError` without steps.

        Example:
            ```python
            won = await ctx.group.race(
                ctx.step.wait_for_event("accepted", event="offer.accepted", match="data.offer", timeout="7d"),
                ctx.step.sleep("deadline", "2d"),
            )
            ```
        """
        if not steps:
            raise ValueError("race() needs at least one step")
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
    step: S
    group: Group
    events: list[Event]
    event: Event
    run_id: str
    attempt: int
    logger: RunLogger

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
    """The argument of an `async def` handler.

    Attributes:
        event: The event that started the run; it never changes.
        events: All events that started the run; `event` is the first.
        step: The durable steps, see `Step`.
        group: Steps in parallel, see `Group`.
        run_id: The id of the run, a ULID.
        attempt: How often the code between steps has failed since the last result, from 0.
        logger: Logs with the run id and the step, and not again what a replay repeats.
    """


class ThreadedContext(_Context[ThreadedStep]):
    """The argument of a plain `def` handler: that of `Context`, with steps that block until they have their result."""


def make_context(replay: Replay, step: Step, function: str, events: Sequence[Event], attempt: int) -> Context:
    """Return the context of an async function."""
    return Context(step, replay, function, events, attempt, Group(replay))


def make_threaded_context(
    replay: Replay, step: Step, function: str, events: Sequence[Event], attempt: int
) -> ThreadedContext:
    """Return the context of a plain function."""
    threaded = ThreadedStep(step, asyncio.get_running_loop())
    return ThreadedContext(threaded, replay, function, events, attempt, Group(replay))
