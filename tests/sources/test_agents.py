"""The agent of a source: whatever a mapping does, its record becomes an event or a dead letter."""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from stepstream.contract.topics import DEAD_LETTERS, EVENTS
from stepstream.host.deadletters.dead_letter import dead_letter_of
from stepstream.host.sources import agent
from stepstream.host.sources.agent import Append, SourceAgent
from stepstream.runtime.metrics import Metrics
from stepstream.runtime.ports import LogError, LogRecord, NewRecord
from stepstream.sdk.source import Source


class SilentError(Exception):
    """An error whose message cannot be read."""

    def __str__(self) -> str:
        """Fail in the same way."""
        raise SilentError


def broken(_: Any) -> Any:
    """Fail as a mapping of a user may."""
    raise SilentError


async def append(_: Any) -> list[tuple[int, int]]:
    """Write nothing."""
    return []


def records_of(*sources: Source, value: bytes | None = b'{"n":1}') -> list[NewRecord]:
    """Return the records that are written for one record of a source."""
    headers = [("trace", b"t"), ("none", None)]
    message = SimpleNamespace(key=None, value=value, timestamp=1.001, headers=headers, partition=2, offset=5)
    return SourceAgent("orders", list(sources), append, Metrics("sources"), "sources-shop").writing_of(message).records


def test_a_mapping_error_without_a_message_is_a_dead_letter() -> None:
    """An exception whose message raises does not end the agent, which would fail at the same record forever."""
    (dead_letter,) = records_of(Source("orders", "shop/order", data=broken))
    assert (dead_letter.topic, dead_letter.value) == (DEAD_LETTERS, b'{"n":1}')
    assert dict(dead_letter.headers)["stepstream-reason"] == b"(no message: its __str__ raised SilentError)"


def test_an_id_that_utf_8_cannot_encode_is_a_dead_letter() -> None:
    """A lone surrogate in an id does not end the agent."""
    (dead_letter,) = records_of(Source("orders", "shop/order", id=lambda _: "\ud800"))
    assert dead_letter.topic == DEAD_LETTERS


def test_a_record_becomes_an_event() -> None:
    """A mapping that works writes an event with the position of the record as its key."""
    (event,) = records_of(Source("orders", "shop/order"))
    assert (event.topic, event.key) == (EVENTS, b"orders-2-5")


def test_one_dead_letter_names_all_sources_that_failed() -> None:
    """It has their names, their group and the time of the record; the other sources write their events."""
    sources = [
        Source("orders", "shop/fine"),
        Source("orders", "shop/broken", data="value.nope"),
        Source("orders", "shop/worse", id="value.n"),
        Source("orders", "shop/other", if_="value.n"),
    ]
    fine, worse, dead_letter = records_of(*sources)
    assert [json.loads(each.value)["name"] for each in (fine, worse)] == ["shop/fine", "shop/worse"]
    found = dead_letter_of(LogRecord(DEAD_LETTERS, 0, 3, dead_letter.key, dead_letter.value, dead_letter.headers, 0))
    assert (found.group, found.sources, found.timestamp) == ("sources-shop", ("shop/broken", "shop/other"), 1_001)
    assert found.reason.startswith("shop/broken: data: ")
    assert "; shop/other: if_: " in found.reason
    assert found.original() == LogRecord(
        "orders", 2, 5, b"", b'{"n":1}', (("trace", b"t"), ("none", None)), 1_001, ("key",)
    )


class Stream:
    """A Faust stream of one record, which ends when it is acknowledged, and must not acknowledge by itself."""

    def __init__(self) -> None:
        self.acked = asyncio.Event()
        self.is_passive = False

    def noack(self) -> "Stream":
        """Leave the acknowledgement to the agent."""
        self.is_passive = True
        return self

    async def events(self) -> AsyncIterator[Any]:
        """Yield the record."""
        message = SimpleNamespace(key=b"", value=b"{}", timestamp=1.0, headers=None, partition=2, offset=5)
        yield SimpleNamespace(message=message, ack=self.acked.set)
        await self.acked.wait()


def agent_of(append: Append) -> SourceAgent:
    """Return the agent of one source that writes with `append`."""
    return SourceAgent("orders", [Source("orders", "shop/order")], append, Metrics("sources"), "sources-shop")


async def test_a_record_is_acknowledged_when_its_event_is_durable(monkeypatch: pytest.MonkeyPatch) -> None:
    """A write that fails is retried, and the record is not acknowledged before one has succeeded."""
    monkeypatch.setattr(agent, "_RETRY_S", 0)
    stream = Stream()
    written: list[NewRecord] = []

    async def fail_once(records: Sequence[NewRecord]) -> None:
        assert not stream.acked.is_set()
        written.extend(records)
        if len(written) == 1:
            raise LogError("no broker")

    async with asyncio.timeout(60):
        await agent_of(fail_once).read(stream)
    assert stream.is_passive
    assert len(written) == 2
    assert written[0] == written[1]


async def test_a_record_in_flight_at_a_stop_is_not_acknowledged() -> None:
    """An agent that is stopped while it writes an event does not acknowledge the record."""
    stream, began = Stream(), asyncio.Event()

    async def hang(_: Any) -> None:
        began.set()
        await asyncio.get_running_loop().create_future()

    reading = asyncio.ensure_future(agent_of(hang).read(stream))
    await began.wait()
    reading.cancel()
    await asyncio.gather(reading, return_exceptions=True)
    assert not stream.acked.is_set()
