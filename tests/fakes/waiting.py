"""Waits of tests for a condition that no event announces."""

import asyncio
from collections.abc import Callable

_UNTIL_S_MAX = 20.0


async def until(holds: Callable[[], object], timeout_s: float = _UNTIL_S_MAX) -> None:
    """Run the event loop until a condition holds; raise TimeoutError when it does not within `timeout_s`."""
    async with asyncio.timeout(timeout_s):
        while not holds():  # noqa: ASYNC110 - a condition has no event to await
            await asyncio.sleep(0)


async def iterate(times: int = 100) -> None:
    """Run this many iterations of the event loop: every task that can proceed without I/O does."""
    for _ in range(times):
        await asyncio.sleep(0)
