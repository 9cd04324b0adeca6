"""The single entry point of the engine: a view of the tables and a record in, changes out."""

from collections.abc import Callable, Iterator
from typing import Any, TypeVar, assert_never

from stepstream.contract.functions import FunctionRegistered
from stepstream.contract.gates import GateAsked, GateGranted, GateLeft, GateRefused, GateSettled, RunParked
from stepstream.contract.inbox import (
    AnswersContinued,
    AttributesSet,
    CancelRequested,
    ChildContinued,
    CommandsLost,
    ExecutionStarted,
    RunClaimed,
    RunContinued,
    RunFailed,
    RunLeased,
    RunPostponed,
    RunRequested,
    RunReturned,
    SignalRunEnded,
    SignalSent,
    SignalWithStart,
    StepClaimed,
    StepFailed,
    StepLeased,
    StepPostponed,
    StepReported,
    StepResolved,
    StepsPlanned,
    TriggersContinued,
    WarningReported,
)
from stepstream.contract.limits import DEFAULT_LIMITS, TIMERS_PER_BATCH_MAX, Limits
from stepstream.contract.matching import (
    EventForwarded,
    EventMatched,
    EventRouted,
    IndexContinued,
    LookBackContinued,
    LookBackTruncated,
    MatchContinued,
    SignalWaitClosed,
    SignalWaitOpened,
    WaitClosed,
    WaitOpened,
    WaitPlaced,
    WaitRemoved,
    WaitRenewed,
)
from stepstream.contract.operators.bulk import BulkCancelRequested, BulkItemEnded, BulkPageAdded, BulkStarted
from stepstream.contract.operators.control import (
    InvokeRequested,
    PauseRequested,
    RerunRequested,
    ScopePauseChanged,
    ScopePauseRequested,
    ScopeResumed,
    UnpauseRequested,
)
from stepstream.contract.operators.limit_settings import LimitChanged, LimitChangeRequested, LimitContinued
from stepstream.contract.operators.limit_views import LimitRequested, LimitsRequested, RunLimitRequested
from stepstream.contract.progress import HeartbeatReported, StateSet
from stepstream.engine.gates.gate import ask_gate, fire_gate, leave_gate, settle_gate
from stepstream.engine.gates.limit_changes import change_limit, continue_limit, fire_limit, request_limit_change
from stepstream.engine.gates.views import list_limits, show_limit, show_run_limit
from stepstream.engine.matching.cancel_waits import fire_cancel_waits
from stepstream.engine.matching.kept import continue_index, forget_events
from stepstream.engine.matching.signals import close_signal, open_signal, send_signal
from stepstream.engine.matching.waits import (
    close_wait,
    continue_match,
    forget_paths,
    look_further_back,
    match_event,
    open_wait,
    place_wait,
    remove_wait,
    renew_wait,
    route_event,
)
from stepstream.engine.runs.admission import (
    begin_run,
    fire_cron,
    forget_start,
    invoke_run,
    register_function,
    rerun,
    review_crons,
)
from stepstream.engine.runs.bulk import apply_bulk, fire_bulk
from stepstream.engine.runs.children import continue_child
from stepstream.engine.runs.continuing import continue_run
from stepstream.engine.runs.deadlines import fire_deadline, start_execution
from stepstream.engine.runs.dispatch import claim_step, lease_step, postpone_step
from stepstream.engine.runs.endings import answer_callers, cancel_run, end_outgrown_run, refuse_run
from stepstream.engine.runs.failed_timers import is_outdated
from stepstream.engine.runs.leases import release
from stepstream.engine.runs.lost_commands import send_again
from stepstream.engine.runs.pauses import pause_run, unpause_run
from stepstream.engine.runs.plans import plan_steps
from stepstream.engine.runs.runs import (
    claim_run,
    fail_run,
    fire_run,
    lease_run,
    park_run,
    postpone_run,
    return_run,
    set_attributes,
    set_state,
    warn_of_truncated_look_back,
    warn_run,
)
from stepstream.engine.runs.scope_pauses import apply_scope, end_pause, request_scope_pause
from stepstream.engine.runs.signal_starts import end_signal_run, signal_or_start
from stepstream.engine.runs.starts import receive_grant
from stepstream.engine.runs.steps import (
    answer_step,
    fail_step,
    fire_step,
    receive_match,
    report_heartbeat,
    report_step,
)
from stepstream.engine.runs.triggers import continue_triggers, receive_event
from stepstream.engine.state.changes import Changes
from stepstream.engine.state.draft import Draft, LimitExceeded
from stepstream.engine.state.keys import Key
from stepstream.engine.state.records import EventReceived, Input, ShardOpened, Tick
from stepstream.engine.state.rows import Timer, TimerKind
from stepstream.engine.state.tables import TIMERS, timer_due
from stepstream.engine.state.view import View, scan_table

T = TypeVar("T")
_Handler = Callable[[Draft, Any], None]
# Few timers are due at a time, and those that are not need not be decoded.
_TIMERS_READ_MIN = 16


def transition(
    view: View, record: Input, now: int, *, shard: int = 0, shards: int = 1, limits: Limits = DEFAULT_LIMITS
) -> Changes:
    """Return what `record` changes in the tables of `view`, at the batch's time `now` (Unix ms).

    Pure: no I/O, no clock, no randomness; the same arguments give the same bytes. `shard` of `shards` owns the tables.
    """
    draft = Draft(view, now, shard, shards, limits, type(record).__name__)
    try:
        HANDLERS[type(record)](draft, record)
    except LimitExceeded as exceeded:
        end_outgrown_run(draft, exceeded)
    return draft.result()


def _fire_timer(draft: Draft, tick: Tick) -> None:
    timer = draft.get(tick.timer)
    if timer is None:
        return  # An earlier record of this batch removed it.
    draft.delete(tick.timer)
    if timer.first_due and is_outdated(draft, timer):
        return
    draft.time("timer_late", timer.kind, timer_due(tick.timer))
    _fire(draft, timer, tick)


def _fire(draft: Draft, timer: Timer, tick: Tick) -> None:  # noqa: C901 - a table, one line for each kind
    match timer.kind:
        case TimerKind.STEP:
            fire_step(draft, timer.owner, timer.name)
        case TimerKind.RUN:
            fire_run(draft, timer.owner)
        case TimerKind.DEADLINE:
            fire_deadline(draft, timer.owner)
        case TimerKind.CANCEL_WAITS:
            fire_cancel_waits(draft, timer.owner)
        case TimerKind.LEASE:
            release(draft, timer.owner, timer.name)
        case TimerKind.PAUSE | TimerKind.SCOPE_PAUSE:
            end_pause(draft, timer)
        case TimerKind.START_EXPIRY:
            forget_start(draft, timer.owner, tick.read_to)
        case TimerKind.BULK:
            fire_bulk(draft, timer.owner)
        case TimerKind.GATE:
            fire_gate(draft, timer.owner)
        case TimerKind.LIMIT:
            fire_limit(draft, timer.owner)
        case TimerKind.CRON:
            fire_cron(draft, timer.owner, int(timer.name))
        case TimerKind.KEPT_EVENTS_EXPIRY:
            forget_events(draft, timer, timer_due(tick.timer))
        case TimerKind.EVENT_NAME_EXPIRY:
            forget_paths(draft, timer.owner)
        case _:
            assert_never(timer.kind)


def _on(kind: type[T], apply: Callable[[Draft, T], None]) -> tuple[type, _Handler]:
    return kind, apply


# What each input does; a match statement would try one case after the other.
HANDLERS: dict[type, _Handler] = dict(
    [
        # Events, and what they start.
        _on(EventReceived, receive_event),
        _on(TriggersContinued, continue_triggers),
        _on(EventRouted, route_event),
        _on(RunRequested, begin_run),
        _on(FunctionRegistered, register_function),
        # Waits and the events that match them.
        _on(EventForwarded, match_event),
        _on(MatchContinued, continue_match),
        _on(IndexContinued, continue_index),
        _on(LookBackContinued, look_further_back),
        _on(LookBackTruncated, warn_of_truncated_look_back),
        _on(WaitOpened, open_wait),
        _on(WaitPlaced, place_wait),
        _on(WaitClosed, close_wait),
        _on(WaitRemoved, remove_wait),
        _on(WaitRenewed, renew_wait),
        _on(EventMatched, receive_match),
        _on(SignalWaitOpened, open_signal),
        _on(SignalWaitClosed, close_signal),
        _on(SignalSent, send_signal),
        _on(SignalWithStart, signal_or_start),
        _on(SignalRunEnded, end_signal_run),
        # Workers.
        _on(StepReported, report_step),
        _on(StepFailed, fail_step),
        _on(HeartbeatReported, report_heartbeat),
        _on(StepsPlanned, plan_steps),
        _on(StepResolved, answer_step),
        _on(AnswersContinued, answer_callers),
        _on(ChildContinued, continue_child),
        _on(ExecutionStarted, start_execution),
        _on(RunReturned, return_run),
        _on(RunContinued, continue_run),
        _on(RunFailed, fail_run),
        _on(WarningReported, warn_run),
        _on(AttributesSet, set_attributes),
        _on(StateSet, set_state),
        _on(RunClaimed, claim_run),
        _on(StepClaimed, claim_step),
        _on(RunLeased, lease_run),
        _on(StepLeased, lease_step),
        _on(RunPostponed, postpone_run),
        _on(RunParked, park_run),
        _on(StepPostponed, postpone_step),
        _on(CommandsLost, send_again),
        # Gates.
        _on(GateAsked, ask_gate),
        _on(GateGranted, receive_grant),
        _on(GateRefused, refuse_run),
        _on(GateLeft, leave_gate),
        _on(GateSettled, settle_gate),
        _on(LimitsRequested, list_limits),
        _on(LimitRequested, show_limit),
        _on(RunLimitRequested, show_run_limit),
        _on(LimitChangeRequested, request_limit_change),
        _on(LimitChanged, change_limit),
        _on(LimitContinued, continue_limit),
        # Operators.
        _on(CancelRequested, cancel_run),
        _on(InvokeRequested, invoke_run),
        _on(RerunRequested, rerun),
        _on(PauseRequested, pause_run),
        _on(UnpauseRequested, unpause_run),
        _on(ScopePauseRequested, request_scope_pause),
        _on(ScopePauseChanged, apply_scope),
        _on(ScopeResumed, apply_scope),
        _on(BulkStarted, apply_bulk),
        _on(BulkPageAdded, apply_bulk),
        _on(BulkItemEnded, apply_bulk),
        _on(BulkCancelRequested, apply_bulk),
        # Time.
        _on(Tick, _fire_timer),
        _on(ShardOpened, lambda draft, _: review_crons(draft)),
    ]
)


def due_timers(view: View, now: int) -> Iterator[tuple[Key[Timer], Timer]]:
    """Yield the timers that are due at `now` (Unix ms), earliest first, at most as many as a batch may fire.

    They are read as they are taken, in growing portions: a caller that takes k timers reads at most 2 k + 16 rows.
    """
    left, after, count = TIMERS_PER_BATCH_MAX, b"", _TIMERS_READ_MIN
    while left:
        found = scan_table(view, TIMERS, limit=count, after=after)
        for key, timer in found:
            if timer_due(key) > now:
                return
            yield key, timer
        if len(found) < count:
            return
        left -= count
        after, count = found[-1][0].sort, min(2 * count, left)


def next_due(view: View) -> int | None:
    """Return when the earliest timer is due (Unix ms), or None when there is none."""
    first = scan_table(view, TIMERS, limit=1)
    return timer_due(first[0][0]) if first else None
