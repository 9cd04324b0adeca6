"""What a connected worker says, and what it gets as an answer."""

import asyncio
import itertools
from dataclasses import dataclass

from aiohttp import WSMsgType, web

from stepstream.contract.errors import InvalidInput
from stepstream.gateway.connect import frames_pb2 as pb
from stepstream.gateway.connect.frames import frame, read
from stepstream.gateway.connect.handshake import REFUSED, Hangup
from stepstream.gateway.connect.worker_calls import WorkerCalls
from stepstream.gateway.connect.worker_connection import WorkerConnection

# Reading does not yield while frames are buffered; after so many, other tasks may run.
_FRAMES_PER_ITERATION_MAX = 50
# A worker that has been silent for so many intervals of its heartbeat is gone.
SILENT_INTERVALS_MAX = 5


@dataclass(frozen=True, slots=True)
class Conversation:
    """The frames over one connection once the worker is known."""

    calls: WorkerCalls
    connection: WorkerConnection

    async def hold(self, ws: web.WebSocketResponse) -> None:
        """Answer what the worker says until the connection is closed; raise Hangup if it must be."""
        silent_s = SILENT_INTERVALS_MAX * self.calls.times.heartbeat_s
        for number in itertools.count(1):
            if number % _FRAMES_PER_ITERATION_MAX == 0:
                await asyncio.sleep(0)
            try:
                message = await ws.receive(timeout=silent_s)
            except TimeoutError:
                raise Hangup(REFUSED, "connect_worker_silent") from None
            if message.type in (WSMsgType.CLOSE, WSMsgType.CLOSING, WSMsgType.CLOSED, WSMsgType.ERROR):
                return
            if message.type is not WSMsgType.BINARY:
                raise Hangup(REFUSED, "connect_worker_invalid_payload")
            self.connection.last_frame_at = asyncio.get_running_loop().time()
            try:
                answer = self.answer(read(pb.ConnectMessage, message.data))
            except InvalidInput:
                raise Hangup(REFUSED, "connect_worker_invalid_payload") from None
            if answer is not None:
                await ws.send_bytes(answer)

    def answer(self, message: pb.ConnectMessage) -> bytes | None:
        """Return the frame that answers one of the worker, if it needs an answer."""
        match message.kind:
            case pb.WORKER_HEARTBEAT:
                self.calls.update(self.connection)
                return frame(pb.GATEWAY_HEARTBEAT)
            case pb.WORKER_READY:
                self.connection.ready = True
                self.calls.update(self.connection)
            case pb.WORKER_PAUSE:
                self.connection.paused = True
                self.calls.update(self.connection)
            case pb.WORKER_REQUEST_ACK:
                found = read(pb.WorkerRequestAckData, message.payload)
                self.calls.acknowledge(found.request_id, self.connection)
            case pb.WORKER_REQUEST_EXTEND_LEASE:
                return self._extended(read(pb.WorkerRequestExtendLeaseData, message.payload))
            case pb.WORKER_REPLY:
                reply = read(pb.SDKResponse, message.payload)
                self.calls.reply(reply)
                return frame(pb.WORKER_REPLY_ACK, pb.WorkerReplyAckData(request_id=reply.request_id))
        return None

    def _extended(self, asked: pb.WorkerRequestExtendLeaseData) -> bytes:
        lease = self.calls.extend(asked.request_id, asked.lease_id, self.connection)
        answer = pb.WorkerRequestExtendLeaseAckData(
            request_id=asked.request_id,
            account_id=asked.account_id,
            env_id=asked.env_id,
            app_id=asked.app_id,
            function_slug=asked.function_slug,
            new_lease_id=lease or None,
        )
        return frame(pb.WORKER_REQUEST_EXTEND_LEASE_ACK, answer)
