"""The state of runs in the read model: the last one, with the run, until it is dropped."""

import pytest

from stepstream.contract.codec import Raw, encode
from stepstream.contract.events import EventRecord
from stepstream.contract.history import HistoryEntry, RunBegan, RunEnded, StateChanged
from stepstream.contract.ids import run_hash, run_id_at
from stepstream.contract.kinds import RunStatus
from stepstream.contract.topics import HISTORY
from stepstream.runtime.ports import LogRecord
from stepstream.runtime.readmodel.index import RunIndex
from tests.runtime.readmodel.conftest import NewTables

RUN = run_id_at(1_000, run_hash("f", "e"))
ENTRIES: list[HistoryEntry] = [
    RunBegan(RUN, 1, 1_000, "f", "a", 1_000, (EventRecord("go", id="e", ts=1_000),)),
    StateChanged(RUN, 2, 1_002, {"page": Raw(b"1"), "stage": Raw(b'"new"')}),
    StateChanged(RUN, 3, 1_003, {"page": Raw(b'{"of":[1,null]}')}),
    RunEnded(RUN, 4, 1_500, RunStatus.COMPLETED, "f", Raw(b"7")),
]


@pytest.mark.parametrize("size", [1, 2, 3, 4])
def test_a_run_shows_the_last_state_in_any_batches(size: int, new_tables: NewTables) -> None:
    """It is the same whether its changes are folded with its beginning, alone, or with its end, and again."""
    index = RunIndex(new_tables())
    assert index.show(RUN) is None
    records = [LogRecord(HISTORY, 0, at, b"", encode(entry), (), 1_000) for at, entry in enumerate(ENTRIES)]
    for at in [*range(0, len(records), size), 0]:
        index.fold(records[at : at + size])
    run = index.show(RUN)
    assert run is not None
    assert (run.state, run.output) == ({"page": {"of": [1, None]}}, 7)


def test_a_run_without_state_has_an_empty_one(new_tables: NewTables) -> None:
    """Clients need not distinguish a run that sets no state."""
    index = RunIndex(new_tables())
    index.fold([LogRecord(HISTORY, 0, 0, b"", encode(ENTRIES[0]), (), 1_000)])
    run = index.show(RUN)
    assert run is not None
    assert run.state == {}
