"""The logs of one process: what is written in one iteration of the event loop, and what is read together."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from stepstream.contract.topics import HISTORY, INBOX
from stepstream.runtime.clocks import VirtualClock
from stepstream.runtime.embedded.embedded_worker_log import EmbeddedWorkerLog
from stepstream.runtime.embedded.log import EmbeddedBackbone
from stepstream.runtime.ports import LogError, LogRecord, NewRecord
from stepstream.runtime.storage.journal import JournalWrite, MemoryJournal
from tests.fakes.clock import TickingClock


class FailingJournal(MemoryJournal):
    """A journal on a disk that is full."""

    def write(self, write: JournalWrite, timestamp: int) -> list[tuple[int, int]]:  # noqa: ARG002 - the signature of the port
        """Fail."""
        raise LogError("the disk is full")


async def test_cancelled_report_is_written_with_the_others() -> None:
    """A report that the journal was given is written, and the other callers of the same write do not notice."""
    journal = MemoryJournal()
    log = EmbeddedWorkerLog(journal, VirtualClock(1), "shop")
    writes = [asyncio.ensure_future(log.append(f"run {number}", b"report %d" % number)) for number in range(3)]
    await asyncio.sleep(0)
    writes[1].cancel()
    ends = await asyncio.gather(*writes, return_exceptions=True)
    assert [type(end) for end in ends] == [type(None), asyncio.CancelledError, type(None)]
    assert [record.value for record in journal.read(INBOX, 0, 0, 10)] == [b"report 0", b"report 1", b"report 2"]
    assert not log.unread()


async def test_failed_write_raises_in_each_caller() -> None:
    """All reports of one write are lost together."""
    log = EmbeddedWorkerLog(FailingJournal(), VirtualClock(1), "shop")
    writes = [asyncio.ensure_future(log.append(f"run {number}", b"report")) for number in range(3)]
    await asyncio.sleep(0)
    writes[1].cancel()
    ends = await asyncio.gather(*writes, return_exceptions=True)
    assert [type(end) for end in ends] == [LogError, asyncio.CancelledError, LogError]


async def first_batch(clock: VirtualClock, entries: int, iterations_between: int) -> list[LogRecord]:
    """Write entries of history, each some iterations after the one before, and return what is read first."""
    journal = MemoryJournal()
    backbone = EmbeddedBackbone(journal, clock)
    history: AsyncIterator[list[LogRecord]] = backbone.history(lambda partition: 0)  # noqa: ARG005 - named by the port
    reading = asyncio.ensure_future(anext(history))
    await asyncio.sleep(0)
    for number in range(entries):
        journal.write(JournalWrite([NewRecord(HISTORY, 0, b"run", b"entry %d" % number)]), 1)
        for _ in range(iterations_between):
            await asyncio.sleep(0)
        if reading.done():
            break
    return await reading


@pytest.mark.parametrize("iterations_between", [1, 2, 4])
async def test_entries_of_a_short_run_are_read_together(iterations_between: int) -> None:
    """A run writes an entry every few iterations of the event loop; the read model gets them in one batch."""
    assert len(await first_batch(VirtualClock(1), 5, iterations_between)) == 5


@pytest.mark.parametrize(
    ("clock", "most"), [(VirtualClock(1), 70), (TickingClock(1, 2), 5)], ids=["many iterations", "long iterations"]
)
async def test_history_that_never_ends_is_read_soon(clock: VirtualClock, most: int) -> None:
    """A process with much to do writes entries in every iteration; reading waits for few of them."""
    assert len(await first_batch(clock, 1_000, 1)) <= most
