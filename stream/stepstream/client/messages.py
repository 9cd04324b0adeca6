"""The messages of a stream as a program gets them, and as their bytes arrive."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from stepstream.contract.limits import MIB
from stepstream.contract.live import Published, is_replaced

# A message has 256 KiB of data and its names; a control character in them is up to six characters.
EVENT_BYTES_MAX = 2 * MIB


D = TypeVar("D")


@dataclass(frozen=True, slots=True)
class StreamMessage(Generic[D]):
    """A message that the code of a run published.

    Attributes:
        id: Continues a stream after this message, as `after=`.
        run_id: The run that published it.
        channel: The name of the channel.
        data: What was published, as the type of its `Channel`, or as plain JSON values.
        step_id: The id of the step whose body published it; "" for the code between steps.
        step: The hash of that step, which differs for steps with the same id; "" for the code between steps.
        attempt: The attempt of the body or of the code, from 0.
        execution: The execution of the code; a worker that takes over a run executes the same attempt again.
        number: The number of the message in its execution, from 0.
        at: When it was published, in Unix milliseconds.
    """

    id: str
    run_id: str
    channel: str
    data: D
    step_id: str
    step: str
    attempt: int
    execution: str
    number: int
    at: int

    def replaces(self, earlier: "StreamMessage[Any]") -> bool:
        """Return whether this message replaces an earlier one, which a failed attempt of the same code published."""
        return is_replaced(earlier, self)


def stream_message(id: str, message: Published, data: D) -> StreamMessage[D]:
    """Return a message of the log with its id and its data."""
    return StreamMessage(
        id,
        message.run_id,
        message.channel,
        data,
        message.step_id,
        message.step,
        message.attempt,
        message.execution,
        message.number,
        message.at,
    )


@dataclass(frozen=True, slots=True)
class ServerSentEvent:
    """An event of a stream: its id, its kind, and its data."""

    id: str
    kind: str
    data: str


class EventParser:
    """Parses the bytes of a stream of events, which may come in parts of any size.

    An event is complete at the blank line after it; one that was cut off before is dropped. The format is that of
    https://html.spec.whatwg.org/multipage/server-sent-events.html, without single carriage returns.
    """

    def __init__(self) -> None:
        self._rest = b""
        self._fields: dict[str, list[str]] = {}

    def feed(self, part: bytes) -> Iterator[ServerSentEvent]:
        """Yield the events that a part of the stream completes; raise ValueError if the bytes are not events."""
        *lines, self._rest = (self._rest + part).split(b"\n")
        if len(self._rest) > EVENT_BYTES_MAX:
            raise ValueError(f"a line has more than {EVENT_BYTES_MAX:,} bytes")
        for line in lines:
            text = line.removesuffix(b"\r").decode()
            name, _, value = text.partition(":")
            if not text:
                yield from self._event()
            elif name:
                self._fields.setdefault(name, []).append(value.removeprefix(" "))

    def _event(self) -> Iterator[ServerSentEvent]:
        fields, self._fields = self._fields, {}
        if "data" in fields:
            yield ServerSentEvent(fields.get("id", [""])[-1], fields.get("event", [""])[-1], "\n".join(fields["data"]))
