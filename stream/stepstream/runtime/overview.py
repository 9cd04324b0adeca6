"""What a process knows about the whole engine beside the runs: the registered functions, and who serves the shards."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from stepstream.contract.functions import FunctionRegistered

# The owner of all shards of `stepstream dev`.
THIS_PROCESS = "this process"


@dataclass(frozen=True, slots=True)
class ShardView:
    """A shard as this process sees it.

    `owner` is the engine that serves it, "" if this process knows none. `unready` says why it processes nothing, and is
    empty if it does, or if this process cannot know. `is_own` says that this process is its owner.
    """

    shard: int
    owner: str
    unready: str
    is_own: bool = False


@dataclass(frozen=True, slots=True)
class RunningWorker:
    """A worker that runs: its release, and the versions of stepstream and Python; "" for what is unknown.

    `client` and `host` are the client id and the address of a member of a consumer group, as the broker knows them.
    """

    release: str = ""
    stepstream: str = ""
    python: str = ""
    client: str = ""
    host: str = ""


@dataclass(frozen=True, slots=True)
class UnmatchedEvent:
    """An event that started no function and resumed no wait, and why; `at` is Unix ms."""

    id: str
    name: str
    at: int
    reason: str


@dataclass(frozen=True, slots=True)
class ScopePauseView:
    """The pause of a function or a queue: its scope, since and until when (Unix ms, 0: no end), who and why."""

    scope: str
    since: int
    until: int
    by: str
    why: str


@dataclass(frozen=True, slots=True)
class ScopeChangeView:
    """A change of the pause of a function or a queue: when (Unix ms), who and why, and whether it is paused since then.

    A pause ends at `until` (Unix ms, 0: no end). Without `by`, the pause expired.
    """

    at: int
    paused: bool
    until: int
    by: str
    why: str


class Overview(Protocol):
    """What a process knows at once, from its memory and its tables."""

    def functions(self) -> Sequence[FunctionRegistered]:
        """Return all registered functions, retired ones included; none while this process serves no shard."""

    def pauses(self) -> Sequence[ScopePauseView]:
        """Return the pauses of functions and queues; none while this process serves no shard."""

    def pause_changes(self, scope: str) -> Sequence[ScopeChangeView]:
        """Return the latest pauses and resumptions of a function or a queue, the newest first; none as in `pauses`."""

    def shards(self) -> Sequence[ShardView]:
        """Return all shards, in order."""
