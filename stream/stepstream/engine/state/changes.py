"""What a transition returns: four kinds of changes, as data, and what it measured."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from stepstream.contract.topics import INBOX
from stepstream.engine.state.keys import Key
from stepstream.engine.state.rows import Row


class Put(NamedTuple):
    """Write a row of this shard."""

    key: Key[Any]
    row: Row


class Delete(NamedTuple):
    """Delete a row of this shard."""

    key: Key[Any]


class Send(NamedTuple):
    """Append a record to a topic; with a `partition` of -1 the log chooses one by `key`.

    A record that stays in the shard is applied in the same batch, unless it is for `later`: then it goes through the
    log. An event has its place in a `chain` of runs, for the header.
    """

    topic: str
    key: str
    record: msgspec.Struct
    partition: int = -1
    later: bool = False
    chain: int = 0


class Reply(NamedTuple):
    """Answer the caller `to` once the batch is committed."""

    to: str
    status: str


Change = Put | Delete | Send | Reply


# The name of a counter and its labels.
Count = tuple[str, ...]


class Sample(NamedTuple):
    """A measured duration; `label` is the value of the label of the metric `name`."""

    name: str
    label: str
    value_ms: int


class Changes(NamedTuple):
    """The result of one transition: changes in order, what was counted, and what was measured."""

    changes: tuple[Change, ...]
    counts: Mapping[Count, int]
    samples: Sequence[Sample] = ()


def is_local(change: Send, shard: int) -> bool:
    """Return whether a record stays in this shard and must be applied in the same batch."""
    return change.topic == INBOX and change.partition == shard and not change.later
