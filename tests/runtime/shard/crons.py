"""The tables of a shard with cron triggers, for tests."""

from stepstream.contract.functions import CronTrigger, FunctionRegistered
from stepstream.engine.state.changes import Delete, Put
from stepstream.engine.state.records import Input
from stepstream.engine.state.rows import Crons
from stepstream.engine.state.tables import crons_key, encode_row
from stepstream.engine.transition import transition
from stepstream.runtime.shard.tables import StoreView
from stepstream.runtime.storage.journal import MemoryStore

HOUR, YEAR = 3_600_000, 365 * 24 * 3_600_000
WORK = FunctionRegistered("work", "app", (CronTrigger("0 * * * *"), CronTrigger("0 0 1 1 *")))


def apply(store: MemoryStore, record: Input, now: int) -> int:
    """Apply a record at a time; return the number of changes."""
    changes = transition(StoreView(store), record, now).changes
    puts = [(change.key.encode(), encode_row(change.row)) for change in changes if isinstance(change, Put)]
    store.write([*((change.key.encode(), None) for change in changes if isinstance(change, Delete)), *puts], 0)
    return len(changes)


def due_times(store: MemoryStore) -> tuple[int, ...]:
    """Return when the triggers fire next."""
    crons = StoreView(store).get(crons_key("work"))
    assert isinstance(crons, Crons)
    return crons.due
