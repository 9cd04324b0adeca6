"""Parts that begin again when they fail, until they are cancelled."""

import asyncio
import contextlib

import pytest

from stepstream.runtime.ports import LogError
from stepstream.runtime.supervision import keep_serving


async def test_what_fails_begins_again(caplog: pytest.LogCaptureFixture) -> None:
    """Also when a client cancels what it has in its hands; each is told."""
    begun = asyncio.Queue[int]()
    errors = [OSError("no broker"), asyncio.CancelledError(), LogError("reading: no broker answers")]

    async def serve() -> None:
        begun.put_nowait(len(errors))
        if errors:
            raise errors.pop(0)
        await asyncio.get_running_loop().create_future()

    serving = asyncio.ensure_future(keep_serving("part", serve, 0.0))
    assert [await asyncio.wait_for(begun.get(), 5) for _ in range(4)] == [3, 2, 1, 0]
    assert [record.message.split(" ")[1] for record in caplog.records] == ["failed;", "was", "failed;"]
    assert caplog.records[-1].message == "part failed; restarting in 0 s: reading: no broker answers"
    assert [bool(record.exc_info) for record in caplog.records] == [True, True, False]
    serving.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await serving
    assert serving.cancelled()


async def test_a_group_that_fails_when_it_is_cancelled_does_not_begin_again() -> None:
    """Such a group swallows that it was cancelled, and the process would never end."""
    begun = asyncio.Queue[None]()
    fail = asyncio.Event()

    async def body() -> None:
        await fail.wait()
        raise OSError("no broker")

    async def serve() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(body())
            begun.put_nowait(None)

    serving = asyncio.ensure_future(keep_serving("part", serve, 0.0))
    await begun.get()
    fail.set()
    await asyncio.sleep(0)
    serving.cancel()
    await asyncio.wait({serving}, timeout=5)
    assert (serving.done(), begun.empty()) == (True, True)
