"""A shard lets the other tasks of its process run, even if its log never makes it wait."""

import asyncio
from collections.abc import Mapping, Sequence

from stepstream.contract.codec import encode
from stepstream.contract.events import EventRecord
from stepstream.contract.ids import Bucket, StepRef, run_hash, run_id_at, step_hash
from stepstream.contract.limits import Limits
from stepstream.contract.matching import EventRouted, Predicate, WaitOpened
from stepstream.contract.topics import INBOX
from stepstream.runtime.clocks import VirtualClock
from stepstream.runtime.embedded.log import EmbeddedLog
from stepstream.runtime.ports import NewRecord
from stepstream.runtime.shard.loop import BatchStats, Shard, ShardOptions
from stepstream.runtime.storage.journal import JournalWrite, MemoryJournal, MemoryStore
from tests.fakes.clock import TickingClock

WAITS = 400
# An HTTP request needs about as many iterations, from the connection to the answer.
REQUEST_ITERATIONS = 8


class Passes:
    """Notes at which iteration of the event loop each pass of a shard ended."""

    def __init__(self) -> None:
        self.iteration = 0
        self.ends: list[int] = []

    def recovered(self, shard: int, open_counts: Mapping[tuple[str, str], int], functions: Sequence[str]) -> None:
        """The shard serves."""

    def committed(self, shard: int, batch: BatchStats) -> None:  # noqa: ARG002 - the signature of the port
        """A pass ended."""
        self.ends.append(self.iteration)

    def left(self, shard: int) -> None:
        """The shard no longer serves."""


async def passes_of_one_event(clock: VirtualClock) -> Passes:
    """Have one event compared with 400 waits, one per pass, on an embedded log."""
    journal, passes = MemoryJournal(), Passes()
    for number in range(WAITS):
        waiter = StepRef(run_id_at(1, run_hash("f", str(number))), step_hash("wait", 0))
        wait = WaitOpened(waiter, Bucket("paid"), Predicate(residual="async.data.n == 1"), 1 << 40)
        journal.write(JournalWrite([NewRecord(INBOX, 0, b"", encode(wait))]), 1)
    journal.write(JournalWrite([NewRecord(INBOX, 0, b"", encode(EventRouted(EventRecord("paid", ts=1), 1)))]), 1)
    options = ShardOptions(limits=Limits(waits_per_match_max=1), observer=passes)
    serving = asyncio.ensure_future(Shard(EmbeddedLog(journal, clock, 0), MemoryStore(), clock, options).serve())
    while len(passes.ends) < WAITS:
        await asyncio.sleep(0)
        passes.iteration += 1
    serving.cancel()
    await asyncio.gather(serving, return_exceptions=True)
    return passes


async def test_short_passes_let_other_tasks_run() -> None:
    """Four hundred passes that each take less than a millisecond, with the next record always there."""
    passes = await passes_of_one_event(VirtualClock(1))
    assert max(map(passes.ends.count, set(passes.ends))) <= 16


async def test_long_passes_let_a_request_be_answered() -> None:
    """The longer a pass held the event loop, the more iterations other tasks get after it."""
    passes = await passes_of_one_event(TickingClock(1, 50))
    after = [later - earlier for earlier, later in zip(passes.ends[10:], passes.ends[11:], strict=False)]
    assert min(after) >= REQUEST_ITERATIONS
