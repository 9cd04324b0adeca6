"""The records of `live`: messages that the code of runs publishes, and which of them a client shows."""

from collections.abc import Sequence

import msgspec

from stepstream.contract.codec import Raw, has_lone_surrogate
from stepstream.contract.errors import InvalidInput
from stepstream.contract.limits import LIVE_CHANNEL_CHARACTERS_MAX

_SHARED = "channel:"
_OFFSET_DIGITS_MAX = 18


class Published(msgspec.Struct, frozen=True, tag_field="type", omit_defaults=True, tag="published"):
    """A message on a channel: `number` counts the messages of one `execution` of the code, from 0.

    `step` is the hash of the step whose body published it, `step_id` its id, both "" for the code between steps;
    `attempt` counts from 0. A worker that takes over a run executes the same attempt again.
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


def current_messages(messages: Sequence[Published]) -> list[Published]:
    """Return messages in their order, without those that a later execution of the same code replaced.

    A new execution replaces what earlier ones published under the same number or a higher one. A body counts from 0, so
    a new attempt replaces all that failed ones published.
    """
    kept: dict[tuple[str, str], list[Published]] = {}
    replaced: set[str] = set()
    for message in messages:
        of_step = kept.setdefault((message.run_id, message.step), [])
        last = of_step[-1] if of_step else None
        if message.execution in replaced:
            continue
        if last and last.execution != message.execution:
            replaced.add(last.execution)
            of_step[:] = [each for each in of_step if each.number < message.number]
        elif last and message.number <= last.number:
            continue
        of_step.append(message)
    shown = {id(message) for of_step in kept.values() for message in of_step}
    return [message for message in messages if id(message) in shown]
