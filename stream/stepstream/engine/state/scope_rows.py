"""The rows of the pauses of functions and queues."""

import msgspec

from stepstream.contract.operators.control import Pause


class ScopePause(msgspec.Struct, frozen=True):
    """The pause of a function or a queue since `since` (Unix ms); every shard has the row."""

    pause: Pause
    since: int


class ScopeChange(msgspec.Struct, frozen=True, omit_defaults=True):
    """One change of the pause of a function or a queue: when (Unix ms), its pause from then on, who asked, and why.

    Without a pause it was resumed; by an empty name if the time of its pause had come.
    """

    at: int
    pause: Pause | None = None
    by: str = ""
    why: str = ""


class ScopeChanges(msgspec.Struct, frozen=True):
    """The latest changes of the pause of a function or a queue, the newest first; every shard has the row."""

    changes: tuple[ScopeChange, ...]
