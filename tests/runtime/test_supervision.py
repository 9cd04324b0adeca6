"""Components are restarted when they fail, until they are cancelled."""

import asyncio
import contextlib

import pytest

from stepstream.runtime.ports import LogError, StoreError
from stepstream.runtime.recurrence import Recurrence
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
    assert [await asyncio.wait_for(started.get(), 60) for _ in range(4)] == [3, 2, 1, 0]
    assert [record.message.split(" ")[1] for record in caplog.records] == ["failed;", "was", "failed;"]
    assert caplog.records[-1].message == "part failed; restarting in 0 s: reading: no broker answers"
    assert [bool(record.exc_info) for record in caplog.records] == [True, True, False]
    serving.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await serving
    assert serving.cancelled()


async def test_pauses_grow_while_a_disk_fails(caplog: pytest.LogCaptureFixture) -> None:
    """Each restart on a full disk reads and writes a lot; a failure of the log changes nothing about that."""
    errors = [StoreError("full"), StoreError("full 2"), LogError("no broker"), StoreError("read-only")]
    done = asyncio.Event()

    async def serve() -> None:
        if errors:
            raise errors.pop(0)
        done.set()
        await asyncio.get_running_loop().create_future()

    serving = asyncio.ensure_future(keep_serving("part", serve, 0.01))
    await asyncio.wait_for(done.wait(), 60)
    assert [record.message for record in caplog.records] == [
        "part failed; restarting in 0.01 s: full",
        "part failed; restarting in 0.02 s: full 2",
        "part failed; restarting in 0.01 s: no broker",
        "part failed; restarting in 0.04 s: read-only",
    ]
    assert not any(record.exc_info for record in caplog.records)
    serving.cancel()
    await asyncio.gather(serving, return_exceptions=True)


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
    await asyncio.wait({serving}, timeout=60)
    assert (serving.done(), started.empty()) == (True, True)


def test_condition_that_lasts_is_logged_at_growing_intervals() -> None:
    """Numbers in its text do not make it another condition; one that was absent for long is logged at once again."""
    now = [0.0]
    recurrence = Recurrence(lambda: now[0])
    logged: list[tuple[float, str]] = []

    def observe(until_s: float, text: str = "the log ends at {:.0f}") -> None:
        while now[0] < until_s:
            if (more := recurrence.occurs(text.format(now[0]))) is not None:
                logged.append((now[0], more))
            now[0] += 0.5

    observe(500)
    assert logged == [
        (0, ""),
        (60, " (121 times in 1 min)"),
        (180, " (361 times in 3 min)"),
        (420, " (841 times in 7 min)"),
    ]
    observe(501, "no broker answers")
    assert logged[-1] == (500, "")
    assert recurrence.ends() == 1
    assert recurrence.ends() is None
    now[0] += 600
    observe(1_102, "no broker answers")
    assert logged[-1] == (1_101, "")


def test_conditions_that_alternate_are_logged_once_each() -> None:
    """An outage often has two texts: a component fails to connect, then to close."""
    now = [0.0]
    recurrence = Recurrence(lambda: now[0])
    logged: list[str] = []
    while now[0] < 100:
        for text in ("no broker answers", "the client is closed"):
            if (more := recurrence.occurs(text)) is not None:
                logged.append(text + more)
            now[0] += 0.5
    assert logged == ["no broker answers", "the client is closed", "the client is closed (121 times in 1 min)"]


async def test_repeated_failure_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    """An outage that fails a component twice a second must not fill the log."""
    errors = [LogError(f"the topic ends at {number}") for number in range(20)]
    idle = asyncio.Event()

    async def serve() -> None:
        if errors:
            raise errors.pop()
        idle.set()
        await asyncio.get_running_loop().create_future()

    serving = asyncio.ensure_future(keep_serving("part", serve, 0.0))
    await asyncio.wait_for(idle.wait(), 60)
    assert [record.getMessage() for record in caplog.records] == [
        "part failed; restarting in 0 s: the topic ends at 19"
    ]
    serving.cancel()
    await asyncio.wait({serving}, timeout=60)
