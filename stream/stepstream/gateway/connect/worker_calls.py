"""The calls to connected workers: each goes to a worker that has room, and to another one if that worker is lost."""

import asyncio
import itertools
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, field

from stepstream.gateway.connect import frames_pb2 as pb
from stepstream.gateway.connect.frames import frame, response_of
from stepstream.gateway.connect.session_tokens import new_ulid
from stepstream.gateway.connect.worker_call import ConnectTimes, WorkerCall, WorkerCallEvent, WorkerCallPhase
from stepstream.gateway.connect.worker_connection import WorkerConnection
from stepstream.gateway.runs.transport import NotCalled, Response, Unreachable
from stepstream.runtime.notification import Notification

# So many workers that are lost while they run a call are a failed attempt: the call may be what ends them.
LOST_MAX = 3


@dataclass(slots=True, eq=False)
class WorkerCalls:
    """The connections of this process and the calls that wait for a worker, or that a worker has.

    `changed` is notified when a worker comes or goes. `notice` receives a line when calls of an app wait because none
    of its workers is connected. `lost_leases` counts the leases that expired, by app, and has each app that had a call
    or a worker.
    """

    times: ConnectTimes = field(default_factory=ConnectTimes)
    notice: Callable[[str], None] = lambda _: None
    changed: Notification = field(default_factory=Notification)
    connections: list[WorkerConnection] = field(default_factory=list)
    lost_leases: Counter[str] = field(default_factory=Counter)
    _open: dict[str, WorkerCall] = field(default_factory=dict)
    _waiting: dict[tuple[str, str], dict[str, WorkerCall]] = field(default_factory=dict)
    _numbers: Iterator[int] = field(default_factory=itertools.count)
    _missed: set[str] = field(default_factory=set)

    @property
    def open(self) -> Collection[WorkerCall]:
        """The calls that wait for a worker, or that a worker has."""
        return self._open.values()

    async def call(self, app: str, request: pb.GatewayExecutorRequestData) -> Response:
        """Send a call to a worker, once one has room for it, and return its response.

        Raise Unreachable if workers were lost repeatedly, and NotCalled if the process stops before a worker has it.
        """
        self.lost_leases[app] += 0
        reply: asyncio.Future[Response] = asyncio.get_running_loop().create_future()
        call = self._open[request.request_id] = WorkerCall(app, request, next(self._numbers), reply)
        self._assign(call)
        try:
            return await reply
        finally:
            if call.phase is not WorkerCallPhase.ENDED:
                self._abandon(call)

    def waits(self, run_id: str) -> bool:
        """Return whether a call of a run waits for a worker."""
        return any(call.request.run_id == run_id for calls in self._waiting.values() for call in calls.values())

    def interrupt(self, app: str = "") -> None:
        """Raise NotCalled in the calls of an app, or of all apps, that no worker has."""
        for call in [call for calls in self._waiting.values() for call in calls.values() if app in ("", call.app)]:
            self._end(call, NotCalled())

    # Connections.

    def serves(self, app: str) -> bool:
        """Return whether a worker of an app is connected and takes calls."""
        return any(each.is_serving and app in each.apps for each in self.connections)

    def add(self, connection: WorkerConnection) -> None:
        """Send calls over one more connection; the version of an app that came last is preferred."""
        for name, app in connection.apps.items():
            same = (each for each in self.connections if name in each.apps and each.apps[name].version == app.version)
            other = next(same, None)
            connection.ranks[name] = other.ranks[name] if other else next(self._numbers)
            self._missed.discard(name)
            self.lost_leases[name] += 0
        self.connections.append(connection)
        self.update(connection)

    def update(self, connection: WorkerConnection) -> None:
        """Note that the worker may take calls now, or takes none from now on."""
        self._refill(connection)
        self.changed.notify()

    def remove(self, connection: WorkerConnection) -> None:
        """Note that a connection is closed; a call that the worker has acknowledged waits for it to connect again."""
        connection.closed = True
        self.connections.remove(connection)
        for call in list(connection.calls.values()):
            call.on(WorkerCallEvent.DISCONNECT)
            if call.phase is not WorkerCallPhase.LEASED:
                self._continue(call)
        self.changed.notify()

    # What workers say.

    def acknowledge(self, request_id: str, connection: WorkerConnection) -> None:
        """Note that a worker has received a call, and runs it."""
        call = self._open.get(request_id)
        if call and (call.connection is None or connection.replaces(call.connection)):
            self._lease(call, connection)

    def extend(self, request_id: str, lease_id: str, connection: WorkerConnection) -> str:
        """Extend a lease; return the next one, or "" if the worker has lost the call."""
        call = self._open.get(request_id)
        if call is None or lease_id != call.request.lease_id or time.monotonic() > call.until_s:
            return ""
        self._lease(call, connection)
        return lease_id

    def reply(self, reply: pb.SDKResponse) -> None:
        """Take the reply to a call, over whichever connection it came; the first one counts."""
        if call := self._open.get(reply.request_id):
            self._end(call, response_of(reply, call.sdk))

    # The way of a call.

    def _assign(self, call: WorkerCall) -> None:
        """Send a call to a worker, or let it wait for one."""
        if connection := self._choose(call, self.connections):
            self._send(call, connection)
            return
        self._waiting.setdefault(call.target, {})[call.id] = call
        if call.app not in self._missed and not any(call.app in each.apps for each in self.connections):
            self._missed.add(call.app)
            self.notice(f"no worker of app {call.app} is connected: its calls wait")

    def _choose(self, call: WorkerCall, connections: Iterable[WorkerConnection]) -> WorkerConnection | None:
        """Return a worker that has room for a call: of the preferred version, the one with the most room."""
        able = (each for each in connections if each.takes(*call.target))
        return max(able, key=lambda each: (each.ranks[call.app], each.free), default=None)

    def _refill(self, connection: WorkerConnection) -> None:
        """Send the calls that have waited the longest to a worker, as far as it has room."""
        while queues := [calls for target, calls in self._waiting.items() if connection.takes(*target)]:
            call = min((next(iter(calls.values())) for calls in queues), key=lambda call: call.number)
            self._send(call, connection)

    def _send(self, call: WorkerCall, connection: WorkerConnection) -> None:
        self._take_out(call)
        call.on(WorkerCallEvent.SEND)
        call.sdk, call.until_s = connection.sdk, time.monotonic() + self.times.call_s_max
        call.request.app_name = connection.apps[call.app].name
        call.request.lease_id = new_ulid(time.time())
        self._occupy(call, connection, self.times.ack_s)
        connection.send(frame(pb.GATEWAY_EXECUTOR_REQUEST, call.request))

    def _lease(self, call: WorkerCall, connection: WorkerConnection) -> None:
        self._take_out(call)
        call.on(WorkerCallEvent.ACKNOWLEDGE)
        self._occupy(call, connection, self.times.lease_s)

    def _occupy(self, call: WorkerCall, connection: WorkerConnection, seconds: float) -> None:
        """Count a call among those of a worker, until it has been silent about it for so many seconds."""
        earlier, call.connection = call.connection, connection
        connection.calls[call.id] = call
        self._watch(call, seconds)
        self._vacate(call, earlier)

    def _watch(self, call: WorkerCall, seconds: float) -> None:
        call.watch(asyncio.get_running_loop().call_later(seconds, self._expire, call))

    def _expire(self, call: WorkerCall) -> None:
        """Take a call from a worker that is silent about it."""
        if call.phase is WorkerCallPhase.SENT:
            others = (each for each in self.connections if each is not call.connection)
            if self._choose(call, others) is None:
                # The only worker may be busy; if it is gone, its connection will be closed.
                self._watch(call, self.times.ack_s)
                return
        if call.phase is WorkerCallPhase.LEASED:
            call.lost += 1
            self.lost_leases[call.app] += 1
        call.on(WorkerCallEvent.EXPIRE)
        self._continue(call)

    def _continue(self, call: WorkerCall) -> None:
        """Send a call whose worker is lost to another one; end one that nothing waits for, or that takes too long."""
        if call.phase is WorkerCallPhase.ENDED:
            self._forget(call)
        elif time.monotonic() > call.until_s:
            self._end(call, Unreachable(f"no reply within {self.times.call_s_max:g} s"))
        elif call.lost >= LOST_MAX:
            self._end(call, Unreachable(f"{call.lost} workers in a row were lost while they ran the call"))
        else:
            call.watch(None)
            earlier, call.connection = call.connection, None
            # The worker that was silent has no room for it yet, if it has just that much.
            self._assign(call)
            self._vacate(call, earlier)

    def _abandon(self, call: WorkerCall) -> None:
        call.on(WorkerCallEvent.ABANDON)
        if call.phase is WorkerCallPhase.ENDED:
            self._forget(call)

    def _end(self, call: WorkerCall, outcome: Response | BaseException) -> None:
        call.on(WorkerCallEvent.REPLY)
        self._forget(call)
        call.answer(outcome)

    def _forget(self, call: WorkerCall) -> None:
        self._take_out(call)
        del self._open[call.id]
        call.watch(None)
        earlier, call.connection = call.connection, None
        self._vacate(call, earlier)

    def _take_out(self, call: WorkerCall) -> None:
        """Let a call wait for a worker no longer."""
        if calls := self._waiting.get(call.target):
            calls.pop(call.id, None)
            if not calls:
                del self._waiting[call.target]

    def _vacate(self, call: WorkerCall, connection: WorkerConnection | None) -> None:
        """Take a call off its worker, which then gets calls that wait."""
        if connection is None or call.connection is connection:
            return
        connection.calls.pop(call.id, None)
        if connection.closing and not connection.calls:
            connection.send(frame(pb.GATEWAY_CLOSING))
        self._refill(connection)
