"""Waits of tests for what other processes do: each check takes CPU time from them, so there is a pause between two."""

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

# Most conditions hold much sooner; on a loaded machine, a chain of starts and rebalances takes a minute.
WAIT_S_MAX = 120.0
# For the answer to a request.
ANSWER_S_MAX = 60.0
_POLL_S = 0.05
T = TypeVar("T")


def within(seconds: float, holds: Callable[[], T]) -> T:
    """Return what a condition returns as soon as it holds, or at the end of the time if it does not."""
    deadline, never = time.monotonic() + seconds, threading.Event()
    while not (found := holds()) and time.monotonic() <= deadline:
        never.wait(_POLL_S)
    return found


def until(holds: Callable[[], T], seconds: float = WAIT_S_MAX, missing: str = "the condition did not hold") -> T:
    """Return what a condition returns when it holds; fail when it does not in time, with what did not happen."""
    found = within(seconds, holds)
    assert found, f"{missing} within {seconds:.0f} s"
    return found


async def until_async(holds: Callable[[], Awaitable[object]], seconds: float = WAIT_S_MAX) -> None:
    """Return when a condition that takes requests holds; fail when it does not in time."""
    deadline = time.monotonic() + seconds
    while not await holds():
        assert time.monotonic() < deadline, f"the condition did not hold within {seconds:.0f} s"
        await asyncio.sleep(_POLL_S)
