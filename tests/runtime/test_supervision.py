"""Components are restarted when they fail, until they are cancelled."""

import asyncio
import contextlib

import pytest

from stepstream.runtime.ports import LogError
from stepstream.runtime.supervision import keep_serving


async def test_failed_component_is_restarted(caplog: pytest.LogCaptureFixture) -> None:
    """Also if a Kafka client cancels it; each failure is logged."""
    started = asyncio.Queue[int]()
    errors = [OSError("no broker"), asyncio.CancelledError(), LogError("reading: no broker answers")]

    async def serve() -> None:
        started.put_nowait(len(errors))
        if errors:
            raise errors.pop(0)
        await asyncio.get_running_loop().create_future()

    serving = asyncio.ensure_future(keep_serving("part", serve, 0.0))
    assert [await asyncio.wait_for(started.get(), 5) for _ in range(4)] == [3, 2, 1, 0]
    assert [record.message.split(" ")[1] for record in caplog.records] == ["failed;", "was", "failed;"]
    assert caplog.records[-1].message == "part failed; restarting in 0 s: reading: no broker answers"
    assert [bool(record.exc_info) for record in caplog.records] == [True, True, False]
    serving.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await serving
    assert serving.cancelled()


async def test_task_group_that_fails_while_cancelled_is_not_restarted() -> None:
    """It raises its failure instead of CancelledError; a restart would keep the process from ending."""
    started = asyncio.Queue[None]()
    fail = asyncio.Event()

    async def body() -> None:
        await fail.wait()
        raise OSError("no broker")

    async def serve() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(body())
            started.put_nowait(None)

    serving = asyncio.ensure_future(keep_serving("part", serve, 0.0))
    await started.get()
    fail.set()
    await asyncio.sleep(0)
    serving.cancel()
    await asyncio.wait({serving}, timeout=5)
    assert (serving.done(), started.empty()) == (True, True)
