"""The figures of connected workers for the metrics of a process: connections, calls and lost leases, by app."""

from collections import Counter
from collections.abc import Iterator

from stepstream.gateway.connect.worker_call import WorkerCallPhase
from stepstream.gateway.connect.worker_calls import WorkerCalls
from stepstream.gateway.connect.worker_connection import CONNECTION_STATUSES
from stepstream.runtime.metrics import Reading

_PHASES = [phase for phase in WorkerCallPhase if phase is not WorkerCallPhase.ENDED]


def connect_readings(calls: WorkerCalls) -> Iterator[Reading]:
    """Return the current figures of each app that had a call or a worker; what there is none of is 0."""
    connections = Counter((app, each.status) for each in calls.connections for app in each.apps)
    phases = Counter((call.app, call.phase) for call in calls.open)
    for app in sorted(calls.lost_leases):
        for status in CONNECTION_STATUSES:
            yield Reading("connect_connections", (app, status), connections[app, status])
        for phase in _PHASES:
            yield Reading("connect_calls", (app, phase), phases[app, phase])
        yield Reading("connect_leases_lost", (app,), calls.lost_leases[app])
