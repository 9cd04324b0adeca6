"""Ids of the events in a request, from the seed that an SDK sends so that a repeated request has the same ids."""

import base64
import binascii
import re

from stepstream.contract.limits import DEFAULT_LIMITS, TIMESTAMP_MS_MAX

_CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_SEED = re.compile(r"(\d{1,15}),([A-Za-z0-9+/]{14}={0,2})")
_ENTROPY_BYTES = 10
_ULID_CHARACTERS = 26
_TAIL = 2**32


def seeded_ids(seed: str, count: int) -> list[str] | None:
    """Return the ULIDs of `count` events by the header X-Inngest-Event-Id-Seed; None for a malformed seed.

    A seed is a time in Unix milliseconds and ten bytes. The last four of these, as a number, are increased by the
    position of the event, from 1.
    """
    found = _SEED.fullmatch(seed.strip())
    if not found or int(found[1]) > TIMESTAMP_MS_MAX or not 0 <= count <= DEFAULT_LIMITS.events_per_request_max:
        return None
    try:
        entropy = base64.b64decode(found[2], validate=True)
    except binascii.Error:
        return None
    if len(entropy) != _ENTROPY_BYTES:
        return None
    head, tail = divmod(int(found[1]) << 80 | int.from_bytes(entropy, "big"), _TAIL)
    return [_ulid(head * _TAIL + (tail + position) % _TAIL) for position in range(1, count + 1)]


def _ulid(number: int) -> str:
    return "".join([_CROCKFORD[number >> shift & 31] for shift in range(5 * (_ULID_CHARACTERS - 1), -1, -5)])
