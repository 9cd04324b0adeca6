"""What apps of SDKs publish on topics of channels, as messages of live streams.

A channel that is the id of a run stands for that run, and its topics for the channels of the run. Any other channel is
a shared one.
"""

import codecs
import secrets
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

from stepstream.contract.codec import NULL, Raw, encode, load_json
from stepstream.contract.errors import InvalidInput, TooLarge
from stepstream.contract.ids import is_run_id
from stepstream.contract.limits import MIB
from stepstream.contract.live import Published, StreamPart, check_channel, run_stream, shared_stream
from stepstream.runtime.worker.publisher import LivePublisher

STREAMED_BYTES_MAX = MIB
_ID_BYTES = 10


def stream_of(channel: str) -> str:
    """Return the live stream that has the messages of a channel."""
    return run_stream(channel) if is_run_id(channel) else shared_stream(channel)


def json_of(body: bytes) -> Raw:
    """Return a published body: JSON as it is, and any other text as a string."""
    try:
        load_json(body)
        return Raw(body.strip())
    except InvalidInput:
        return Raw(encode(body.decode(errors="replace")))


@dataclass(slots=True)
class Publication:
    """What one request publishes on a topic, by `run_id` if it names a run; raise InvalidInput for a wrong name."""

    publisher: LivePublisher
    channel: str
    topic: str
    run_id: str
    now_ms: Callable[[], int]
    _id: str = field(default_factory=lambda: secrets.token_hex(_ID_BYTES))
    _number: int = 0

    def __post_init__(self) -> None:
        check_channel(self.channel)
        check_channel(self.topic)

    async def publish(self, body: bytes) -> None:
        """Publish a body as one message; return once it is durable."""
        await self._add(json_of(body))

    async def publish_parts(self, parts: AsyncIterator[bytes]) -> None:
        """Publish a text in parts as they arrive; raise TooLarge beyond 1 MiB. Its end is published in any case."""
        decoder, size = codecs.getincrementaldecoder("utf-8")("replace"), 0
        await self._add(NULL, StreamPart.START)
        try:
            async for part in parts:
                size += len(part)
                if size > STREAMED_BYTES_MAX:
                    raise TooLarge(f"the stream has more than {STREAMED_BYTES_MAX:,} bytes", "body")
                if text := decoder.decode(part):
                    await self._add(Raw(encode(text)), StreamPart.CHUNK)
            if text := decoder.decode(b"", final=True):
                await self._add(Raw(encode(text)), StreamPart.CHUNK)
        finally:
            await self._add(NULL, StreamPart.END)

    async def _add(self, data: Raw, part: StreamPart = StreamPart.NONE) -> None:
        await self.publisher.room()
        await self.publisher.add(stream_of(self.channel), self._message(data, part))

    def _message(self, data: Raw, part: StreamPart) -> Published:
        number, at = self._number, self.now_ms()
        self._number += 1
        if is_run_id(self.channel):
            return Published(self.channel, self.topic, self._id, "", 0, self._id, number, at, data, part=part)
        run_id = self.run_id if is_run_id(self.run_id) else ""
        return Published(run_id, self.channel, self._id, "", 0, self._id, number, at, data, self.topic, part)
