"""Identities: derived from their causes and never drawn, so that the same input gives the same bytes."""

import functools
import hashlib
import re
from typing import NewType
from zlib import crc32

import msgspec

from stepstream.contract.limits import TIMESTAMP_MS_MAX

RunId = NewType("RunId", str)
StepHash = NewType("StepHash", str)

_CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_PAIRS = [first + second for first in _CROCKFORD for second in _CROCKFORD]
_TIME_CHARACTERS = 10
_HASH_CHARACTERS = 16
_CANCEL_ON = "cancel_on:"
_BRANCH = "#"
_SENT_EVENT_ID = re.compile(rf"[{_CROCKFORD}]{{{_TIME_CHARACTERS + _HASH_CHARACTERS}}}:[0-9a-f]{{16}}:\d+")


class StepRef(msgspec.Struct, frozen=True):
    """A step of a run."""

    run_id: str
    step: str


def cancel_waiter(run_id: str, number: int) -> StepRef:
    """Return the waiter for the event of a rule, by its number, that cancels a run; a step has a hash for a name."""
    return StepRef(run_id, f"{_CANCEL_ON}{number}")


def is_cancel_waiter(step: str) -> bool:
    """Return whether `step` is that of a waiter that `cancel_waiter` gives."""
    return step.startswith(_CANCEL_ON)


def branch_waiter(run_id: str, step: str, number: int) -> StepRef:
    """Return the waiter for one of the events, by its number, that a step waits for."""
    return StepRef(run_id, f"{step}{_BRANCH}{number}")


def branch_of(step: str) -> tuple[str, int | None]:
    """Return the step of a waiter that `branch_waiter` gives, and its number; None for the waiter of a whole step."""
    name, _, number = step.partition(_BRANCH)
    return name, int(number) if number else None


class Bucket(msgspec.Struct, frozen=True, omit_defaults=True):
    """The waits for one event name whose first equality is `path` == `value`, and the kept events that satisfy it.

    `value` is an index key. Without a path it is the scan bucket of the name: each event of the name is checked there.
    """

    event: str
    path: str = ""
    value: str = ""

    @property
    def routing_key(self) -> str:
        """The key whose shard owns the bucket; the scan bucket belongs to the shard of the event name."""
        return f"{self.event}\x00{self.path}\x00{self.value}" if self.path else self.event


def _base32(number: int, characters: int) -> str:
    """Return the last `characters` digits of a number in Crockford's Base32; `characters` must be even."""
    return "".join([_PAIRS[(number >> shift) & 1023] for shift in range(5 * (characters - 2), -1, -10)])


def run_hash(function_id: str, cause: str) -> str:
    """Return the 16 characters (80 bits) that identify the pair of a function and the cause of its start.

    They are the tail of the run id and the routing key of the run, so a second start by the same cause reaches the
    shard of the first.
    """
    digest = hashlib.sha256(f"{len(function_id)}:{function_id}{cause}".encode()).digest()
    return _base32(int.from_bytes(digest[:10], "big"), _HASH_CHARACTERS)


def run_id_at(ts_ms: int, hash_part: str) -> RunId:
    """Return the ULID of a run: 48 bits of time in milliseconds, then its hash (https://github.com/ulid/spec)."""
    clamped = min(max(ts_ms, 0), TIMESTAMP_MS_MAX)
    return RunId(_base32(clamped, _TIME_CHARACTERS) + hash_part)


def run_routing(run_id: str) -> str:
    """Return the routing key of a run: the hash part of its id."""
    return run_id[_TIME_CHARACTERS:]


def time_part(run_id: str) -> str:
    """Return the time in a run id, which is that of its event: such texts sort by time."""
    return run_id[:_TIME_CHARACTERS]


def run_ms(run_id: str) -> int:
    """Return the time in a run id in Unix milliseconds."""
    return functools.reduce(lambda number, digit: number * 32 + _CROCKFORD.index(digit), time_part(run_id), 0)


def is_run_id(text: str) -> bool:
    """Return whether `text` has the form of a run id."""
    return len(text) == _TIME_CHARACTERS + _HASH_CHARACTERS and not set(text) - set(_CROCKFORD)


def step_hash(step_id: str, use: int) -> StepHash:
    """Return the identity of the `use`-th use (from 0) of a step id in a run: SHA-1 in lower-case hex."""
    name = f"{step_id}:{use}" if use else step_id
    return StepHash(hashlib.sha1(name.encode(), usedforsecurity=False).hexdigest())


def sent_event_id(run_id: str, step: str, index: int) -> str:
    """Return the id of an event that a step sends without one: the same on every attempt."""
    return f"{run_id}:{step[:16]}:{index}"


def sender_of_event(id: str) -> str:
    """Return the id of the run that sent an event, if its id is one of sent_event_id, else ""."""
    return id.partition(":")[0] if is_sent_event_id(id) else ""


def is_sent_event_id(text: str) -> bool:
    """Return whether `text` has the form that sent_event_id gives."""
    return _SENT_EVENT_ID.fullmatch(text) is not None


def shard_of(routing_key: str, shards: int) -> int:
    """Return the shard, and so the partition of `inbox` and `changelog`, that owns a routing key (CRC-32 modulo P)."""
    return crc32(routing_key.encode()) % shards if shards > 1 else 0
