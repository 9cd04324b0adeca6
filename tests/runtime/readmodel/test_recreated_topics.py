"""A topic that was deleted and created again is read from its beginning."""

import asyncio
from pathlib import Path

import pytest

from stepstream.contract.codec import EMPTY_OBJECT, encode
from stepstream.contract.events import EventRecord
from stepstream.contract.history import RunBegan
from stepstream.contract.topics import HISTORY
from stepstream.host.read_models import read_model_parts
from stepstream.runtime.clocks import VirtualClock
from stepstream.runtime.kafka.backbone import KafkaBackbone
from stepstream.runtime.kafka.client.answers import Extent
from stepstream.runtime.ports import LogRecord, StoreError
from stepstream.runtime.readmodel.index import RunIndex
from tests.fakes.cluster import FakeCluster
from tests.fakes.waiting import until
from tests.runtime.readmodel.conftest import NewTables


def runs(name: str, count: int) -> list[LogRecord]:
    """Return the history of runs that began, whose ids start with `name`."""
    events = (EventRecord("go", EMPTY_OBJECT, "e", 1),)
    entries = [RunBegan(f"{name}{number}", 1, 1_000, "function", "shop", 1_000, events) for number in range(count)]
    return [LogRecord(HISTORY, 0, offset, b"", encode(entry), (), 1_000) for offset, entry in enumerate(entries)]


def test_topic_that_was_created_again_is_read_from_its_beginning(new_tables: NewTables) -> None:
    """Its id differs. The runs of the deleted one stay, and a position from before the id was known counts."""
    tables = new_tables()
    index = RunIndex(tables)
    old, new = (runs(name, 3) for name in ("old", "new"))
    index.fold(old[:1])
    index.identify(HISTORY, "first")
    assert index.position(HISTORY, 0) == 1
    index.fold(old[1:])
    assert index.position(HISTORY, 0) == 3
    with pytest.raises(StoreError, match="history-0 was deleted and created again"):
        index.fold(new)
    index.identify(HISTORY, "second")
    assert index.position(HISTORY, 0) == 0
    index.fold(new[:2])
    assert (index.position(HISTORY, 0), sum(index.counts().values())) == (2, 5)
    rows = index._db.execute('SELECT topic, topic_id, partition, "offset" FROM positions ORDER BY topic_id')
    assert rows.fetchall() == [(HISTORY, "", 0, 1), (HISTORY, "first", 0, 3), (HISTORY, "second", 0, 2)]
    index.close()


async def read(name: str, count: int, index: RunIndex, total: int) -> None:
    """Let an engine read runs from a topic of this id, until its list has as many as expected."""
    cluster = FakeCluster()
    cluster.extents_of[HISTORY] = Extent(1, 1, name)
    cluster.add(runs(name, count))
    part = read_model_parts(KafkaBackbone(cluster, VirtualClock(0), 1), index, None)["read_model"]
    reading = asyncio.ensure_future(part())
    await until(lambda: sum(index.counts().values()) == total)
    reading.cancel()
    await asyncio.gather(reading, return_exceptions=True)


async def test_read_model_notices_by_its_id_that_history_was_created_again(tmp_path: Path) -> None:
    """It was while no engine ran, and is longer now than the old one was."""
    index = RunIndex(tmp_path / "runs")
    await read("old", 2, index, 2)
    await read("new", 3, index, 5)
    index.close()
