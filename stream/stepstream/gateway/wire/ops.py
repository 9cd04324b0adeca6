"""Ops: what the code of a function did or asks for, as SDKs answer a call or send a checkpoint."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from stepstream.contract.codec import Raw
from stepstream.gateway.wire.dues import Due
from stepstream.gateway.wire.failures import RemoteError
from stepstream.gateway.wire.metadata import Metadata


@dataclass(frozen=True, slots=True)
class Op:
    """An op about the step `step`, a hash that SDKs make, which people see as `id`.

    With `race` its completion is an input of the code at once, whatever else is pending.
    """

    step: str
    id: str
    race: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOp(Op):
    """The body of a step ran, and returned `output`; `type` is empty for `step.run`, or such as `step.sendEvent`."""

    output: Raw
    type: str = ""
    metadata: tuple[Metadata, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedOp(Op):
    """A step is due to run by a call for it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorOp(Op):
    """The body of a step raised an error; it is retried unless the error is `final`."""

    error: RemoteError
    final: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class SleepOp(Op):
    """Sleep until a time."""

    until: Due


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitOp(Op):
    """Wait for an event, by a name of the engine, for which a CEL expression on `event` and `async` holds."""

    event: str
    timeout: Due
    condition: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class SignalOp(Op):
    """Wait for a signal; with `replace` take its name over from a run that waits for it."""

    signal: str
    timeout: Due
    replace: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class InvokeOp(Op):
    """Run another function, by its composite id, with an event of these fields."""

    function: str
    data: Raw
    user: Raw
    v: str
    meta: Raw
    timeout: Due


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayOp(Op):
    """Make an HTTP request for the app."""

    url: str
    method: str = "POST"
    headers: Mapping[str, str] = field(default_factory=dict)
    body: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class AiOp(Op):
    """Call a model of an AI provider for the app; the key is a secret, which no representation shows."""

    url: str
    body: Raw
    format: str
    auth_key: str = field(default="", repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class CompleteOp(Op):
    """The function returned `output`."""

    output: Raw


@dataclass(frozen=True, slots=True, kw_only=True)
class DiscoveryOp(Op):
    """Call the function once more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeferOp(Op):
    """Start a function with this input when the run has ended; `meta` is that of its event."""

    function: str
    input: Raw
    meta: Raw


@dataclass(frozen=True, slots=True, kw_only=True)
class DeferAbortOp(Op):
    """Do not start the function that the op `target` deferred."""

    target: str


# Ops that travel with others: they do not count as parallel steps, and are never pending.
LAZY = (DeferOp, DeferAbortOp)
# What is processed before the other ops of an answer: a wait is open before a sibling sends the event that ends it.
_FIRST = (WaitOp, *LAZY)


def in_order(ops: Iterable[Op]) -> tuple[Op, ...]:
    """Return ops without repeats, in the order in which they are processed: waits and defers first, the end last."""
    first: dict[tuple[type[Op] | None, str], Op] = {}
    for op in ops:
        first.setdefault((type(op) if isinstance(op, LAZY) else None, op.step), op)
    return tuple(sorted(first.values(), key=lambda op: (not isinstance(op, _FIRST), isinstance(op, CompleteOp))))


def active_ops(ops: Sequence[Op]) -> tuple[Op, ...]:
    """Return the ops that are steps: more than one of them are parallel."""
    return tuple(op for op in ops if not isinstance(op, (*LAZY, CompleteOp, DiscoveryOp)))
