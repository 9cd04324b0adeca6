"""How tests read what runs publish."""

from typing import Any, TypeVar, overload

from stepstream.contract.codec import load_json
from stepstream.contract.live import Published, current_messages, decode_published, run_stream, shared_stream
from stepstream.sdk.channels import Channel, channel_name
from stepstream.testing.pausing import PausingEngine

M = TypeVar("M")


class StreamingEngine(PausingEngine):
    """A test engine whose live streams can be read."""

    @overload
    async def stream(self, run_id: str, channel: Channel[M]) -> list[M]: ...
    @overload
    async def stream(self, run_id: str, channel: str = "") -> list[Any]: ...
    async def stream(self, run_id: str, channel: str | Channel[Any] = "") -> list[Any]:
        """Return the data that a run has published, on one channel if given, as its clients show it.

        Messages of failed attempts are left out. Those of channels that runs share are in `shared_stream`.
        """
        name = channel and channel_name(channel, shared=False)
        messages = current_messages(await self.published(run_stream(run_id)))
        return [_data(each, channel) for each in messages if name in ("", each.channel)]

    @overload
    async def shared_stream(self, channel: Channel[M]) -> list[M]: ...
    @overload
    async def shared_stream(self, channel: str) -> list[Any]: ...
    async def shared_stream(self, channel: str | Channel[Any]) -> list[Any]:
        """Return the data that runs have published on a shared channel, without that of failed attempts."""
        messages = await self.published(shared_stream(channel_name(channel, shared=True)))
        return [_data(each, channel) for each in current_messages(messages)]

    async def published(self, stream: str) -> list[Published]:
        """Return all messages of a stream, by its key in the topic `live`."""
        async with self.engine.live.listen(stream, "", 0) as listener:
            end, found = await listener.end(), list[Published]()
            while await listener.position() < end:
                found += [decode_published(record.value) for record in await listener.read(0.25)]
            return found


def _data(message: Published, channel: str | Channel[Any]) -> Any:
    return channel.load(message.data) if isinstance(channel, Channel) else load_json(message.data)
