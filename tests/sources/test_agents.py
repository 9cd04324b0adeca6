"""The agent of a source: whatever a mapping does, the record is an event or a letter."""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from stepstream.contract.topics import DEAD_LETTERS, EVENTS
from stepstream.host.deadletters.dead_letter import dead_letter_of
from stepstream.host.sources import service
from stepstream.host.sources.service import Append, SourceAgent
from stepstream.runtime.metrics import Metrics
from stepstream.runtime.ports import LogError, LogRecord, NewRecord
from stepstream.sdk.source import Source


class SilentError(Exception):
    """An error that cannot say what it is."""

    def __str__(self) -> str:
        """Fail in the same way."""
        raise SilentError


def broken(_: Any) -> Any:
    """Fail as a user's mapping may."""
    raise SilentError


async def append(_: Any) -> list[tuple[int, int]]:
    """Write nothing."""
    return []


def records_of(*sources: Source, value: bytes | None = b'{"n":1}') -> list[NewRecord]:
    """Return what is written for a record."""
    headers = [("trace", b"t"), ("none", None)]
    message = SimpleNamespace(key=None, value=value, timestamp=1.001, headers=headers, partition=2, offset=5)
    return SourceAgent("orders", list(sources), append, Metrics("sources"), "sources-shop").writing_of(message).records


def test_an_error_without_words_is_put_aside() -> None:
    """An exception whose text cannot be had does not end the agent, which would come upon it for ever."""
    (letter,) = records_of(Source("orders", "shop/order", data=broken))
    assert (letter.topic, letter.value) == (DEAD_LETTERS, b'{"n":1}')
    assert dict(letter.headers)["stepstream-reason"] == b"(no message: its __str__ raised SilentError)"


def test_an_id_that_cannot_be_written_is_put_aside() -> None:
    """Half of a surrogate pair is no text for the wire; the agent does not end by it."""
    (letter,) = records_of(Source("orders", "shop/order", id=lambda _: "\ud800"))
    assert letter.topic == DEAD_LETTERS


def test_a_record_is_an_event() -> None:
    """The same source with a mapping that works."""
    (event,) = records_of(Source("orders", "shop/order"))
    assert (event.topic, event.key) == (EVENTS, b"orders-2-5")


def test_a_record_has_one_letter_for_all_sources_that_failed() -> None:
    """It names these, their group and the record's time; the events of the others are written beside it."""
    sources = [
        Source("orders", "shop/fine"),
        Source("orders", "shop/broken", data="value.nope"),
        Source("orders", "shop/worse", id="value.n"),
        Source("orders", "shop/other", if_="value.n"),
    ]
    fine, worse, letter = records_of(*sources)
    assert [json.loads(each.value)["name"] for each in (fine, worse)] == ["shop/fine", "shop/worse"]
    told = dead_letter_of(LogRecord(DEAD_LETTERS, 0, 3, letter.key, letter.value, letter.headers, 0))
    assert (told.group, told.sources, told.timestamp) == ("sources-shop", ("shop/broken", "shop/other"), 1_001)
    assert told.reason.startswith("shop/broken: data: ")
    assert "; shop/other: if_: " in told.reason
    assert told.original() == LogRecord(
        "orders", 2, 5, b"", b'{"n":1}', (("trace", b"t"), ("none", None)), 1_001, ("key",)
    )


class Stream:
    """A Faust stream of one record, which ends when that is acknowledged; it must not acknowledge by itself."""

    def __init__(self) -> None:
        self.acked = asyncio.Event()
        self.is_passive = False

    def noack(self) -> "Stream":
        """Leave it to the agent to acknowledge."""
        self.is_passive = True
        return self

    async def events(self) -> AsyncIterator[Any]:
        """Yield the record."""
        message = SimpleNamespace(key=b"", value=b"{}", timestamp=1.0, headers=None, partition=2, offset=5)
        yield SimpleNamespace(message=message, ack=self.acked.set)
        await self.acked.wait()


def agent_of(append: Append) -> SourceAgent:
    """Return the agent of one source that appends by what is given."""
    return SourceAgent("orders", [Source("orders", "shop/order")], append, Metrics("sources"), "sources-shop")


async def test_a_record_is_acknowledged_once_it_is_durable(monkeypatch: pytest.MonkeyPatch) -> None:
    """A write that fails is tried again, and the record is not dealt with before one has succeeded."""
    monkeypatch.setattr(service, "_RETRY_S", 0)
    stream = Stream()
    written: list[NewRecord] = []

    async def fail_once(records: Sequence[NewRecord]) -> None:
        assert not stream.acked.is_set()
        written.extend(records)
        if len(written) == 1:
            raise LogError("no broker")

    async with asyncio.timeout(5):
        await agent_of(fail_once).read(stream)
    assert stream.is_passive
    assert len(written) == 2
    assert written[0] == written[1]


async def test_a_record_that_is_stopped_at_is_read_again() -> None:
    """An agent that is stopped while its event is on the way does not say that the record is dealt with."""
    stream, began = Stream(), asyncio.Event()

    async def hang(_: Any) -> None:
        began.set()
        await asyncio.get_running_loop().create_future()

    reading = asyncio.ensure_future(agent_of(hang).read(stream))
    await began.wait()
    reading.cancel()
    await asyncio.gather(reading, return_exceptions=True)
    assert not stream.acked.is_set()
