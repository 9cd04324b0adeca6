"""The records of `inbox` by which operators change limits at run time."""

from enum import StrEnum

import msgspec

from stepstream.contract.codec import TypedRecord
from stepstream.contract.gates import gate_id
from stepstream.contract.operators.control import Pause


class LimitAction(StrEnum):
    """What an operator does to a limit, or time to the change of one."""

    SET = "set"
    PAUSE = "pause"
    RESUME = "resume"
    RESET = "reset"
    EXPIRE = "expire"


class Override(msgspec.Struct, frozen=True, omit_defaults=True):
    """Numbers that count instead of those in code; the time is Unix ms, 0: until an operator resets them.

    Without a `period_ms` or a `burst`, those in code count. A limit on open runs has neither.
    """

    limit: int
    period_ms: int = 0
    burst: int | None = None
    until: int = 0


class LimitChange(msgspec.Struct, frozen=True, omit_defaults=True):
    """One change of a limit: when (Unix ms), what, who asked for it, and why."""

    at: int
    action: LimitAction
    by: str = ""
    why: str = ""
    override: Override | None = None
    until: int = 0


class LimitSetting(msgspec.Struct, frozen=True, omit_defaults=True):
    """How operators changed a limit: its numbers, its pause, and the latest `changes`, the newest first."""

    override: Override | None = None
    pause: Pause | None = None
    changes: tuple[LimitChange, ...] = ()


class LimitChangeRequested(TypedRecord, frozen=True, tag="limit.change_requested"):
    """A caller changes a limit for a value of its key, or for all of them if `key` is empty.

    `override` is for the action `set`, and `until` (Unix ms, 0: no end) for `pause`. The shard that owns the name and
    the key orders these requests. The process named `reply_to` expects an answer: `changed`, or `unchanged` if the
    limit is as requested already.
    """

    name: str
    action: LimitAction
    key: str = ""
    override: Override | None = None
    until: int = 0
    by: str = ""
    why: str = ""
    reply_to: str = ""

    @property
    def gate(self) -> str:
        """The id of the gate, by which the request is routed."""
        return gate_id(self.name, self.key)


class LimitChanged(TypedRecord, frozen=True, tag="limit.changed"):
    """A limit was changed for a value of its key, or for all of them; for every shard. None: it is as in code."""

    name: str
    key: str = ""
    setting: LimitSetting | None = None


class LimitContinued(TypedRecord, frozen=True, tag="limit.continued"):
    """A shard lets runs pass the gates of a limit that was changed: those that follow the gate `after`, in portions."""

    name: str
    after: str = ""


LimitSettingRecord = LimitChangeRequested | LimitChanged | LimitContinued
