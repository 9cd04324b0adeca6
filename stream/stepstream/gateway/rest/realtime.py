"""The subscriptions of SDKs to topics of channels, whose messages are those of live streams; and their tokens."""

import asyncio
import base64
import logging
import re
import secrets
import time
from collections.abc import Callable, Iterable, Mapping, Sequence

import msgspec
from fastapi import WebSocket
from starlette.websockets import WebSocketDisconnect

from stepstream.contract.codec import Raw, encode
from stepstream.contract.errors import InvalidInput, StepstreamError
from stepstream.contract.ids import is_run_id
from stepstream.contract.live import Published, StreamPart, check_channel, decode_published
from stepstream.gateway.rest.publications import stream_of
from stepstream.gateway.rest.replies import iso
from stepstream.gateway.rest.run_messages import RealtimeMessage, RunWatch
from stepstream.gateway.wire.signing import SigningKey
from stepstream.runtime.ports import LiveLog, LogError, LogRecord
from stepstream.runtime.readmodel.index import RunIndex

logger = logging.getLogger(__name__)
TOPICS_MAX, CHANNELS_MAX, SUBSCRIPTIONS_MAX = 100, 10, 64
_ID_BYTES = 10
_READ_S_MAX = 0.25
_WRITE_S_MAX = 30.0
_ISSUED = re.compile(r"t=(\d{1,15})&")


class Topic(msgspec.Struct, frozen=True):
    """A topic of a channel."""

    channel: str
    name: str


class Subscription(msgspec.Struct, frozen=True):
    """The topics that a token opens, and when it was issued (Unix ms)."""

    topics: tuple[Topic, ...]
    issued_at: int

    @property
    def channels(self) -> Mapping[str, frozenset[str]]:
        """The names of the topics by channel."""
        named = {topic.channel for topic in self.topics}
        return {name: frozenset(each.name for each in self.topics if each.channel == name) for name in named}


_KINDS = {
    StreamPart.NONE: "data",
    StreamPart.START: "datastream-start",
    StreamPart.CHUNK: "chunk",
    StreamPart.END: "datastream-end",
}
_topics = msgspec.json.Decoder(tuple[Topic, ...]).decode


class RealtimeTokens:
    """Issues tokens, signed with the first key, and accepts for five minutes those that one of the keys signed."""

    def __init__(self, keys: Sequence[SigningKey] = (), now_s: Callable[[], float] = time.time) -> None:
        self._keys = keys or [SigningKey(secrets.token_hex(32))]
        self._now_s = now_s

    def issue(self, body: bytes) -> str:
        """Return the token for the topics in the body of a request; raise InvalidInput if they cannot be read."""
        try:
            topics = _topics(body)
        except (msgspec.MsgspecError, UnicodeError) as error:
            raise InvalidInput(f"use an array of topics with channel and name: {error}", "body") from None
        if not 0 < len(topics) <= TOPICS_MAX or len({topic.channel for topic in topics}) > CHANNELS_MAX:
            raise InvalidInput(f"use 1 to {TOPICS_MAX} topics of at most {CHANNELS_MAX} channels", "body")
        for topic in topics:
            check_channel(topic.channel)
            check_channel(topic.name)
        named = _base64(encode(topics))
        return f"{named}.{_base64(self._keys[0].sign(_signed(named), int(self._now_s())).encode())}"

    def read(self, token: str) -> Subscription | None:
        """Return what a token opens; None if it is not valid, or has expired."""
        named, _, signed = token.partition(".")
        try:
            signature, topics = _bytes(signed).decode(), _bytes(named)
        except ValueError:
            return None
        issued, now_s = _ISSUED.match(signature), int(self._now_s())
        if not issued or not any(key.verify(signature, _signed(named), now_s) for key in self._keys):
            return None
        return Subscription(_topics(topics), int(issued[1]) * 1_000)


class Subscriptions:
    """The subscriptions of a process to the live streams."""

    def __init__(self, live: LiveLog | None, index: RunIndex, most: int = SUBSCRIPTIONS_MAX) -> None:
        self._live = live
        self._index = index
        self._most = most
        self._open = 0

    @property
    def refusal(self) -> str:
        """Why there may be no further subscription now; empty if there may."""
        if self._live is None:
            return "this process has no live streams"
        return f"this process has {self._most} subscriptions, its limit" if self._open >= self._most else ""

    async def serve(self, socket: WebSocket, subscription: Subscription) -> None:
        """Send the messages that follow the issue of the token, until the client disconnects."""
        self._open += 1
        lock, channels = asyncio.Lock(), subscription.channels.items()
        sending = [self._forward(socket, lock, each, names, subscription.issued_at) for each, names in channels]
        tasks = [asyncio.ensure_future(each) for each in (_disconnected(socket), *sending)]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._open -= 1
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        for task in done:
            _report(task.exception())

    async def _forward(
        self, socket: WebSocket, lock: asyncio.Lock, channel: str, names: frozenset[str], since_ms: int
    ) -> None:
        assert self._live
        watch = RunWatch(self._index, channel, names, since_ms)

        async def send(messages: Iterable[RealtimeMessage]) -> None:
            for message in messages:
                async with lock, asyncio.timeout(_WRITE_S_MAX):
                    await socket.send_text(encode(message).decode())

        with self._index.changes.watched():
            async with self._live.listen(stream_of(channel), "", since_ms) as listener:
                while True:
                    await send(_published(await listener.read(_READ_S_MAX), channel, names))
                    if news := await watch.news():
                        # What a run publishes is in the log before its end, and before that of the step, is known.
                        last = await listener.end()
                        while await listener.position() < last:
                            await send(_published(await listener.read(_READ_S_MAX), channel, names))
                        await send(news)


def _published(records: Sequence[LogRecord], channel: str, names: frozenset[str]) -> Iterable[RealtimeMessage]:
    """Yield the messages on these topics of a channel as the SDKs read them."""
    for record in records:
        try:
            message = decode_published(record.value)
        except (msgspec.MsgspecError, UnicodeError) as error:
            logger.warning("a live message was skipped: %s", error)
            continue
        # A Python function publishes on channels without topics.
        topic = message.topic or message.channel
        if topic in names:
            yield _shown(message, channel, topic)


def _shown(message: Published, channel: str, topic: str) -> RealtimeMessage:
    run_id = message.run_id if is_run_id(message.run_id) else ""
    stream_id = message.execution if message.part else ""
    is_marker = message.part in (StreamPart.START, StreamPart.END)
    data = Raw(encode(stream_id)) if is_marker else message.data
    return RealtimeMessage(_KINDS[message.part], channel, topic, data, iso(message.at) or "", run_id, stream_id)


async def _disconnected(socket: WebSocket) -> None:
    while (await socket.receive())["type"] != "websocket.disconnect":
        pass


def _report(error: BaseException | None) -> None:
    match error:
        case None | WebSocketDisconnect() | TimeoutError():
            return  # The client has left, or takes nothing.
        case LogError() | StepstreamError():
            logger.warning("a subscription ended, and its client connects again: %s", error)
        case _:
            raise error


def _signed(named: str) -> bytes:
    # No other request that is signed with the key begins like this.
    return f"realtime {named} ".encode()


def _base64(value: bytes) -> str:
    return base64.urlsafe_b64encode(value).decode().rstrip("=")


def _bytes(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
