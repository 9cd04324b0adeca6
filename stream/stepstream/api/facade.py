"""What the HTTP API asks of the engine in its process."""

from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from stepstream.contract.events import EventRecord
from stepstream.contract.limits import Limits
from stepstream.contract.operators.bulk import BulkRequest
from stepstream.contract.operators.control import Pause, RerunRequested
from stepstream.contract.operators.limit_settings import LimitChangeRequested
from stepstream.contract.operators.limit_views import LimitAnswer, LimitsPage, LimitView
from stepstream.contract.receipts import SignalReceipt
from stepstream.runtime.metrics import Reading
from stepstream.runtime.overview import Overview, RunningWorker, UnmatchedEvent
from stepstream.runtime.ports import LiveLog
from stepstream.runtime.readmodel.views import RunView
from stepstream.runtime.readmodel.why import Surroundings, limit_of, surroundings_of
from stepstream.runtime.stream_stats import StreamStats


class SendEvents(Protocol):
    """Sends events."""

    async def __call__(self, events: Sequence[EventRecord], /, *, limits: Limits | None = None) -> list[str]:
        """Send events, all or none, and return their ids once they are durable; `limits` replace the usual ones."""


class SendSignal(Protocol):
    """Sends a signal."""

    async def __call__(self, name: str, data: Any = None, by: str = "") -> bool:
        """Return whether a run waited for the signal, which `by` sends."""


class Operator(Protocol):
    """Controls runs; each call returns once its request is applied, and raises Conflict if it does not apply."""

    async def cancel(self, run_id: str, by: str = "", why: str = "", *, children: bool = False) -> bool:
        """Cancel a run, also the runs that it waits for if asked; return whether it existed and had not ended."""

    async def signal_run(self, name: str, data: Any = None, by: str = "") -> str:
        """Send a signal; return the id of the run that waited for it, "" if none did."""

    async def signal_with_start(
        self, name: str, data: Any, function: str, start: Any = None, *, by: str = ""
    ) -> SignalReceipt:
        """Send a signal to the run that waits for it, or start a function with it."""

    async def invoke(self, function: str, event: EventRecord) -> str:
        """Start a function, and no other one, by an event; return the id of its run.

        Only the id, the data, `user`, `v` and `meta` of the event are used. The same id starts the function once in
        24 hours.
        """

    async def rerun(self, request: RerunRequested) -> str:
        """Rerun a run; return the id of the new run, even if the request was sent before."""

    async def pause(self, run_id: str, pause: Pause) -> bool:
        """Pause a run, or change its pause; return whether it existed and had not ended."""

    async def unpause(self, run_id: str, by: str = "", why: str = "") -> bool:
        """End the pause of a run; return whether it was paused."""

    async def bulk(self, request: BulkRequest) -> str:
        """Send a request about a bulk operation; return the state of the operation, `absent` if there is none."""

    async def pause_scope(self, scope: str, pause: Pause | None, by: str = "", why: str = "") -> bool:
        """Pause a function or a queue, or resume it without a pause; return whether it is paused now, or was."""

    async def limits(self, name: str, after: str, count: int) -> LimitsPage:
        """Return at most `count` limits that follow the gate `after`, only those of `name` if it is given."""

    async def limit(self, name: str, key: str) -> LimitAnswer:
        """Return a limit for a value of its key."""

    async def change_limit(self, request: LimitChangeRequested) -> bool:
        """Change a limit; return whether there was something to change."""

    async def limit_of(self, run_id: str) -> LimitView | None:
        """Return the limit for which a run waits, with its place in the queue; None if it waits for none."""


@dataclass(frozen=True, slots=True)
class DeadLetterView:
    """A dead letter: its place, its time (Unix ms), the origin of its record, and why it could not be processed.

    `size` is that of the value (bytes), `redrives` counts how often the record was redriven before, and `sources` are
    those that could not map it. Only a part of a record that `is_cut` was stored. Lists leave out the content; a key or
    value that is null is None. If it was redriven, `is_sent` and `by` say so.
    """

    place: str
    at: int
    topic: str
    partition: int
    offset: int
    reason: str
    size: int
    redrives: int
    sources: Sequence[str]
    is_cut: bool = False
    key: bytes | None = None
    value: bytes | None = None
    headers: Sequence[tuple[str, bytes | None]] = ()
    is_sent: bool = False
    by: str = ""

    def sent_by(self, by: str) -> "DeadLetterView":
        """Return it as redriven by a user, "" if unknown."""
        return replace(self, is_sent=True, by=by)


class DeadLetters(Protocol):
    """The latest dead letters of the log."""

    async def latest(self, limit: int) -> Sequence[DeadLetterView]:
        """Return the latest dead letters without their content, the newest first."""

    async def show(self, place: str) -> DeadLetterView | None:
        """Return one of the latest dead letters with its content, None if it is not among them."""

    async def redrive(self, place: str, by: str) -> None:
        """Send one of the latest dead letters again; raise Conflict if that cannot be done, or was done before."""


@dataclass(frozen=True, slots=True)
class EngineFacade:
    """The calls of the API.

    `workers` returns the running
    workers by name; names whose workers are unknown are left out. `unready` says why the
    process is not ready, and is empty when it is. `operator` controls runs. `overview` has what the process knows of
    functions and shards. `unmatched` returns the latest events from outside that matched nothing, the newest first;
    None if the process does not notice them. `readings` are the gauges that this process measures.
    `dead_letters` reads and redrives dead letters. `failed_apps` says what is wrong with each app of an SDK that failed
    to register with this process. `live` has the messages that runs publish.
    """

    send: SendEvents
    signal: SendSignal
    workers: Callable[[Sequence[str]], Awaitable[dict[str, list[RunningWorker]]]]
    unready: Callable[[], str]
    operator: Operator
    overview: Overview
    unmatched: Callable[[], Sequence[UnmatchedEvent] | None] = lambda: None
    readings: Callable[[], Iterable[Reading]] = tuple
    dead_letters: DeadLetters | None = None
    failed_apps: Callable[[], Sequence[str]] = tuple
    live: LiveLog | None = None
    stream_stats: StreamStats = field(default_factory=StreamStats)

    async def surroundings(self, run: RunView) -> Surroundings:
        """Return what the process knows beside a run, by which `why_open` explains it."""
        workers = await self.workers(run.workers) if run.workers else {}
        return surroundings_of(run, self.overview, workers, await limit_of(run, self.operator.limit_of))
