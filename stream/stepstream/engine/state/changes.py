"""What a transition may ask for: four changes, returned as data and never done here."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import msgspec

from stepstream.contract.topics import INBOX
from stepstream.engine.state.keys import Key
from stepstream.engine.state.rows import Row


class Put(NamedTuple):
    """Write a row of this shard."""

    key: Key
    row: Row


class Delete(NamedTuple):
    """Remove a row of this shard."""

    key: Key


class Send(NamedTuple):
    """Append a record to a topic; `partition` is chosen by the log, from `key`, when it is -1.

    What is for `later` comes back by the log in a batch of its own, even when it stays in the shard.
    """

    topic: str
    key: str
    record: msgspec.Struct
    partition: int = -1
    later: bool = False


class Reply(NamedTuple):
    """Answer the caller `to` once the batch is committed."""

    to: str
    status: str


Change = Put | Delete | Send | Reply


# A name and its labels.
Count = tuple[str, ...]


class Sample(NamedTuple):
    """A length of time worth watching; `label` says of what, within `name`."""

    name: str
    label: str
    value_ms: int


class Changes(NamedTuple):
    """The outcome of one transition: changes in order, how often what happened, and how long what took."""

    changes: tuple[Change, ...]
    counts: Mapping[Count, int]
    samples: Sequence[Sample] = ()


def is_local(change: Send, shard: int) -> bool:
    """Tell whether a record stays in the shard at work, to be taken in the same batch."""
    return change.topic == INBOX and change.partition == shard and not change.later
