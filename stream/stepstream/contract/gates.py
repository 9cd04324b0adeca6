"""Gates: the limits of functions on their runs, and the records between a run and the gates that it passes."""

from collections.abc import Sequence
from enum import StrEnum

import msgspec

from stepstream.contract.codec import TypedRecord
from stepstream.contract.errors import InvalidInput
from stepstream.contract.events import EventRecord
from stepstream.contract.ids import StepRef
from stepstream.contract.limits import (
    DEFAULT_LIMITS,
    EVENTS_PER_BATCH_MAX,
    GATE_LIMIT_MAX,
    GATE_NAME_CHARACTERS_MAX,
    GATE_WEIGHT_ONE,
    GATES_PER_FUNCTION_MAX,
)
from stepstream.contract.text.wording import counted, duration_text


class Excess(StrEnum):
    """What happens to a run beyond a limit.

    It waits, or is refused with an error that has this code, or waits in place of the run that holds the permit, and of
    those that wait: these are cancelled. A run that is debounced waits until no other one comes for a period; of two
    runs, the one of the earlier event is refused. Runs that are batched wait until there are enough of them, or for a
    period: then the first one passes with the events of all, and the others are refused. The first of them begins the
    period, and each further one restarts it if the limit says so.
    """

    WAIT = "wait"
    RATE_LIMITED = "rate-limited"
    SKIPPED = "skipped"
    IDEMPOTENT = "idempotent"
    REPLACE = "replace"
    DEBOUNCED = "debounced"
    BATCHED = "batched"

    @property
    def waits(self) -> bool:
        """Whether a run beyond the limit waits."""
        return self in (Excess.WAIT, Excess.REPLACE, Excess.DEBOUNCED, Excess.BATCHED)


class GateRule(msgspec.Struct, frozen=True, omit_defaults=True):
    """A limit that a function registers: at most `limit` open runs or, with a period, `limit` starts in `period_ms`.

    `burst` more may start at once. A limit on `steps` counts the bodies of steps that are running instead of runs, and
    one on `work` counts runs only while their code or one of their bodies is executing. One on `steps` and `work`
    counts both bodies and the code between them.
    Functions whose rules have the same `name` share the limit. Each value of `key`, a CEL expression on `event`, has
    its own limit. `excess` is what happens to a run beyond the limit. A debounced run waits for `most_ms` at most from
    the first event on (0: without end). Up to `size` batched runs pass as one. The period of a batch that is
    `renewed` restarts with each event, and `most_ms` bounds its wait as well. A run for which `condition`, a CEL
    expression on `event`, does not hold passes no such gate (empty: it always holds). A limit with a period that is
    `metered` counts the units that bodies use instead of starts. If it is `fair`, runs wait in a sub-queue for each
    value of this CEL expression on `event`, and sub-queues share it by `weight`, another one (empty: 1).
    """

    name: str
    limit: int
    period_ms: int = 0
    burst: int = 0
    key: str = ""
    excess: Excess = Excess.WAIT
    steps: bool = False
    most_ms: int = 0
    size: int = 0
    condition: str = ""
    metered: bool = False
    fair: str = ""
    weight: str = ""
    renewed: bool = False
    work: bool = False


def check_rules(rules: Sequence[GateRule], most: int = GATES_PER_FUNCTION_MAX) -> None:
    """Raise InvalidInput if the limits of a function, or those of its app, are out of bounds."""
    if len(rules) > most:
        raise InvalidInput(f"at most {most} limits are allowed", "gates")
    for rule in rules:
        if not (0 < rule.limit <= GATE_LIMIT_MAX and 0 <= rule.burst <= GATE_LIMIT_MAX):
            raise InvalidInput(f"a limit is 1 to {GATE_LIMIT_MAX:,}, and a burst 0 to that", "gates")
        if not all(0 <= ms <= DEFAULT_LIMITS.wait_ms_max for ms in (rule.period_ms, rule.most_ms)):
            raise InvalidInput("a period is at most 366 days", "gates")
        if rule.excess is Excess.BATCHED and not (0 < rule.size <= EVENTS_PER_BATCH_MAX and rule.period_ms):
            raise InvalidInput(f"a batch has 1 to {EVENTS_PER_BATCH_MAX:,} events and a period", "gates")
        if len(rule.name) > GATE_NAME_CHARACTERS_MAX:
            raise InvalidInput(f"the name of a limit has at most {GATE_NAME_CHARACTERS_MAX:,} characters", "gates")
        if len(rule.fair) + len(rule.weight) > GATE_NAME_CHARACTERS_MAX:
            at_most = f"at most {GATE_NAME_CHARACTERS_MAX:,} characters"
            raise InvalidInput(f"the expressions of a limit have {at_most}", "gates")


def gate_id(name: str, value: str) -> str:
    """Return the id of the gate of a limit for a value of its key."""
    return f"{name}\x00{value}"


class Gate(msgspec.Struct, frozen=True, omit_defaults=True):
    """A gate that a run passes before its code starts, or an attempt of a step before its body does.

    It is a rule with the value of its key for the event of the run, which its priority moves forward in the queue by
    `ahead_ms`. A body asks a gate that is `metered` for so many `units`. At a gate that is fair, a run waits in the
    sub-queue `share`, which has a `weight` (thousandths). A run leaves a gate that counts `work` whenever it is parked,
    and asks again when it has something to do. A gate that counts `steps` and `work` is passed by the run, and by each
    attempt that is not covered: that does not run by the permit of its run.
    """

    name: str
    limit: int
    value: str = ""
    period_ms: int = 0
    burst: int = 0
    excess: Excess = Excess.WAIT
    steps: bool = False
    most_ms: int = 0
    ahead_ms: int = 0
    size: int = 0
    metered: bool = False
    units: int = 1
    share: str | None = None
    weight: int = GATE_WEIGHT_ONE
    renewed: bool = False
    work: bool = False

    @property
    def id(self) -> str:
        """The name and the value; the shard of this key owns the gate."""
        return gate_id(self.name, self.value)

    @property
    def has_permits(self) -> bool:
        """Whether what passes the gate holds a permit until it ends; a gate with a period counts starts instead."""
        return not self.period_ms


def rule_text(rule: GateRule | Gate) -> str:
    """Return a limit as text for people, such as `throttle of function report: 2 starts in 1m`."""
    if rule.excess is Excess.DEBOUNCED or rule.renewed:
        most = f", at most {duration_text(rule.most_ms)} after the first" if rule.most_ms else ""
        size = f", up to {counted(rule.size, 'event')}" if rule.renewed else ""
        return f"{rule.name}: {duration_text(rule.period_ms)} after the last event{most}{size}"
    if rule.excess is Excess.BATCHED:
        size, most = counted(rule.size, "event"), duration_text(rule.period_ms)
        return f"{rule.name}: up to {size}, at most {most} after the first"
    if rule.period_ms:
        burst = f" after a burst of {rule.burst:,}" if rule.burst else ""
        number = counted(rule.limit, "unit" if rule.metered else "start")
        return f"{rule.name}: {number} in {duration_text(rule.period_ms)}{burst}"
    executing = " executing" if rule.work and not rule.steps else ""
    return f"{rule.name}: {counted(rule.limit, 'step' if rule.steps else 'run')}{executing} at a time"


class PassedGate(msgspec.Struct, frozen=True, omit_defaults=True):
    """What history keeps of a gate that a run, or an attempt of a step, has passed: the name and value of its limit.

    It `waited_ms`, and its `place` in the queue was behind those that waited when it asked, counted from 1 (0: it
    passed at once). At a gate that is metered it asked for so many `units`, and its body has settled what it `used`.
    """

    name: str
    value: str = ""
    waited_ms: int = 0
    place: int = 0
    units: int | None = None
    used: int | None = None


class BatchedRun(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a batch has of one of its runs: its event, the step that waits for its result, and its place in a chain."""

    run_id: str
    event: EventRecord
    caller: StepRef | None = None
    chain: int = 0


class GateAsked(TypedRecord, frozen=True, tag="gate.asked"):
    """A run, or a `step` of it, waits for a gate if it does not pass at once.

    The limits of the latest request are those that count. The run that continues another one comes `after` it, and
    takes over its permit. A step has a `number` for each time that it is planned, which the grant repeats. A run that
    is `batched` asks with its event.
    """

    gate: Gate
    run_id: str
    after: str = ""
    step: str = ""
    number: int = 0
    batched: BatchedRun | None = None


class GateGranted(TypedRecord, frozen=True, tag="gate.granted"):
    """A run may pass a gate, or a `step` of it by the request of this `number`.

    It takes over the events of the `others` of its batch, in their order. If it has ended, the first of them does. It
    `waited_ms` from its `place` in the queue on, as in PassedGate.
    """

    gate: str
    run_id: str
    step: str = ""
    number: int = 0
    others: tuple[BatchedRun, ...] = ()
    waited_ms: int = 0
    place: int = 0


class GateRefused(TypedRecord, frozen=True, tag="gate.refused"):
    """A run ends because of a gate: it is refused, or replaced.

    `by` is the run that holds the permit, that replaces this one, or that has its event.
    """

    gate: Gate
    run_id: str
    by: str = ""


class GateLeft(TypedRecord, frozen=True, tag="gate.left"):
    """A run has ended or is parked, or an attempt of a `step` of it has ended: it returns its permit or its place."""

    gate: str
    run_id: str
    step: str = ""


class GateSettled(TypedRecord, frozen=True, tag="gate.settled"):
    """The attempt of a step has used so many `units` of a gate that is metered, and asked for those in `gate`."""

    gate: Gate
    units: int


class RunParked(TypedRecord, frozen=True, tag="run.parked"):
    """The code of a run with limits on work waits for the engine, and its worker has stopped it.

    `number` is that of the last RunResumed that the worker has read, 0 if it has read none in this epoch. If the engine
    has sent another one since, the run is not parked: a worker will claim it.
    """

    run_id: str
    epoch: int
    number: int = 0


GateRecord = GateAsked | GateGranted | GateRefused | GateLeft | GateSettled
