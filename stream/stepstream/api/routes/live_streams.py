"""The routes of live streams: what runs publish, as server-sent events."""

import asyncio
import logging
from collections.abc import AsyncGenerator, Collection, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, aclosing
from dataclasses import dataclass
from typing import Any

import msgspec
from fastapi import Depends, FastAPI, HTTPException, Query, Request, Response

from stepstream.api.bodies import BodyBudget
from stepstream.api.facade import EngineFacade
from stepstream.api.stream_tokens import Grant, ReadableFromPages, StreamTokens
from stepstream.api.streams import NOTHING, RETRY_MS, EventStream, Streams
from stepstream.contract.errors import StepstreamError
from stepstream.contract.kinds import ENDED_RUN_STATUSES
from stepstream.contract.limits import MINUTE_MS
from stepstream.contract.live import check_channel, decode_published, message_id, run_stream, shared_stream
from stepstream.runtime.ports import LiveListener, LogError, LogRecord
from stepstream.runtime.readmodel.index import RunIndex
from stepstream.runtime.recurrence import Recurrence
from stepstream.runtime.stream_stats import StreamEnd, StreamStats

logger = logging.getLogger(__name__)
_READ_S_MAX = 0.25
# How far the clocks of an engine and of a worker may differ.
_CLOCKS_MS = MINUTE_MS
# The id of the last event of a run, after which there is nothing.
_ENDED = "end"
_FIRST = f": connected\nretry: {RETRY_MS}\n\n".encode()
_HEARTBEAT = b": heartbeat\n\n"
_MESSAGE, _END = b"id: ", f"id: {_ENDED}\n".encode()
# It has no id, so a client continues after its last message.
_EXPIRED = b"event: expired\ndata: {}\n\n"
TOKEN_BODY_BYTES_MAX = 64 * 1024
_TOKEN_BODY = {
    "requestBody": {
        "required": True,
        "description": 'what the token opens: {"runs"?, "run_channels"?, "channels"?, "expires"?: "15m"}',
        "content": {"application/json": {"schema": {"type": "object"}}},
    }
}
_AFTER = Query("", description="the id of a message; those that follow it are sent. The header `Last-Event-ID` wins")
_CHANNEL = Query([], description="only messages on this channel; may be repeated")
Listening = AbstractAsyncContextManager[LiveListener]


class RunEnd:
    """Notices the end of a run; the read model is queried only when the run has changed."""

    def __init__(self, index: RunIndex, run_id: str) -> None:
        self._index = index
        self._run_id = run_id
        self._since = NOTHING

    async def status(self) -> str:
        """Return the status of the run if it has ended, else ""."""
        changes = self._index.changes
        if not changes.among([self._run_id], self._since):
            return ""
        self._since = changes.version
        found = await self._index.queries.find_runs([self._run_id])
        return next((run.status for run in found if run.status in ENDED_RUN_STATUSES), "")


def add_stream_tokens(api: FastAPI, tokens: StreamTokens, guarded: Sequence[Any], bodies: BodyBudget) -> None:
    """Add the route that issues tokens by which browsers read streams."""
    api.add_middleware(ReadableFromPages)

    @api.post("/v1/streams/tokens", openapi_extra=_TOKEN_BODY, dependencies=guarded, summary="Issue a stream token")
    async def issue_token(request: Request) -> dict[str, str | int]:
        async with bodies.body(request, TOKEN_BODY_BYTES_MAX) as body:
            return tokens.issue(body)


def add_live_streams(
    api: FastAPI, engine: EngineFacade, index: RunIndex, tokens: StreamTokens, checks: Sequence[Any], streams: Streams
) -> None:
    """Add the routes of the messages of a run and of a shared channel; they are counted apart from `streams`."""
    streams, failures, stats = streams.beside(), Recurrence(), engine.stream_stats
    allowed = Depends(tokens.grant)
    guarded = [allowed, *checks]

    def listen(stream: str, after: str, since_ms: int) -> Listening:
        if engine.live is None:
            raise HTTPException(503, "this process has no live streams; ask an engine")
        return engine.live.listen(stream, after, since_ms)

    def respond(
        listening: Listening, grant: Grant, channels: Collection[str] = (), end: RunEnd | None = None
    ) -> Response:
        if streams.is_full:
            limit = streams.options.streams_max
            stats.refused += 1
            raise HTTPException(503, f"this engine has {limit} live streams, its limit", {"Retry-After": "5"})
        selected = Selection(grant, channels, end, streams.options.heartbeat_s)
        return EventStream(streams, _counted(_messages(listening, selected), failures, stats))

    @api.get("/v1/runs/{run_id}/stream", dependencies=guarded, summary="Stream what a run publishes, up to its end")
    async def stream_run(
        request: Request, run_id: str, channel: list[str] = _CHANNEL, after: str = _AFTER, grant: Grant = allowed
    ) -> Response:
        channels = grant.check_run(run_id, {check_channel(each) for each in channel})
        found = await index.queries.find_runs([run_id])
        if not found:
            raise HTTPException(404, f"there is no run {run_id!r}")
        after = _last_id(request, after)
        if after == _ENDED:
            # A browser does not reconnect after a 204.
            return Response(status_code=204)
        since_ms = max(found[0].accepted_at - _CLOCKS_MS, 0)
        return respond(listen(run_stream(run_id), after, since_ms), grant, channels, RunEnd(index, run_id))

    @api.get("/v1/channels/{name:path}/stream", dependencies=guarded, summary="Stream what runs publish on a channel")
    async def stream_channel(request: Request, name: str, after: str = _AFTER, grant: Grant = allowed) -> Response:
        grant.check_channel(check_channel(name))
        return respond(listen(shared_stream(name), _last_id(request, after), 0), grant)


def _last_id(request: Request, after: str) -> str:
    # A browser that reconnects repeats the URL, and adds the id of the last message.
    return request.headers.get("Last-Event-ID") or after


async def _counted(
    messages: AsyncGenerator[bytes, None], failures: Recurrence, stats: StreamStats
) -> AsyncGenerator[bytes, None]:
    """Yield messages; count them, and why they end. If the log or the read model fails, the client connects again."""
    end = StreamEnd.LEFT
    stats.open += 1
    try:
        async with aclosing(messages):
            async for message in messages:
                # A connection that closes before the client has taken what was sent ends the generator here.
                end = StreamEnd.SLOW
                yield message
                stats.sent += message.startswith(_MESSAGE) and not message.startswith(_END)
                end = StreamEnd.TOKEN_EXPIRED if message == _EXPIRED else StreamEnd.LEFT
        end = StreamEnd.RUN_ENDED if end == StreamEnd.LEFT else end
    except (LogError, StepstreamError) as error:
        end = StreamEnd.FAILED
        if (more := failures.occurs(str(error))) is not None:
            logger.warning("a live stream was closed, and its client connects again: %s%s", error, more)
    finally:
        stats.open -= 1
        stats.ended[end] += 1


@dataclass(frozen=True, slots=True)
class Selection:
    """What a request sees of a stream.

    grant        until when it may read
    channels     the channels that it shows, empty for all
    end          notices the end of the run, None for a shared channel, which has no end
    heartbeat_s  after this time without a message a comment is sent
    """

    grant: Grant
    channels: Collection[str]
    end: RunEnd | None
    heartbeat_s: float


async def _messages(listening: Listening, selected: Selection) -> AsyncGenerator[bytes, None]:
    """Yield the parts of a stream; the next messages are read once the client took the previous ones.

    What a run publishes is in the log before its end is, so all of it was read at the end that the log has then.
    """
    loop = asyncio.get_running_loop()
    async with listening as listener:
        yield _FIRST
        sent_at, last, status = loop.time(), 0, ""
        while not selected.grant.is_expired:
            if selected.end and not status and (status := await selected.end.status()):
                last = await listener.end()
            if status and await listener.position() >= last:
                yield _end_event(status)
                return
            for part in _parts(await listener.read(_READ_S_MAX), selected.channels):
                if selected.grant.is_expired:
                    break
                yield part
                sent_at = loop.time()
            if loop.time() - sent_at >= selected.heartbeat_s:
                yield _HEARTBEAT
                sent_at = loop.time()
        yield _EXPIRED


def _parts(records: Sequence[LogRecord], channels: Collection[str]) -> Iterator[bytes]:
    for record in records:
        id = message_id(record.partition, record.offset)
        try:
            message = decode_published(record.value)
        except (msgspec.MsgspecError, UnicodeError) as error:
            logger.warning("live message %s skipped: %s", id, error)
            continue
        if not channels or message.channel in channels:
            # A line break in JSON is a blank; in an event it would end a line.
            value = record.value.replace(b"\r", b" ").replace(b"\n", b" ")
            yield b"id: %b\ndata: %b\n\n" % (id.encode(), value)


def _end_event(status: str) -> bytes:
    return f'id: {_ENDED}\nevent: end\ndata: {{"status":"{status}"}}\n\n'.encode()
