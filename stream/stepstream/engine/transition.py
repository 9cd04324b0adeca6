"""The engine's one door: a view of the tables and a record in, changes out."""

from typing import assert_never

from stepstream.contract.functions import FunctionRegistered
from stepstream.contract.inbox import (
    CancelRequested,
    EventForwarded,
    EventMatched,
    EventRouted,
    MatchContinued,
    RunClaimed,
    RunFailed,
    RunLeased,
    RunPostponed,
    RunRequested,
    RunReturned,
    RunWarned,
    SignalSent,
    SignalWaitClosed,
    SignalWaitOpened,
    StepClaimed,
    StepFailed,
    StepLeased,
    StepPostponed,
    StepReported,
    StepResolved,
    StepsPlanned,
    WaitClosed,
    WaitOpened,
    WorkerReport,
)
from stepstream.contract.limits import DEFAULT_LIMITS, TIMERS_PER_BATCH_MAX, Limits
from stepstream.contract.lookback import LookBackContinued, LookBackEnded
from stepstream.engine.matching.lookback import continue_look_back, forget_events
from stepstream.engine.matching.waits import (
    close_signal,
    close_wait,
    continue_match,
    end_look_back,
    forget_paths,
    match_event,
    open_signal,
    open_wait,
    route_event,
    send_signal,
)
from stepstream.engine.runs.admission import (
    begin_run,
    fire_cron,
    forget_start,
    receive_event,
    register_function,
    start_scheduled,
)
from stepstream.engine.runs.dispatch import claim_step, lease_step, postpone_step
from stepstream.engine.runs.leases import expire
from stepstream.engine.runs.plans import plan_steps
from stepstream.engine.runs.runs import (
    cancel_run,
    claim_run,
    fail_run,
    lease_run,
    postpone_run,
    retry_run,
    return_run,
    warn_run,
)
from stepstream.engine.runs.steps import fail_step, fire_step, report_step, resolve_step, wake_run
from stepstream.engine.state.changes import Changes
from stepstream.engine.state.draft import Draft
from stepstream.engine.state.keys import TIMER, Key, timer_due
from stepstream.engine.state.records import EventReceived, Input, Tick
from stepstream.engine.state.rows import Timer
from stepstream.engine.state.view import View


def transition(
    view: View, record: Input, now: int, *, shard: int = 0, shards: int = 1, limits: Limits = DEFAULT_LIMITS
) -> Changes:
    """Return what `record` changes in the tables that `view` shows, at the batch's time `now` (Unix ms).

    Pure: no I/O, no clock, no randomness; the same arguments give the same bytes. `shard` of `shards` is the place.
    """
    draft = Draft(view, now, shard, shards, limits, type(record).__name__)
    _apply(draft, record)
    return draft.result()


def _apply(draft: Draft, record: Input) -> None:  # noqa: C901 - one line a record: the table of the engine
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
        case LookBackContinued():
            continue_look_back(draft, record)
        case LookBackEnded():
            end_look_back(draft, record)
        case WaitOpened():
            open_wait(draft, record)
        case WaitClosed():
            close_wait(draft, record)
        case EventMatched():
            wake_run(draft, record)
        case StepResolved():
            resolve_step(draft, record.run_id, record.step, record.outcome)
        case SignalWaitOpened():
            open_signal(draft, record)
        case SignalWaitClosed():
            close_signal(draft, record)
        case SignalSent():
            send_signal(draft, record)
        case CancelRequested():
            cancel_run(draft, record)
        case FunctionRegistered():
            register_function(draft, record)
        case Tick():
            _fire_timer(draft, record.timer)
        case _:
            _hear_worker(draft, record)


def _hear_worker(  # noqa: C901 - the same, of what workers say
    draft: Draft, record: WorkerReport | RunClaimed | StepClaimed | StepLeased | StepPostponed
) -> None:
    match record:
        case StepReported():
            report_step(draft, record)
        case StepsPlanned():
            plan_steps(draft, record)
        case RunReturned():
            return_run(draft, record)
        case RunWarned():
            warn_run(draft, record)
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
        case _:
            assert_never(record)


def _fire_timer(draft: Draft, key: Key) -> None:
    timer = draft.get(Timer, key)
    if timer is None:
        return  # An earlier timer of this batch took it away.
    draft.delete(key)
    draft.time("timer_late", timer.kind, timer_due(key))
    _fire(draft, timer)


def _fire(draft: Draft, timer: Timer) -> None:
    match timer.kind:
        case "step":
            fire_step(draft, timer.owner, timer.name)
        case "start":
            start_scheduled(draft, timer.owner)
        case "run-retry":
            retry_run(draft, timer.owner)
        case "reserved":
            expire(draft, timer.owner, timer.name)
        case "cron":
            fire_cron(draft, timer.owner, timer.name)
        case "start-memory":
            forget_start(draft, timer.owner)
        case "kept-events":
            forget_events(draft, timer.owner)
        case "event-name":
            forget_paths(draft, timer.owner)
        case _:
            raise AssertionError(timer)


def due_timers(view: View, now: int) -> list[tuple[Key, Timer]]:
    """Return the timers that are due at `now` (Unix ms), in the order of their times, no more than a batch fires."""
    found = view.scan(TIMER, b"", TIMERS_PER_BATCH_MAX)
    return [(key, timer) for key, timer in found if timer_due(key) <= now and isinstance(timer, Timer)]


def next_due(view: View) -> int | None:
    """Return when the earliest timer is due (Unix ms), or None when there is none."""
    first = view.scan(TIMER, b"", 1)
    return timer_due(first[0][0]) if first else None
