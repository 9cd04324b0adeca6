"""The events of a request are decoded once and encoded once, and the log gets what was validated."""

from unittest import mock

import pytest

from stepstream.api.http import parse_events
from stepstream.contract import events
from stepstream.contract.codec import dump_json
from stepstream.contract.errors import InvalidInput, TooLarge
from stepstream.contract.events import FINISHED, EventRecord, decode_event, encode_batch
from stepstream.contract.limits import (
    DEFAULT_LIMITS,
    LOGGED_EVENT_BYTES_MAX,
    MIB,
    OWN_EVENT_BYTES_MAX,
    SENT_EVENT_BYTES_MORE,
)
from stepstream.contract.topics import EVENTS, payload_bytes_max


def test_a_request_is_decoded_once() -> None:
    """Strict decoding gives the event itself, so that no second decoder sees its bytes."""
    plain = mock.Mock(wraps=events._EVENT)
    with mock.patch.object(events, "_EVENT", plain):
        (found,) = parse_events(b'{"name": "go", "data": {"n": 1}, "ts": 5}', DEFAULT_LIMITS)
    assert type(found) is EventRecord
    assert (found.name, bytes(found.data), found.ts) == ("go", b'{"n": 1}', 5)
    plain.decode.assert_not_called()


def test_the_log_gets_what_was_validated() -> None:
    """The data of an event is stored byte for byte, and nothing else of the request is."""
    body = b'[{ "name": "go", "id": "e1", "data": { "n" : 1.0, "t": "\\u00e9" } }]'
    (stored,) = encode_batch(parse_events(body, DEFAULT_LIMITS), DEFAULT_LIMITS)
    assert stored == b'{"name":"go","data":{ "n" : 1.0, "t": "\\u00e9" },"id":"e1"}'
    assert decode_event(stored) == parse_events(body, DEFAULT_LIMITS)[0]


def test_an_unknown_field_is_refused_only_in_a_request() -> None:
    """A caller learns of a misspelled field; a record of another producer may have more fields than ours."""
    value = b'{"name": "go", "dta": {}}'
    with pytest.raises(InvalidInput, match="dta: unknown field; an event has only"):
        parse_events(value, DEFAULT_LIMITS)
    assert decode_event(value) == EventRecord("go")


def test_an_origin_lifts_no_bound_of_other_events() -> None:
    """Any producer may set the header: names, depths and sizes are checked as for other producers."""
    for name in ("stream/cron", "stream/function.invoked", "stream/new", "", "a\x00"):
        with pytest.raises(InvalidInput):
            decode_event(bytes(dump_json({"name": name}, "event")), own=True)
    deep = b'{"name": "go", "data": {"a": %s}}' % (b"[" * 101 + b"]" * 101)
    with pytest.raises(InvalidInput, match="nested deeper"):
        decode_event(deep, own=True)
    text = "x" * (LOGGED_EVENT_BYTES_MAX + SENT_EVENT_BYTES_MORE)
    with pytest.raises(TooLarge, match="at most 3,146,752 are allowed"):
        decode_event(bytes(dump_json({"name": "go", "data": {"text": text}}, "event")), own=True)


def test_events_about_runs_have_their_own_bound() -> None:
    """They may be larger, up to what their topic accepts; without the origin they are refused."""
    value = dump_json({"name": FINISHED, "data": {"text": "x" * (4 * MIB)}}, "event")
    assert decode_event(bytes(value), own=True).name == FINISHED
    with pytest.raises(TooLarge):
        decode_event(bytes(value))
    assert payload_bytes_max(EVENTS) <= OWN_EVENT_BYTES_MAX
    with pytest.raises(TooLarge, match="at most 8,388,608"):
        decode_event(b"x" * (OWN_EVENT_BYTES_MAX + 1), own=True)
