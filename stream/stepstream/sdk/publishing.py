"""Publishes what the code of a run sends to clients that listen."""

import asyncio
from collections.abc import Awaitable, Generator
from typing import Any

from stepstream.contract.codec import Raw, dump_json
from stepstream.contract.errors import TooLarge
from stepstream.contract.limits import LIVE_DATA_BYTES_MAX
from stepstream.contract.live import Published, check_channel, run_stream, shared_stream
from stepstream.sdk.channels import Channel, plain_message
from stepstream.sdk.replay.messages import Execution, Publisher
from stepstream.sdk.replay.replay import Replay
from stepstream.sdk.replay.tasks import Body, current_body
from stepstream.sdk.values import to_json


class _Done:
    """What a call from a thread returns, which has blocked until the message was queued; awaiting it does nothing."""

    def __await__(self) -> Generator[None, None, None]:
        return
        yield


class Outlet:
    """Publishes for the code of one run: one execution is that of the code between steps, and each body has one."""

    def __init__(self, replay: Replay, attempt: int = 0) -> None:
        self._replay = replay
        self._between = Execution(attempt=attempt)

    def publish(self, channel: str | Channel[Any], data: Any, *, shared: bool) -> Awaitable[None]:
        """Publish a message, in a thread before this returns, and in the event loop once the result is awaited."""
        name, data, shared = plain_message(channel, data, shared=shared)
        raw, publisher = message_data(name, data), self._replay.publisher
        if publisher is None:
            return _Done()
        sending = self._send(publisher, current_body.get(), name, raw, shared=shared)
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            publisher.wait_for(sending)
            return _Done()
        return sending

    async def publish_in_body(self, channel: str, data: Any, shared: bool) -> None:
        """Publish a message as the body of a step."""
        await self.publish(channel, data, shared=shared)

    async def _send(self, publisher: Publisher, body: Body | None, channel: str, data: Raw, *, shared: bool) -> None:
        execution = self._execution(body)
        if body is None and self._is_repeated():
            execution.number += 1
            return
        await publisher.room()
        run_id, at = self._replay.run_id, self._replay.now_ms()
        step, id, attempt = execution.step, execution.step_id, execution.attempt
        message = Published(run_id, channel, step, id, attempt, execution.id, execution.number, at, data)
        execution.sent(publisher.add(shared_stream(channel) if shared else run_stream(run_id), message))
        if body is None:
            # No result of a step follows that would wait for it.
            await execution.written()

    def _execution(self, body: Body | None) -> Execution:
        if body is None:
            return self._between
        if body.execution is None:
            body.execution = Execution(body.hash, body.step, body.attempt)
        return body.execution

    def _is_repeated(self) -> bool:
        """Return whether an earlier execution of the code between steps has published this message.

        That is certain only while the code is one task, and has results or open steps before it. What follows a message
        that was sent again is sent again too: clients drop what they have under its number or a higher one.
        """
        replay = self._replay
        if replay.dispatched:
            return True
        return replay.repeating and replay.activity.is_sequential and not self._between.is_sending


def message_data(channel: str, data: Any) -> Raw:
    """Return the data of a message as JSON; raise InvalidInput if it, or the name of the channel, is not valid."""
    raw = dump_json(to_json(data), f"data on channel {check_channel(channel)!r}")
    if len(bytes(raw)) > LIVE_DATA_BYTES_MAX:
        raise TooLarge(
            f"the data has {len(bytes(raw)):,} bytes, and a message at most {LIVE_DATA_BYTES_MAX:,}; "
            "publish it in parts, or publish where it is stored",
            f"channel {channel!r}",
        )
    return raw
