"""A read model with the history of one run."""

from collections.abc import Sequence

from stepstream.contract.codec import Raw, encode
from stepstream.contract.events import EventRecord
from stepstream.contract.history import HistoryEntry, RunBegan
from stepstream.contract.topics import HISTORY
from stepstream.runtime.ports import LogRecord
from stepstream.runtime.readmodel.index import RunIndex
from tests.runtime.readmodel.conftest import NewTables

BEGAN = RunBegan("r", 1, 1_000, "function", "shop", 1_000, (EventRecord("go", Raw(b"{}"), "e"),))


def folded(history: Sequence[HistoryEntry], size: int, new_tables: NewTables) -> RunIndex:
    """Return a read model with a history, of which so many entries are folded at a time."""
    index = RunIndex(new_tables())
    records = [LogRecord(HISTORY, 0, at, b"r", encode(entry), (), entry.at) for at, entry in enumerate(history)]
    for start in range(0, len(records), size):
        index.fold(records[start : start + size])
    return index
