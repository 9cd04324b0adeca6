"""What the endpoints use: the engine, the read model, and what other rooms of the gateway may offer."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from stepstream.api.bodies import BodyBudget
from stepstream.api.facade import EngineFacade
from stepstream.contract.limits import SDK_LIMITS, Limits
from stepstream.gateway.rest.realtime import RealtimeTokens
from stepstream.gateway.rest.recent_events import RecentEvents
from stepstream.gateway.runs.metadata_log import MetadataLog
from stepstream.gateway.runs.peers import RunInput
from stepstream.gateway.wire.checkpoints import Checkpoint
from stepstream.gateway.wire.registration import SyncFailure
from stepstream.gateway.wire.signing import ServerKind
from stepstream.runtime.clocks import SystemClock
from stepstream.runtime.readmodel.index import RunIndex
from stepstream.runtime.worker.publisher import LivePublisher


class AuthorizationKey(Protocol):
    """A key with which SDKs authenticate."""

    def accepts(self, authorization: str) -> bool:
        """Return whether the value of an `Authorization` header proves that the client has the key."""


class RunInputs(Protocol):
    """The inputs of the open runs that this gateway calls; SDKs fetch them when they do not fit into a call."""

    def events(self, run_id: str) -> RunInput | None:
        """Return the events of a run, a JSON array; None if the gateway does not have the run."""

    def memos(self, run_id: str) -> RunInput | None:
        """Return the memos of a run, a JSON object by step; None if the gateway does not have the run."""


class Checkpoints(Protocol):
    """The runs for which this gateway makes calls."""

    def __contains__(self, run_id: object) -> bool: ...

    async def checkpoint(self, found: Checkpoint) -> bool:
        """Keep the steps that an app reports; return whether its call is open, once they are durable."""


class GatewayPeers(Protocol):
    """Other gateways, which may have made the calls that the requests to this one belong to."""

    def of(self, item: str) -> str:
        """Return the URL of the other gateway that has made a call, by its queue item; empty if there is none."""

    async def pass_on(self, url: str, path: str, body: bytes, authorization: str) -> int:
        """Send a checkpoint to a gateway and return the status of its answer; raise Unreachable if there is none."""

    async def fetch(self, path: str, authorization: str) -> RunInput | None:
        """Return the input of a run that another gateway has at a path, None if none has the run.

        Raise Unreachable if one that may have it does not answer.
        """


class AppRemoval(Protocol):
    """Forgets apps."""

    async def remove(self, url: str) -> bool:
        """Retire the functions of the app at a URL; return whether it was known."""


class FailedRegistrations(Protocol):
    """The registrations that failed, by app."""

    def of(self, app: str) -> SyncFailure | None:
        """Return what is wrong with an app, None if nothing is."""

    def all(self) -> Sequence[SyncFailure]:
        """Return what is wrong with each app."""


@dataclass(frozen=True, slots=True)
class RestOptions:
    """How the endpoints authenticate; a `dev` server without `event_keys` accepts any event key.

    A `cloud` server accepts requests with one of its `signing_keys` only. A `dev` server accepts requests of this
    machine only, unless it has `any_host`: a page of any site may send requests to servers on its visitor's machine.
    """

    kind: ServerKind = ServerKind.DEV
    event_keys: Sequence[str] = ()
    signing_keys: Sequence[AuthorizationKey] = ()
    any_host: bool = False


@dataclass(frozen=True, slots=True)
class RestParts:
    """What the endpoints use; `now_ms` returns the time (Unix ms).

    Without `inputs` events come from the read model, and memos cannot be fetched. Without `checkpoints` none is
    accepted, without `peers` there are no other gateways, and without `apps` no app can be removed. `failures` are the
    registrations that failed. Without `metadata` that of runs is dropped. `publisher` writes what apps publish, and
    `realtime` issues the tokens of subscriptions. `waits` returns whether a call of a run waits for a connected worker.
    """

    engine: EngineFacade
    index: RunIndex
    options: RestOptions = field(default_factory=RestOptions)
    bodies: BodyBudget = field(default_factory=BodyBudget)
    limits: Limits = SDK_LIMITS
    now_ms: Callable[[], int] = field(default_factory=lambda: SystemClock().now_ms)
    recent: RecentEvents = field(default_factory=RecentEvents)
    inputs: RunInputs | None = None
    checkpoints: Checkpoints | None = None
    peers: GatewayPeers | None = None
    apps: AppRemoval | None = None
    failures: FailedRegistrations | None = None
    metadata: MetadataLog | None = None
    publisher: LivePublisher | None = None
    waits: Callable[[str], bool] = lambda _: False
    realtime: RealtimeTokens = field(default_factory=RealtimeTokens)
