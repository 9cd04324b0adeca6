"""How tests read what runs publish."""

from typing import Any

from stepstream.contract.codec import load_json
from stepstream.contract.live import Published, current_messages, decode_published, run_stream, shared_stream
from stepstream.testing.pausing import PausingEngine


class StreamingEngine(PausingEngine):
    """A test engine whose live streams can be read."""

    async def stream(self, run_id: str, channel: str = "") -> list[Any]:
        """Return the data that a run has published, on one channel if given, as its clients show it.

        Messages of failed attempts are left out. Those of channels that runs share are in `shared_stream`.
        """
        messages = current_messages(await self.published(run_stream(run_id)))
        return [load_json(each.data) for each in messages if channel in ("", each.channel)]

    async def shared_stream(self, channel: str) -> list[Any]:
        """Return the data that runs have published on a shared channel, without that of failed attempts."""
        return [load_json(each.data) for each in current_messages(await self.published(shared_stream(channel)))]

    async def published(self, stream: str) -> list[Published]:
        """Return all messages of a stream, by its key in the topic `live`."""
        async with self.engine.live.listen(stream, "", 0) as listener:
            end, found = await listener.end(), list[Published]()
            while await listener.position() < end:
                found += [decode_published(record.value) for record in await listener.read(0.25)]
            return found
