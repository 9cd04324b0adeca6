"""Attributes in the read model: shown, found by value, changed, and removed with their run."""

import pytest

from stepstream.contract.attributes import Attributes
from stepstream.contract.codec import encode
from stepstream.contract.events import EventRecord
from stepstream.contract.history import AttributesChanged, HistoryEntry, RunBegan, RunEnded
from stepstream.contract.ids import run_hash, run_id_at
from stepstream.contract.kinds import RunStatus
from stepstream.contract.topics import HISTORY
from stepstream.runtime.ports import LogRecord
from stepstream.runtime.readmodel.index import RunIndex
from stepstream.runtime.readmodel.search.filters import Filter
from tests.runtime.readmodel.conftest import NewTables

RUN = run_id_at(1_000, run_hash("f", "e"))


def began(**attributes: str | float) -> RunBegan:
    """Return the beginning of the run."""
    return RunBegan(RUN, 1, 1_000, "f", "a", 1_000, (EventRecord("go", id="e", ts=1_000),), attributes=attributes)


def changed(seq: int, **attributes: str | float) -> AttributesChanged:
    """Return a change of its attributes."""
    return AttributesChanged(RUN, seq, 1_000 + seq, attributes)


def fold(index: RunIndex, *entries: HistoryEntry, at: int = 0) -> None:
    """Fold entries as one batch."""
    index.fold([LogRecord(HISTORY, 0, at + n, b"", encode(entry), (), 1_000) for n, entry in enumerate(entries)])


def found(index: RunIndex, text: str) -> bool:
    """Return whether a filter finds the run."""
    return [run.run_id for run in index.find(Filter.parse(text), 0)] == [RUN]


def indexed(index: RunIndex) -> int:
    """Return how many entries the index of attributes has."""
    return int(index._db.execute("SELECT count(*) FROM run_attributes").fetchone()[0])


@pytest.mark.parametrize("batches", [1, 3])
def test_a_run_is_found_by_the_attributes_that_it_has_now(batches: int, new_tables: NewTables) -> None:
    """Values that were replaced or removed find nothing, in one batch as in several."""
    entries: list[HistoryEntry] = [began(order="o-1", n=1), changed(2, order="o-1", n=2), changed(3, order="o-2")]
    index = RunIndex(new_tables())
    for at in range(0, 3, 3 // batches):
        fold(index, *entries[at : at + 3 // batches], at=at)
    run = index.show(RUN)
    assert run is not None
    assert run.attributes == {"order": "o-2"}
    assert found(index, "order=o-2")
    assert found(index, "o-2")
    assert not any(found(index, text) for text in ("order=o-1", "o-1", "n=1", "n=2", "n:*"))
    assert indexed(index) == 1


def test_attributes_of_several_types_are_found_by_their_text(new_tables: NewTables) -> None:
    """Numbers that are equal have one text; a bool is true or false."""
    index = RunIndex(new_tables())
    fold(index, began(total=12.0, paid=True, customer="Ann B"))
    assert all(found(index, text) for text in ("total=12", "paid=true", 'customer="Ann B"', "customer:Ann*"))


def test_a_dropped_run_leaves_no_attributes(new_tables: NewTables) -> None:
    """Dropping a run deletes it from the index of attributes."""
    index = RunIndex(new_tables())
    fold(index, began(order="o-1"), changed(2, order="o-2"), RunEnded(RUN, 3, 1_500, RunStatus.COMPLETED, "f"))
    while index.drop(ended_before=10_000):
        pass
    assert indexed(index) == 0


def test_the_type_of_attributes_survives_the_log() -> None:
    """A history entry keeps the types of its values."""
    values: Attributes = {"a": 1, "b": 1.5, "c": True, "d": "x"}
    assert b'"attributes":{"a":1,"b":1.5,"c":true,"d":"x"}' in encode(AttributesChanged(RUN, 2, 3, values))
