"""Threads of plain bodies: they are counted until the body ends, and steps that occupy them are named."""

import asyncio
import logging
import threading

import pytest

from stepstream.sdk.threads.body_threads import BodyThreads
from tests.fakes.waiting import iterate, until


async def test_bodies_that_hang_are_named_while_others_wait(caplog: pytest.LogCaptureFixture) -> None:
    """Two threads run bodies that do not end, after their time limits too: two more wait, and the log says for what."""
    threads, finish = BodyThreads(2, warn_s=0.05), threading.Event()
    names = ("charge of order", "charge of order", "mail of order", "mail of order")
    bodies = [asyncio.ensure_future(threads.run(finish.wait, name)) for name in names]
    await until(lambda: threads.in_use == 2)
    for body in bodies[:2]:
        body.cancel()
    await iterate()
    assert (threads.in_use, threads.waiting) == (2, 2)
    with caplog.at_level(logging.WARNING):
        await until(lambda: caplog.messages)
    (message,) = caplog.messages
    assert (
        "all 2 threads for plain step bodies are in use, and 2 bodies wait for one (step charge of order: 2" in message
    )
    finish.set()
    assert await asyncio.gather(*bodies[2:]) == [True, True]
    # The threads of the cancelled bodies end on their own.
    await until(lambda: (threads.in_use, threads.waiting) == (0, 0))
    threads.close()


async def test_body_that_never_got_a_thread_is_not_counted() -> None:
    """Its run was stopped while it waited."""
    threads, finish = BodyThreads(1), threading.Event()
    bodies = [asyncio.ensure_future(threads.run(finish.wait, "work of f")) for _ in range(2)]
    await until(lambda: threads.in_use == 1)
    bodies[1].cancel()
    await iterate()
    assert (threads.in_use, threads.waiting) == (1, 0)
    finish.set()
    await bodies[0]
    threads.close()
