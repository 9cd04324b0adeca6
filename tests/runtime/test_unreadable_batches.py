"""A batch that cannot be read becomes one dead letter with its offsets, and its readers continue."""

import logging
from types import SimpleNamespace
from typing import Any

import pytest

from stepstream import App, Context, Event, on
from stepstream.contract.topics import CHANGELOG, DEAD_LETTERS, EVENTS, HISTORY, INBOX, commands_topic
from stepstream.host.deadletters.dead_letter import DeadLetterError, dead_letter_of
from stepstream.host.sources.agent import SourceAgent
from stepstream.runtime.dead_letters import dead_letter_record
from stepstream.runtime.kafka.client.parsing import UnreadableHeader
from stepstream.runtime.kafka.shards.shard_log import rows_of
from stepstream.runtime.metrics import Metrics
from stepstream.runtime.ports import LogRecord, NewRecord, Unreadable
from stepstream.runtime.readmodel.index import RunIndex
from stepstream.runtime.storage.journal import JournalWrite
from stepstream.sdk.source import Source
from stepstream.testing import VirtualEngine
from tests.runtime.exposition import Scrape, observe

REASON = "the gzip batch with the offsets 10 to 12 inflates to more than 67,108,864 bytes"
TOO_LARGE = Unreadable(REASON, 10, 12, 2_400_000, True)
CORRUPT = Unreadable("the gzip batch with the offsets 10 to 12 cannot be inflated: bad", 10, 12, 300, False)
MARK = b"unreadable"


class Reading:
    """A port whose polls return an unreadable batch in place of a record with the content of MARK."""

    def __init__(self, port: Any, unreadable: Unreadable) -> None:
        self._port = port
        self._unreadable = unreadable

    def __getattr__(self, name: str) -> Any:
        return getattr(self._port, name)

    async def poll(self, *arguments: Any) -> list[LogRecord]:
        """Return records."""
        return [
            record._replace(value=b"", nulls=("key", "value"), unreadable=self._unreadable)
            if record.value == MARK
            else record
            for record in await self._port.poll(*arguments)
        ]


@pytest.mark.parametrize("topic", [EVENTS, INBOX, commands_topic("shop"), commands_topic("shop", "gpu")])
@pytest.mark.parametrize(("unreadable", "kind"), [(TOO_LARGE, "too-large"), (CORRUPT, "invalid")])
async def test_shards_and_workers_continue_after_a_batch(topic: str, unreadable: Unreadable, kind: str) -> None:
    """The dead letter has the offsets and the reason, is counted once, and cannot be redriven."""
    app, metrics = App("shop", queues=["gpu"]), Metrics("engine", "worker")

    @app.function(on("go"))
    async def function(ctx: Context) -> str:
        return await ctx.step.options(queue="gpu").run("work", lambda: "fine")

    def wrap(name: str, port: Any) -> Any:
        return port if name.startswith("store") else Reading(port, unreadable)

    engine = VirtualEngine(app, wrap=wrap)
    observe(engine, metrics)
    async with engine:
        engine.journal.write(JournalWrite([NewRecord(topic, 0, b"key", MARK)]), engine.now_ms)
        await engine.send(Event("go"))
        assert engine.run().output == "fine"
        (record,) = engine.journal.read(DEAD_LETTERS, 0, 0, 10)
    found = dead_letter_of(record)
    assert (found.topic, found.partition, found.offset, found.cut_from) == (topic, 0, 10, unreadable.bytes)
    assert (found.reason, dict(record.headers)["stepstream-offsets"]) == (unreadable.reason, b"10-12")
    with pytest.raises(DeadLetterError, match="only a part of its"):
        found.check()
    assert Scrape(metrics.text().decode()).sum("stepstream_dead_letters_total", topic=topic, reason=kind) == 1


def test_sources_continue_after_a_batch() -> None:
    """The dead letter names all sources of the topic."""
    sources = [Source("orders", "shop/order"), Source("orders", "shop/other")]
    agent = SourceAgent("orders", sources, lambda _: never(), Metrics("sources"), "sources-shop")
    headers = ((UnreadableHeader(TOO_LARGE), b""),)
    message = SimpleNamespace(key=None, value=None, timestamp=1.0, headers=headers, partition=0, offset=12)
    writing = agent.writing_of(message)
    (record,) = writing.records
    found = dead_letter_of(LogRecord(DEAD_LETTERS, 0, 0, record.key, record.value, record.headers, 1))
    assert writing.dead_letters == ["too-large"]
    assert (found.topic, found.offset, found.reason, found.group) == ("orders", 10, REASON, "sources-shop")
    assert found.sources == ("shop/order", "shop/other")


async def never() -> None:
    """Stand for a write."""


def test_changelog_rows_skip_a_batch(caplog: pytest.LogCaptureFixture) -> None:
    """Shards write no compressed batches, so its rows are not theirs; recoveries and warm copies log it."""
    row = LogRecord(CHANGELOG, 3, 13, b"key", b"value", (), 0)
    batch = LogRecord(CHANGELOG, 3, 12, b"", b"", (), 0, ("key", "value"), TOO_LARGE)
    assert rows_of([batch, row]) == [(b"key", b"value")]
    assert caplog.messages == [f"changelog-3 has a batch of another producer, which is skipped: {REASON}"]


def test_read_model_skips_a_batch(caplog: pytest.LogCaptureFixture) -> None:
    """Its position moves past it."""
    caplog.set_level(logging.ERROR)
    index = RunIndex()
    assert index.fold([LogRecord(HISTORY, 0, 12, b"", b"", (), 0, ("key", "value"), TOO_LARGE)]) == []
    assert (index.position(HISTORY, 0), index.skipped) == (13, 1)
    assert REASON in caplog.text
    index.close()


def test_dead_letter_of_a_batch_is_small() -> None:
    """It has none of the batch's content."""
    batch = LogRecord(EVENTS, 0, 12, b"", b"", (), 0, ("key", "value"), TOO_LARGE)
    record = dead_letter_record(batch, "other words")
    assert (record.key, record.value) == (b"", b"")
    assert sum(len(name) + len(value or b"") for name, value in record.headers) < 500
