"""`ctx.group`: steps that run in parallel."""

import asyncio
from collections.abc import Awaitable, Sequence
from typing import TypeVar

from stepstream.sdk.replay.replay import Replay
from stepstream.sdk.steps.step_call import StepCall

T = TypeVar("T")


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
            await self._cancel(tasks)

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
            await self._cancel(tasks)

    async def _cancel(self, tasks: Sequence["asyncio.Future[T]"]) -> None:
        for task in tasks:
            task.cancel()
