"""One dead letter: what it shows, and what redriving it writes."""

import json

import pytest

from stepstream.contract.topics import DEAD_LETTERS, EVENTS
from stepstream.host.deadletters.dead_letter import dead_letter_of
from stepstream.runtime.dead_letters import dead_letter_record
from stepstream.runtime.ports import Headers, LogRecord


@pytest.mark.parametrize("nulls", [(), ("key",), ("value",), ("key", "value")])
@pytest.mark.parametrize("empty", [b"", b"x"])
def test_redriving_keeps_nulls(nulls: tuple[str, ...], empty: bytes) -> None:
    """A null key, a null value and a header without a value are neither made empty nor left out."""
    headers: Headers = (("a", None), ("a", b""), ("b", b"1"))
    key, value = (b"" if name in nulls else empty for name in ("key", "value"))
    written = dead_letter_record(LogRecord(EVENTS, 1, 7, key, value, headers, 5, nulls), "why")
    stored = dead_letter_of(LogRecord(DEAD_LETTERS, 0, 3, written.key, written.value, written.headers, 0))
    sent = stored.redriven_record()
    assert (sent.topic, sent.partition, sent.key, sent.value, sent.nulls) == (EVENTS, 1, key, value, nulls)
    assert sent.headers == (*headers, ("stepstream-redriven", b"1"))


def test_json_shows_nulls_and_repeated_headers() -> None:
    """A null is null and not an empty text; several values of one header are a list."""
    record = LogRecord(EVENTS, 1, 7, b"", b"", (("a", None), ("b", b"1"), ("b", b"\xff")), 5, ("key",))
    written = dead_letter_record(record, "why")
    stored = dead_letter_of(LogRecord(DEAD_LETTERS, 0, 3, written.key, written.value, written.headers, 0))
    shown = json.loads(json.dumps(stored.full()))
    assert (shown["key"], shown["value"], shown["headers"]) == (None, "", {"a": None, "b": ["1", {"base64": "/w=="}]})
    assert (shown["topic"], shown["partition"], shown["offset"], shown["reason"]) == (EVENTS, 1, 7, "why")


@pytest.mark.parametrize("header", ["stepstream-from", "stepstream-sources", "stepstream-redriven", "stepstream-time"])
@pytest.mark.parametrize("value", [None, b"", b"\xff", b"[1]", b"9" * 5_000, "\u00b2".encode()])
def test_forged_headers_count_as_missing(header: str, value: bytes | None) -> None:
    """A header with one of our names, but without a value or with one that we never write, is ignored."""
    stored = dead_letter_of(LogRecord(DEAD_LETTERS, 0, 3, b"", b"", ((header, value),), 0))
    assert stored.summary()["topic"] == "?"
    assert (stored.sources, stored.redriven, stored.timestamp) == ((), 0, 0)
