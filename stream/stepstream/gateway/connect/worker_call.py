"""A call to a worker: its life, waiting, sent and leased, and what changes that."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from stepstream.gateway.connect import frames_pb2 as pb
from stepstream.gateway.connect.worker_connection import WorkerConnection
from stepstream.gateway.runs.client import CALL_S_MAX
from stepstream.gateway.runs.transport import Response


@dataclass(frozen=True, slots=True)
class ConnectTimes:
    """Times in seconds.

    ack_s        after which a call that is not acknowledged goes to another worker
    lease_s      for which a worker may be silent about a call, for example while it connects again
    extend_s     the interval at which workers extend leases
    heartbeat_s  the interval of the heartbeats of workers; after two without one, a worker gets no calls
    hello_s      for which a worker may take to say what it serves
    call_s_max   how long a call may take
    """

    ack_s: float = 5.0
    lease_s: float = 60.0
    extend_s: float = 15.0
    heartbeat_s: float = 10.0
    hello_s: float = 5.0
    call_s_max: float = CALL_S_MAX


class WorkerCallPhase(StrEnum):
    """Where a call is."""

    WAITING = "waiting"  # No connected worker has room for it.
    SENT = "sent"  # A worker was sent it, and has not acknowledged it.
    LEASED = "leased"  # A worker runs it, for as long as it extends the lease.
    ABANDONED = "abandoned"  # A worker runs it, but nothing waits for the reply.
    ENDED = "ended"  # It has an outcome, or its worker is free again.


class WorkerCallEvent(StrEnum):
    """What happens to a call."""

    SEND = "send"  # It is sent to a worker.
    ACKNOWLEDGE = "acknowledge"  # The worker has received it, or extends the lease.
    EXPIRE = "expire"  # The worker was silent about it for too long.
    DISCONNECT = "disconnect"  # The connection over which it was sent is closed.
    REPLY = "reply"  # A worker has replied, or there will be no reply.
    ABANDON = "abandon"  # The run has ended or belongs to another process.


_Phase, _Event = WorkerCallPhase, WorkerCallEvent
# The worker of a leased call may connect again and reply, so it keeps the call until the lease expires.
CALL_LIFE: Mapping[WorkerCallPhase, Mapping[WorkerCallEvent, WorkerCallPhase]] = {
    _Phase.WAITING: {
        _Event.SEND: _Phase.SENT,
        # The worker whose lease had expired is not lost after all.
        _Event.ACKNOWLEDGE: _Phase.LEASED,
        _Event.REPLY: _Phase.ENDED,
        _Event.ABANDON: _Phase.ENDED,
    },
    _Phase.SENT: {
        _Event.ACKNOWLEDGE: _Phase.LEASED,
        _Event.EXPIRE: _Phase.WAITING,
        _Event.DISCONNECT: _Phase.WAITING,
        _Event.REPLY: _Phase.ENDED,
        _Event.ABANDON: _Phase.ABANDONED,
    },
    _Phase.LEASED: {
        _Event.ACKNOWLEDGE: _Phase.LEASED,
        _Event.EXPIRE: _Phase.WAITING,
        _Event.DISCONNECT: _Phase.LEASED,
        _Event.REPLY: _Phase.ENDED,
        _Event.ABANDON: _Phase.ABANDONED,
    },
    _Phase.ABANDONED: {
        _Event.ACKNOWLEDGE: _Phase.ABANDONED,
        _Event.EXPIRE: _Phase.ENDED,
        _Event.DISCONNECT: _Phase.ENDED,
        _Event.REPLY: _Phase.ENDED,
    },
    _Phase.ENDED: {},
}


@dataclass(slots=True, eq=False)
class WorkerCall:
    """A call of a function of an app, by its name in the engine; the request has the lease of the latest worker.

    Calls are numbered in their order. `lost` counts the workers that were lost while they ran it, and after `until_s`
    the latest one may run it no longer.
    """

    app: str
    request: pb.GatewayExecutorRequestData
    number: int
    reply: asyncio.Future[Response]
    phase: WorkerCallPhase = WorkerCallPhase.WAITING
    connection: WorkerConnection | None = None
    sdk: str = ""
    lost: int = 0
    until_s: float = 0.0
    _timer: asyncio.TimerHandle | None = None

    @property
    def id(self) -> str:
        """The id of the request."""
        return self.request.request_id

    @property
    def target(self) -> tuple[str, str]:
        """The app and the function."""
        return self.app, self.request.function_slug

    def on(self, event: WorkerCallEvent) -> None:
        """Change the phase."""
        self.phase = CALL_LIFE[self.phase][event]

    def watch(self, timer: asyncio.TimerHandle | None) -> None:
        """Have this timer in place of the previous one."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = timer

    def answer(self, outcome: Response | BaseException) -> None:
        """Return or raise the outcome where the call was made."""
        if self.reply.done():
            return
        if isinstance(outcome, BaseException):
            self.reply.set_exception(outcome)
        else:
            self.reply.set_result(outcome)
