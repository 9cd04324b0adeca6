"""Cron triggers after a clock that was ahead."""

import asyncio

from stepstream.engine.state.records import ShardOpened, Tick
from stepstream.engine.transition import due_timers, next_due
from stepstream.runtime.clocks import VirtualClock
from stepstream.runtime.embedded.log import EmbeddedLog
from stepstream.runtime.shard.loop import Shard
from stepstream.runtime.shard.tables import StoreView
from stepstream.runtime.storage.journal import MemoryJournal, MemoryStore
from tests.fakes.waiting import until
from tests.runtime.shard.crons import HOUR, WORK, YEAR, apply, due_times


async def test_cron_fires_within_its_period_after_a_clock_was_ahead() -> None:
    """A process whose clock was a year ahead set the next firing in a year; the next owner of the shard corrects it."""
    store, clock = MemoryStore(), VirtualClock(1)
    apply(store, WORK, now=YEAR + 1)
    assert due_times(store) == (YEAR + HOUR, 2 * YEAR)
    shard = Shard(EmbeddedLog(MemoryJournal(), clock, 0), store, clock)
    serving = asyncio.ensure_future(shard.serve())
    await until(lambda: shard.serving)
    assert due_times(store) == (HOUR, YEAR)
    assert next_due(StoreView(store)) == HOUR
    serving.cancel()
    await asyncio.gather(serving, return_exceptions=True)


def test_opening_a_shard_changes_no_firing_that_is_due() -> None:
    """One that was missed while no engine ran is still to come, once."""
    store = MemoryStore()
    apply(store, WORK, now=1)
    for now in (1, HOUR - 1, HOUR, 5 * HOUR):
        assert not apply(store, ShardOpened(), now)


def test_clock_a_little_behind_repeats_no_firing() -> None:
    """The clocks of two machines differ by a little: the last owner has fired a trigger that is due in a second."""
    store = MemoryStore()
    apply(store, WORK, now=1)
    ((timer, _),) = due_timers(StoreView(store), HOUR)
    apply(store, Tick(timer), HOUR)
    assert due_times(store) == (2 * HOUR, YEAR)
    assert not apply(store, ShardOpened(), HOUR - 1_000)
