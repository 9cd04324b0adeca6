"""The bounds of one request, exactly at the limit."""

import pytest

from stepstream.api.http import parse_events
from stepstream.contract.errors import InvalidInput
from stepstream.contract.limits import DEFAULT_LIMITS


def test_a_request_with_too_many_events_is_refused() -> None:
    """5,000 events in one request are accepted; with one more, all are refused and the error has the number."""
    event = b'{"name":"x"}'
    assert len(parse_events(b"[" + b",".join([event] * 5_000) + b"]", DEFAULT_LIMITS)) == 5_000
    with pytest.raises(InvalidInput, match="expected 1 to 5,000 events, got 5,001"):
        parse_events(b"[" + b",".join([event] * 5_001) + b"]", DEFAULT_LIMITS)
