"""What a deployment or a test decides about a worker."""

from dataclasses import dataclass, field

from stepstream.contract.limits import DEFAULT_LIMITS, RUNS_ACTIVE_MAX, RUNS_CACHED_MAX, RUNS_QUEUED_MAX, Limits
from stepstream.runtime.clocks import SystemClock
from stepstream.runtime.ports import Clock
from stepstream.runtime.worker.memory import MemoryBudget
from stepstream.runtime.worker.observer import WorkerObserver
from stepstream.runtime.worker.step_logs import StepLogs
from stepstream.sdk.execution import Bodies


@dataclass(frozen=True, slots=True)
class WorkerOptions:
    """The options of a worker of runs or of a queue; a worker of a queue counts steps where this says runs.

    Without a `live_cache` no code stays in memory when it waits for the engine.
    """

    clock: Clock = field(default_factory=SystemClock)
    bodies: Bodies = field(default_factory=Bodies)
    limits: Limits = DEFAULT_LIMITS
    observer: WorkerObserver | None = None
    live_cache: bool = True
    runs_active_max: int = RUNS_ACTIVE_MAX
    runs_cached_max: int = RUNS_CACHED_MAX
    # All workers of a process share it.
    memory: MemoryBudget = field(default_factory=MemoryBudget)
    # No more commands are read while this many runs wait for a slot.
    runs_queued_max: int = RUNS_QUEUED_MAX
    # A body that is running when its partition is revoked is leased for this long; the lease is renewed before it
    # expires.
    lease_ms: int = 60_000
    lease_renew_s: float = 20.0
    # Where what the code logs is kept; None keeps nothing.
    logs: StepLogs | None = None
