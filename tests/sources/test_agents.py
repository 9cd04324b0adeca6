"""The agent of a source: whatever a mapping does, the record is an event or a letter."""

from types import SimpleNamespace
from typing import Any

from stepstream.contract.topics import DEAD_LETTERS, EVENTS
from stepstream.host.service import SourceAgent
from stepstream.runtime.metrics import Metrics
from stepstream.runtime.ports import NewRecord
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


def records_of(source: Source, value: bytes | None) -> list[NewRecord]:
    """Return what is written for a record."""
    message = SimpleNamespace(key=None, value=value, timestamp=1.0, headers=None, partition=2, offset=5)
    return SourceAgent("orders", [source], append, Metrics("sources")).writing_of(message).records


def test_an_error_without_words_is_put_aside() -> None:
    """An exception whose text cannot be had does not end the agent, which would come upon it for ever."""
    (letter,) = records_of(Source("orders", "shop/order", data=broken), b'{"n":1}')
    assert (letter.topic, letter.value) == (DEAD_LETTERS, b'{"n":1}')
    assert dict(letter.headers)["stepstream-reason"] == b"(no text: SilentError in its __str__)"


def test_an_id_that_cannot_be_written_is_put_aside() -> None:
    """Half of a surrogate pair is no text for the wire; the agent does not end by it."""
    (letter,) = records_of(Source("orders", "shop/order", id=lambda _: "\ud800"), b'{"n":1}')
    assert letter.topic == DEAD_LETTERS


def test_a_record_is_an_event() -> None:
    """The same source with a mapping that works."""
    (event,) = records_of(Source("orders", "shop/order"), b'{"n":1}')
    assert (event.topic, event.key) == (EVENTS, b"orders-2-5")
