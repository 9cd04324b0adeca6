"""What the engine takes in beside the records of the inbox: events at their arrival, and time."""

from dataclasses import dataclass

from stepstream.contract.events import EventRecord
from stepstream.contract.functions import FunctionRegistered
from stepstream.contract.inbox import InboxRecord
from stepstream.engine.state.keys import Key


@dataclass(frozen=True, slots=True)
class EventReceived:
    """An event read from its topic; `position` is its identity when it brings none, `arrived_at` the log's time (ms).

    `own` marks an event of the engine itself, whose derived id cannot come twice, or one that a step sent.
    """

    event: EventRecord
    position: str
    arrived_at: int
    own: bool = False


@dataclass(frozen=True, slots=True)
class Tick:
    """Time has reached that of a timer: what it was armed for happens, unless something took it away meanwhile."""

    timer: Key


Input = InboxRecord | EventReceived | FunctionRegistered | Tick
