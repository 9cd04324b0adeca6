"""An event that is read late, or again after a crash, starts what it would have started at once."""

import asyncio

from stepstream.contract.codec import encode
from stepstream.contract.commands import RunStarted, decode_command
from stepstream.contract.events import EventRecord
from stepstream.contract.functions import EventTrigger, FunctionRegistered
from stepstream.contract.limits import DAY_MS, HOUR_MS, MINUTE_MS
from stepstream.contract.topics import EVENTS, FUNCTIONS, commands_topic
from stepstream.engine.state.tables import STARTS
from stepstream.runtime.clocks import VirtualClock
from stepstream.runtime.embedded.log import EmbeddedLog
from stepstream.runtime.ports import NewRecord
from stepstream.runtime.shard.loop import Shard
from stepstream.runtime.storage.journal import JournalWrite, MemoryJournal, MemoryStore
from tests.fakes.shard_log import FakeLog

FIRST_MS = 1_000
FUNCTION = FunctionRegistered("f", "shop", (EventTrigger("go"),))


class World:
    """One shard with a function, and events with the id `e1` that its log takes at given times."""

    def __init__(self) -> None:
        self.journal = MemoryJournal()
        self.store = MemoryStore()
        self.clock = VirtualClock(FIRST_MS)
        self.journal.write(JournalWrite([NewRecord(FUNCTIONS, 0, b"f", encode(FUNCTION))]), FIRST_MS)

    def send(self, at_ms: int, name: str = "go", id: str = "e1") -> None:
        """Append an event at a time."""
        self.journal.write(JournalWrite([NewRecord(EVENTS, 0, b"", encode(EventRecord(name, id=id)))]), at_ms)

    async def serve(self, *times_ms: int) -> int:
        """Serve until idle at each of these times; return how often the function has started."""
        log = FakeLog(EmbeddedLog(self.journal, self.clock, 0))
        shard = Shard(log, self.store, self.clock)
        serving = asyncio.ensure_future(shard.serve())
        for time_ms in times_ms:
            self.clock.advance_to(time_ms)
            for _ in range(200):
                await asyncio.sleep(0)
        serving.cancel()
        await asyncio.gather(serving, return_exceptions=True)
        commands = self.journal.read(commands_topic("shop"), 0, 0, 1_000)
        return sum(isinstance(decode_command(record.value), RunStarted) for record in commands)

    @property
    def starts(self) -> int:
        """How many starts are known."""
        return len(self.store.scan(STARTS.prefix, 0))


async def test_duplicate_read_again_after_a_day_starts_nothing() -> None:
    """The shard read it an hour after the first, and crashed before that changed any row or position."""
    world = World()
    world.send(FIRST_MS)
    assert await world.serve(FIRST_MS) == 1
    world.send(FIRST_MS + HOUR_MS)
    assert await world.serve(FIRST_MS + HOUR_MS) == 1
    assert await world.serve(FIRST_MS + 2 * DAY_MS) == 1


async def test_duplicate_in_the_backlog_of_a_day_starts_nothing() -> None:
    """The shard was away for two days. Then the start is forgotten, once no older event can be unread."""
    world = World()
    world.send(FIRST_MS)
    assert await world.serve(FIRST_MS) == 1
    world.send(FIRST_MS + HOUR_MS)
    back_ms = FIRST_MS + 2 * DAY_MS
    assert await world.serve(back_ms, back_ms + 2 * MINUTE_MS, back_ms + 4 * MINUTE_MS) == 1
    assert world.starts == 0


async def test_events_a_day_apart_start_two_runs_however_late() -> None:
    """Both are read two days later, at the same time."""
    world = World()
    world.send(FIRST_MS)
    world.send(FIRST_MS + DAY_MS - 1)
    world.send(FIRST_MS + DAY_MS)
    assert await world.serve(FIRST_MS + 2 * DAY_MS) == 2


async def test_old_records_are_no_reason_to_keep_starts() -> None:
    """A producer with a wrong clock appends old events all the time: after a week more the start is forgotten."""
    world = World()
    world.send(FIRST_MS)
    assert await world.serve(FIRST_MS) == 1
    for day in range(1, 10):
        world.send(FIRST_MS, "other", id="")
        assert await world.serve(FIRST_MS + day * DAY_MS, FIRST_MS + day * DAY_MS + 2 * MINUTE_MS) == 1
    assert world.starts == 0
