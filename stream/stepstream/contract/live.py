"""The records of `live`: messages that the code of runs publishes, and which of them a client shows."""

import enum
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import msgspec

from stepstream.contract.codec import Raw, has_lone_surrogate
from stepstream.contract.errors import InvalidInput
from stepstream.contract.limits import LIVE_CHANNEL_CHARACTERS_MAX, LIVE_STEPS_REMEMBERED_MAX

_SHARED = "channel:"
_OFFSET_DIGITS_MAX = 18


class StreamPart(enum.StrEnum):
    """What a message is of a text that an app publishes in parts; START and END have no data."""

    NONE = ""
    START = "start"
    CHUNK = "chunk"
    END = "end"


class Published(msgspec.Struct, frozen=True, tag_field="type", omit_defaults=True, tag="published"):
    """A message on a channel: `number` counts the messages of one `execution` of the code, from 0.

    `step` is the hash of the step whose body published it, `step_id` its id, both "" for the code between steps;
    `attempt` counts from 0. A worker that takes over a run executes the same attempt again. A message that an app of
    an Inngest SDK publishes by a request has a `step` and an `execution` that no other one has, the id of the run if
    the app names it, and the `topic` of its channel. A text that is published in parts is several messages with one
    `execution`.
    """

    run_id: str
    channel: str
    step: str
    step_id: str
    attempt: int
    execution: str
    number: int
    at: int
    data: Raw
    topic: str = ""
    part: StreamPart = StreamPart.NONE


decode_published = msgspec.json.Decoder(Published).decode


def run_stream(run_id: str) -> str:
    """Return the key of the messages on the channels of one run."""
    return run_id


def shared_stream(channel: str) -> str:
    """Return the key of the messages on a channel that runs share."""
    return f"{_SHARED}{channel}"


def message_id(partition: int, offset: int) -> str:
    """Return the id of a message, by which a client continues after it."""
    return f"{partition}-{offset}"


def offset_after(id: str, partition: int) -> int:
    """Return the offset after a message of a partition; raise InvalidInput unless `id` is that of one."""
    of, _, offset = id.partition("-")
    if of != str(partition) or not (offset.isascii() and offset.isdecimal() and len(offset) <= _OFFSET_DIGITS_MAX):
        raise InvalidInput(f"{id!r} is not the id of a message of this stream", "after")
    return int(offset) + 1


def check_channel(name: object) -> str:
    """Return the name of a channel; raise InvalidInput unless it is a string of 1 to 256 characters in UTF-8."""
    if not isinstance(name, str) or not 0 < len(name) <= LIVE_CHANNEL_CHARACTERS_MAX or has_lone_surrogate(name):
        raise InvalidInput(f"use a string of 1 to {LIVE_CHANNEL_CHARACTERS_MAX} characters", "channel")
    return name


class Placing(enum.Enum):
    """What a client does with a message: shows it after the earlier ones, or in place of some, or ignores it."""

    FOLLOWS = "follows"
    REPLACES = "replaces"
    IGNORED = "ignored"


@dataclass(slots=True)
class _Executions:
    """The executions of the code of one step: the latest one with its latest number, and those that it replaced."""

    latest: str = ""
    number: int = -1
    replaced: set[str] = field(default_factory=set)


class MessageOrder:
    """Decides which messages of a stream are shown, in the order in which they are read.

    A new execution replaces what earlier ones published under the same number or a higher one. A body counts from 0, so
    a new attempt replaces all that failed ones published. Only the `steps_max` steps with the latest messages are
    remembered.
    """

    def __init__(self, steps_max: int = LIVE_STEPS_REMEMBERED_MAX) -> None:
        self._steps: dict[tuple[str, str], _Executions] = {}
        self._steps_max = steps_max

    def place(self, message: Published) -> Placing:
        """Return what to do with the next message."""
        key = (message.run_id, message.step)
        of_step = self._steps[key] = self._steps.pop(key) if key in self._steps else _Executions()
        if len(self._steps) > self._steps_max:
            del self._steps[next(iter(self._steps))]
        is_new = message.execution != of_step.latest
        if message.execution in of_step.replaced or (not is_new and message.number <= of_step.number):
            return Placing.IGNORED
        placing = Placing.REPLACES if is_new and of_step.latest else Placing.FOLLOWS
        if placing == Placing.REPLACES:
            of_step.replaced.add(of_step.latest)
        of_step.latest, of_step.number = message.execution, message.number
        return placing


def current_messages(messages: Sequence[Published]) -> list[Published]:
    """Return messages in their order, without those that a later execution of the same code replaced."""
    order, shown = MessageOrder(), list[Published]()
    for message in messages:
        placing = order.place(message)
        if placing == Placing.REPLACES:
            shown = [each for each in shown if not is_replaced(each, message)]
        if placing != Placing.IGNORED:
            shown.append(message)
    return shown


class Numbered(Protocol):
    """A message with its place in the execution of its code."""

    @property
    def run_id(self) -> str:
        """The run."""

    @property
    def step(self) -> str:
        """The hash of the step."""

    @property
    def execution(self) -> str:
        """The execution of the code."""

    @property
    def number(self) -> int:
        """The number of the message in the execution."""


def is_replaced(earlier: Numbered, later: Numbered) -> bool:
    """Return whether a message of the same code replaces an earlier one."""
    is_same_code = (earlier.run_id, earlier.step) == (later.run_id, later.step)
    return is_same_code and earlier.execution != later.execution and earlier.number >= later.number
