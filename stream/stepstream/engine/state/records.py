"""The inputs of the engine: records of the inbox, events as they arrive, registrations, and time."""

from dataclasses import dataclass

from stepstream.contract.events import EventRecord
from stepstream.contract.functions import FunctionRegistered
from stepstream.contract.inbox import InboxRecord
from stepstream.contract.limits import TIMESTAMP_MS_MAX
from stepstream.engine.state.keys import Key
from stepstream.engine.state.rows import Timer


@dataclass(frozen=True, slots=True)
class EventReceived:
    """An event read from its topic, which took it at `arrived_at` (Unix ms).

    `position` is the identity of an event without an id. `own` marks an event that the engine or a step sent: a derived
    id cannot occur twice. `chain` counts the runs that precede it in a chain of runs that started one another.
    """

    event: EventRecord
    position: str
    arrived_at: int
    own: bool = False
    chain: int = 0


@dataclass(frozen=True, slots=True)
class Tick:
    """A timer is due: it fires, unless another record of the batch has removed it.

    The shard has applied all inputs that its log took before `read_to` (Unix ms).
    """

    timer: Key[Timer]
    read_to: int = TIMESTAMP_MS_MAX


@dataclass(frozen=True, slots=True)
class ShardOpened:
    """A process has opened the shard; its clock may be behind the clock of the process that served the shard before."""


Input = InboxRecord | EventReceived | FunctionRegistered | Tick | ShardOpened
