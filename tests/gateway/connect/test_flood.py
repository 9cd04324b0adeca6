"""A worker that sends frames without a pause."""

from collections import Counter
from types import SimpleNamespace
from typing import Any

import aiohttp

from stepstream.gateway.connect import frames_pb2 as pb
from stepstream.gateway.connect.conversation import Conversation
from stepstream.gateway.connect.frames import frame
from stepstream.gateway.connect.worker_call import ConnectTimes
from tests.fakes.iterations import Iterations
from tests.fakes.waiting import iterate


class _Flood:
    """A connection over which many heartbeats have arrived, and nothing else."""

    def __init__(self, frames: int) -> None:
        self._left = frames

    async def receive(self, **_: float) -> Any:
        """Return the next one at once."""
        self._left -= 1
        if self._left < 0:
            return aiohttp.WSMessage(aiohttp.WSMsgType.CLOSED, None, None)
        return aiohttp.WSMessage(aiohttp.WSMsgType.BINARY, frame(pb.WORKER_HEARTBEAT), None)

    async def send_bytes(self, _: bytes) -> None:
        """Send nothing."""


async def test_worker_that_floods_does_not_block_the_event_loop() -> None:
    """A few frames are processed in each iteration, so that the others are served meanwhile."""
    connection: Any = SimpleNamespace(last_frame_at=0.0)
    updates = Counter[int]()
    flood: Any = _Flood(1_000)
    with Iterations() as iterations:
        await iterate()
        calls: Any = SimpleNamespace(times=ConnectTimes(), update=lambda _: updates.update([iterations.number]))
        await Conversation(calls, connection).hold(flood)
    assert updates.total() == 1_000
    assert max(updates.values()) <= 50
