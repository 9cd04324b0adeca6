"""The single entry point of the engine: a view of the tables and a record in, changes out."""

from collections.abc import Iterator
from typing import assert_never

from stepstream.contract.functions import FunctionRegistered
from stepstream.contract.inbox import (
    AttributesSet,
    CancelRequested,
    Claim,
    CommandsLost,
    ExecutionStarted,
    QueueReport,
    RunClaimed,
    RunFailed,
    RunLeased,
    RunPostponed,
    RunRequested,
    RunReturned,
    SignalSent,
    StepClaimed,
    StepFailed,
    StepLeased,
    StepPostponed,
    StepReported,
    StepResolved,
    StepsPlanned,
    WarningReported,
    WorkerReport,
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
    ControlRequest,
    PauseRequested,
    RerunRequested,
    ScopePauseChanged,
    ScopePauseRequested,
    ScopeResumed,
    UnpauseRequested,
)
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
    receive_event,
    register_function,
    rerun,
    review_crons,
)
from stepstream.engine.runs.bulk import apply_bulk, fire_bulk
from stepstream.engine.runs.deadlines import fire_deadline, start_execution
from stepstream.engine.runs.dispatch import claim_step, lease_step, postpone_step
from stepstream.engine.runs.endings import cancel_run, end_outgrown_run
from stepstream.engine.runs.leases import release
from stepstream.engine.runs.lost_commands import send_again
from stepstream.engine.runs.pauses import pause_run, unpause_run
from stepstream.engine.runs.plans import plan_steps
from stepstream.engine.runs.runs import (
    claim_run,
    fail_run,
    fire_run,
    lease_run,
    postpone_run,
    return_run,
    set_attributes,
    warn_of_truncated_look_back,
    warn_run,
)
from stepstream.engine.runs.scope_pauses import apply_scope, end_pause, request_scope_pause
from stepstream.engine.runs.steps import answer_step, fail_step, fire_step, receive_match, report_step
from stepstream.engine.state.changes import Changes
from stepstream.engine.state.draft import Draft, LimitExceeded
from stepstream.engine.state.keys import Key
from stepstream.engine.state.records import EventReceived, Input, ShardOpened, Tick
from stepstream.engine.state.rows import Timer, TimerKind
from stepstream.engine.state.tables import TIMERS, timer_due
from stepstream.engine.state.view import View, scan_table

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
        _apply(draft, record)
    except LimitExceeded as exceeded:
        end_outgrown_run(draft, exceeded)
    return draft.result()


def _apply(draft: Draft, record: Input) -> None:  # noqa: C901 - a table, one line for each record
    match record:
        case EventReceived():
            receive_event(draft, record)
        case EventRouted():
            route_event(draft, record)
        case RunRequested():
            begin_run(draft, record)
        case EventForwarded():
            match_event(draft, record)
        case MatchContinued():
            continue_match(draft, record)
        case IndexContinued():
            continue_index(draft, record)
        case LookBackContinued():
            look_further_back(draft, record)
        case LookBackTruncated():
            warn_of_truncated_look_back(draft, record)
        case WaitOpened() | WaitPlaced() | WaitClosed() | WaitRemoved() | WaitRenewed():
            _apply_of_wait(draft, record)
        case EventMatched():
            receive_match(draft, record)
        case StepResolved():
            answer_step(draft, record)
        case SignalWaitOpened():
            open_signal(draft, record)
        case SignalWaitClosed():
            close_signal(draft, record)
        case SignalSent():
            send_signal(draft, record)
        case CancelRequested() | RerunRequested() | PauseRequested() | UnpauseRequested() | ScopePauseRequested():
            _apply_of_operator(draft, record)
        case BulkStarted() | BulkPageAdded() | BulkItemEnded() | BulkCancelRequested():
            apply_bulk(draft, record)
        case FunctionRegistered():
            register_function(draft, record)
        case ScopePauseChanged() | ScopeResumed():
            apply_scope(draft, record)
        case Tick():
            _fire_timer(draft, record)
        case ShardOpened():
            review_crons(draft)
        case _:
            _apply_of_worker(draft, record)


def _apply_of_wait(draft: Draft, record: WaitOpened | WaitPlaced | WaitClosed | WaitRemoved | WaitRenewed) -> None:
    match record:
        case WaitOpened():
            open_wait(draft, record)
        case WaitPlaced():
            place_wait(draft, record)
        case WaitClosed():
            close_wait(draft, record)
        case WaitRemoved():
            remove_wait(draft, record)
        case WaitRenewed():
            renew_wait(draft, record)
        case _:
            assert_never(record)


def _apply_of_operator(draft: Draft, record: CancelRequested | ControlRequest) -> None:
    match record:
        case CancelRequested():
            cancel_run(draft, record)
        case RerunRequested():
            rerun(draft, record)
        case PauseRequested():
            pause_run(draft, record)
        case UnpauseRequested():
            unpause_run(draft, record)
        case ScopePauseRequested():
            request_scope_pause(draft, record)
        case _:
            assert_never(record)


def _apply_of_worker(draft: Draft, record: WorkerReport | QueueReport | Claim | CommandsLost) -> None:  # noqa: C901 - a table too
    match record:
        case StepReported():
            report_step(draft, record)
        case StepsPlanned():
            plan_steps(draft, record)
        case RunReturned():
            return_run(draft, record)
        case ExecutionStarted():
            start_execution(draft, record)
        case WarningReported():
            warn_run(draft, record)
        case AttributesSet():
            set_attributes(draft, record)
        case StepFailed():
            fail_step(draft, record)
        case RunFailed():
            fail_run(draft, record)
        case RunClaimed():
            claim_run(draft, record)
        case StepClaimed():
            claim_step(draft, record)
        case RunLeased():
            lease_run(draft, record)
        case StepLeased():
            lease_step(draft, record)
        case RunPostponed():
            postpone_run(draft, record)
        case StepPostponed():
            postpone_step(draft, record)
        case CommandsLost():
            send_again(draft, record)
        case _:
            assert_never(record)


def _fire_timer(draft: Draft, tick: Tick) -> None:
    timer = draft.get(tick.timer)
    if timer is None:
        return  # An earlier record of this batch removed it.
    draft.delete(tick.timer)
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
        case TimerKind.CRON:
            fire_cron(draft, timer.owner, int(timer.name))
        case TimerKind.KEPT_EVENTS_EXPIRY:
            forget_events(draft, timer, timer_due(tick.timer))
        case TimerKind.EVENT_NAME_EXPIRY:
            forget_paths(draft, timer.owner)
        case _:
            assert_never(timer.kind)


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
