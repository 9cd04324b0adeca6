"""The sessions of an event follow from those of its sender and what the event says about them."""

from typing import Any

import pytest

from stepstream.contract.codec import Raw, encode, load_json
from stepstream.contract.errors import InvalidInput
from stepstream.gateway.wire.event_meta import read_meta

_INHERITED = {"conversation": "1", "user": "ann"}


def _sessions(**given: Any) -> Any:
    return load_json(read_meta(Raw(encode({**given, "propagated_sessions": _INHERITED}))))


@pytest.mark.parametrize(
    ("sessions", "resolved"),
    [
        ({}, _INHERITED),
        (None, None),
        ({"conversation": None}, {"user": "ann"}),
        ({"conversation": "2"}, {"conversation": "2", "user": "ann"}),
        ({"conversation": None, "user": None}, None),
    ],
)
def test_sessions_of_the_sender_are_replaced_or_removed(sessions: Any, resolved: Any) -> None:
    """A session takes the place of an inherited one, a null removes one, and null instead of all removes all."""
    assert _sessions(sessions=sessions) == (resolved and {"sessions": resolved})


def test_sessions_are_inherited_beside_what_else_an_sdk_sends() -> None:
    """What the server does not know is kept as it came."""
    assert _sessions(other=1) == {"other": 1, "sessions": _INHERITED}
    assert bytes(read_meta(Raw(b'{"n":1.50}'))) == b'{"n":1.50}'
    assert load_json(read_meta(Raw(b"null"))) is None


def test_meta_is_an_object() -> None:
    """Anything else is refused, with the name of the field."""
    with pytest.raises(InvalidInput, match=r"payload\.meta"):
        read_meta(Raw(b"[]"), "payload.meta")
