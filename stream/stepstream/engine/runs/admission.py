"""Starting runs: each cause, such as an event or a time of the clock, starts a function once."""

from collections.abc import Sequence
from datetime import datetime
from zlib import crc32
from zoneinfo import ZoneInfo

from cronsim import CronSim
from msgspec.structs import replace

from stepstream.contract.codec import dump_json
from stepstream.contract.commands import Memo
from stepstream.contract.events import CRON, OWN_NAMES, OWN_PREFIX, EventRecord
from stepstream.contract.functions import CronTrigger, EventTrigger, FunctionRegistered
from stepstream.contract.gates import Excess
from stepstream.contract.history import RunBegan
from stepstream.contract.ids import run_hash, run_id_at, run_routing
from stepstream.contract.inbox import RunRequested
from stepstream.contract.kinds import RunStatus
from stepstream.contract.limits import MINUTE_MS, START_HELD_MS_MAX
from stepstream.contract.operators.bulk import FAILED
from stepstream.contract.operators.control import InvokeRequested, Rerun, RerunRequested
from stepstream.contract.outcomes import outcome_bytes
from stepstream.engine.gates.passing import ask_next, gates_of, step_gates_of
from stepstream.engine.matching.cancel_waits import open_cancel_waits
from stepstream.engine.runs.attributes import attributes_of
from stepstream.engine.runs.deadlines import await_start
from stepstream.engine.runs.pauses import is_paused
from stepstream.engine.runs.starts import start_code
from stepstream.engine.state.draft import Draft
from stepstream.engine.state.kept_rows import LookbackWindows
from stepstream.engine.state.rows import Crons, Run, RunEvents, Start, Timer, TimerKind, Triggers
from stepstream.engine.state.tables import (
    CRONS,
    LOOKBACK_WINDOWS_KEY,
    crons_function,
    crons_key,
    function_key,
    run_events_key,
    start_key,
    timer_key,
    triggers_key,
)
from stepstream.expressions.predicates import Meter

# What `next_due` raises if this process lacks the time zone, or if an expression is invalid or has no further time.
CRON_ERRORS = (ValueError, KeyError, OSError, StopIteration)
# When a trigger is due whose time cannot be computed: its timer fails, with a dead letter, until it can be.
_DUE_UNKNOWN = 1


def register_function(draft: Draft, function: FunctionRegistered) -> None:
    """Keep the registration of a function and update its triggers."""
    known = draft.function(function.id)
    if known == function:
        return
    draft.put(function_key(function.id), function)
    # Prometheus cannot rate() the first sample of a counter, so each begins with 0.
    draft.count("runs_started", function.id, amount=0)
    draft.count("runs_ended", function.id, RunStatus.FAILED, amount=0)
    draft.count("run_warnings", function.id, amount=0)
    for name in _event_names(known) | _event_names(function):
        _set_triggers(draft, name, function)
    _set_lookback_window(draft, function)
    _set_crons(draft, function)


def _event_names(function: FunctionRegistered | None) -> set[str]:
    if function is None or function.retired:
        return set()
    return {trigger.event for trigger in function.triggers if isinstance(trigger, EventTrigger)}


def _set_triggers(draft: Draft, name: str, function: FunctionRegistered) -> None:
    key = triggers_key(name)
    row = draft.get(key)
    others = [pair for pair in row.functions if pair[0] != function.id] if row else []
    own = [
        (function.id, trigger.condition)
        for trigger in function.triggers
        if isinstance(trigger, EventTrigger) and trigger.event == name and not function.retired
    ]
    if others or own:
        draft.put(key, Triggers(tuple(sorted(others + own))))
    else:
        draft.delete(key)


def _set_lookback_window(draft: Draft, function: FunctionRegistered) -> None:
    row = draft.get(LOOKBACK_WINDOWS_KEY)
    known = row.by_function if row else {}
    windows = {name: window for name, window in known.items() if name != function.id}
    if function.lookback_ms and not function.retired:
        windows[function.id] = function.lookback_ms
    if windows != known:
        draft.put(LOOKBACK_WINDOWS_KEY, LookbackWindows(windows, row.version + 1 if row else 0))


def request_run(
    draft: Draft,
    function: FunctionRegistered,
    event: EventRecord,
    *,
    deduplicated: bool = False,
    chain: int = 0,
    arrived_at: int = 0,
    meter: Meter | None = None,
) -> None:
    """Request the shard that owns the run to start it; an event of the future starts it at the time of the event.

    `meter` sums the work of the function's expressions.
    """
    hash_part = run_hash(function.id, event.id)
    # The deduplication of an event older than its window may be forgotten: its run then gets a new id.
    known_at = within(arrived_at, draft.now)
    remembered = event.ts + draft.limits.start_dedup_ms > known_at
    request = RunRequested(
        run_id_at(event.ts if remembered else known_at, hash_part),
        function.id,
        function.app,
        (event,),
        start_at=event.ts if event.ts > draft.now else 0,
        deduplicated=deduplicated,
        on_failure=function.on_failure,
        suppress_end_events=event.name.startswith(OWN_PREFIX) and event.name != CRON,
        chain=chain,
        arrived_at=arrived_at,
        attributes=attributes_of(draft, function, event, meter),
        cancel_on=function.cancel_on,
        timeouts=function.timeouts,
        gates=gates_of(draft, function, event, meter),
        step_gates=step_gates_of(draft, function, event, meter),
    )
    draft.route(hash_part, request)


def start_request(
    draft: Draft, function: FunctionRegistered, events: tuple[EventRecord, ...], hash_part: str, *without: Excess
) -> RunRequested:
    """Return the request to start a run of a function now; the run passes no gate whose excess is one of `without`."""
    event = events[0]
    return RunRequested(
        run_id_at(draft.now, hash_part),
        function.id,
        function.app,
        events,
        on_failure=function.on_failure,
        attributes=attributes_of(draft, function, event),
        cancel_on=function.cancel_on,
        timeouts=function.timeouts,
        gates=tuple(gate for gate in gates_of(draft, function, event) if gate.excess not in without),
        step_gates=step_gates_of(draft, function, event),
    )


def within(arrived_at: int, now: int) -> int:
    """Return when the log took an event; producers set that time, so it may be missing or in the future."""
    return min(arrived_at, now) if arrived_at > 0 else now


def begin_run(draft: Draft, request: RunRequested) -> None:
    """Create a run, unless its cause has started one already."""
    if draft.run(request.run_id) is not None or (request.deduplicated and _started_before(draft, request)):
        draft.count("duplicate_starts")
        return
    run = Run(
        request.run_id,
        request.function,
        request.app,
        started_at=max(request.start_at, draft.now),
        due=request.start_at if request.start_at > draft.now else 0,
        on_failure=request.on_failure,
        caller=request.caller,
        suppress_end_events=request.suppress_end_events,
        chain=request.chain,
        attributes=request.attributes,
        timeouts=request.timeouts,
        gates=request.gates,
        continued=request.continues.number if request.continues else 0,
        ends_with_parent=request.ends_with_parent,
        signal=request.signal,
        step_gates=request.step_gates,
    )
    run = replace(run, held=not run.due and is_paused(draft, run))
    run = _begin(draft, run, request)
    if run.due:
        draft.arm(run.due, Timer(TimerKind.RUN, run.run_id))
    elif not run.held:
        start_code(draft, run)


def _begin(
    draft: Draft, run: Run, request: RunRequested, rerun: Rerun | None = None, copied: Sequence[Memo] = ()
) -> Run:
    run, events = await_start(draft, run), request.events
    caller = run.caller.run_id if run.caller else ""
    continues = request.continues
    if not run.due:
        run = ask_next(draft, run, continues.run_id if continues else "", events)
    known = (run.function, run.app, run.started_at, events, caller, rerun, run.attributes, run.deadline, run.gates)
    run = draft.begin(run, RunBegan(run.run_id, 1, draft.now, *known, continues), copied)
    waits = open_cancel_waits(draft, run.run_id, events[0], request.cancel_on)
    draft.put(run_events_key(run.run_id), RunEvents(events, waits, request.callers))
    draft.count("open_runs", run.function)
    draft.count("runs_started", run.function)
    return run


def invoke_run(draft: Draft, request: InvokeRequested) -> None:
    """Start a run that a caller asks for, unless the same request did so before; answer with its id."""
    function = draft.function(request.function)
    if function is None or function.retired:
        draft.reply(request.reply_to, "function_not_found")
        return
    event = replace(request.event, ts=draft.now)
    # It starts alone, without other events, because its caller waits for its own result.
    start = start_request(draft, function, (event,), request.routing_key, Excess.BATCHED)
    begin_run(draft, replace(start, deduplicated=True))
    if known := draft.get(start_key(request.routing_key)):
        draft.reply(request.reply_to, known.run_id)


def rerun(draft: Draft, request: RerunRequested) -> None:
    """Create a run that reruns an ended one, unless the same request did so before; answer with its id."""
    function = draft.function(request.function)
    if function is None or function.retired:
        draft.answer(request, "function_not_found")
        return
    # A person asked for this rerun: neither its idempotency key nor another event refuses or delays it.
    without = Excess.IDEMPOTENT, Excess.DEBOUNCED, Excess.BATCHED
    start = start_request(draft, function, request.events, request.routing_key, *without)
    run = _rerun_of(start, request, draft.now)
    known = draft.get(start_key(request.routing_key))
    # The limits may be lower than when the run ended.
    if (known is None or known.until <= draft.now) and (error := draft.exceeded(run)):
        draft.answer(request, error.message, FAILED, error.message)
        return
    if not _started_before(draft, start):
        _begin_rerun(draft, run, start, request)
    if known := draft.get(start_key(request.routing_key)):
        draft.answer(request, known.run_id, "started")


def _rerun_of(start: RunRequested, request: RerunRequested, now: int) -> Run:
    memos = request.memos
    return Run(
        start.run_id,
        start.function,
        start.app,
        started_at=now,
        steps=len(memos),
        memo_bytes=sum(outcome_bytes(memo.outcome) for memo in memos),
        seen=max((memo.seen for memo in memos), default=0),
        own=max((memo.own for memo in memos), default=0),
        on_failure=start.on_failure,
        suppress_end_events=start.events[0].name in OWN_NAMES,
        origin=request.rerun.origin,
        attributes=start.attributes,
        timeouts=start.timeouts,
        gates=start.gates,
        step_gates=start.step_gates,
    )


def _begin_rerun(draft: Draft, run: Run, start: RunRequested, request: RerunRequested) -> None:
    run = replace(run, held=is_paused(draft, run))
    run = _begin(draft, run, start, request.rerun, request.memos)
    if not run.held:
        start_code(draft, run)


def _started_before(draft: Draft, request: RunRequested) -> bool:
    """Return whether an event with the same id started the function, and note this start if none did.

    Only the times at which the log took the two events count: an event that is read late, or again after a crash, has
    the same outcome as one that is read at once.
    """
    arrived_at = within(request.arrived_at, draft.now)
    hash_part = run_routing(request.run_id)
    key = start_key(hash_part)
    timer = Timer(TimerKind.START_EXPIRY, hash_part)
    known = draft.get(key)
    if known is not None and known.until > arrived_at:
        return True
    if known is not None:
        draft.disarm(known.until, timer)
    until = max(request.start_at, arrived_at) + draft.limits.start_dedup_ms
    draft.put(key, Start(request.run_id, until))
    draft.arm(until, timer)
    return False


def forget_start(draft: Draft, hash_part: str, read_to: int) -> None:
    """Forget the start of a function by an event once no event within the window of its deduplication is unread.

    A shard that was away for a day has such events in its backlog, and one that crashed may read one again.
    """
    known = draft.get(start_key(hash_part))
    if known is None or known.until > draft.now:
        return
    if known.until > read_to and known.until + START_HELD_MS_MAX > draft.now:
        draft.arm(draft.now + MINUTE_MS, Timer(TimerKind.START_EXPIRY, hash_part))
    else:
        draft.delete(start_key(hash_part))


def _set_crons(draft: Draft, function: FunctionRegistered) -> None:
    key = crons_key(function.id)
    known = draft.get(key)
    triggers = () if function.retired else tuple(t for t in function.triggers if isinstance(t, CronTrigger))
    if (known.triggers if known else ()) == triggers or not draft.owns(function.id):
        return
    due_times = tuple(_known_due(trigger, draft.now) or _DUE_UNKNOWN for trigger in triggers)
    _arm_crons(draft, function.id, known.due if known else (), due_times)
    if triggers:
        draft.put(key, Crons(triggers, due_times))
    else:
        draft.delete(key)


def _arm_crons(draft: Draft, function_id: str, before: Sequence[int], due_times: Sequence[int]) -> None:
    """Set the timers of a function's cron triggers; they were due at the times `before`."""
    for index, due in enumerate(before):
        if due not in due_times[index : index + 1]:
            draft.disarm(due, _cron_timer(function_id, index))
    for index, due in enumerate(due_times):
        timer = _cron_timer(function_id, index)
        if draft.get(timer_key(due, timer)) is None:
            draft.arm(due, timer)


def review_crons(draft: Draft) -> None:
    """Correct the next firing of each cron trigger that a clock, which was ahead by more than a minute, set too late.

    Otherwise the trigger would not fire until that time has come. A corrected trigger may fire again at a time at which
    it fired already: that starts the function again if the first run has ended. Clocks that differ by less repeat no
    firing. A timer that is missing is set again; so one whose time zone is unknown is computed again.
    """
    for table_key, crons in draft.walk(CRONS, b""):
        # The part of a key in a scan of a whole table is empty.
        function_id = crons_function(table_key)
        due_times = tuple(
            due if due <= _known_due(trigger, draft.now + MINUTE_MS) else _known_due(trigger, draft.now) or due
            for trigger, due in zip(crons.triggers, crons.due, strict=True)
        )
        _arm_crons(draft, function_id, crons.due, due_times)
        if due_times != crons.due:
            draft.put(crons_key(function_id), replace(crons, due=due_times))


def _cron_timer(function_id: str, index: int) -> Timer:
    return Timer(TimerKind.CRON, function_id, str(index))


def next_due(trigger: CronTrigger, after: int) -> int:
    """Return the first time (Unix ms) after `after` at which the expression fires in its time zone.

    Raise one of CRON_ERRORS for a trigger of another process, with newer time zones for example.
    """
    start = datetime.fromtimestamp(after / 1_000, ZoneInfo(trigger.timezone))
    return round(next(CronSim(trigger.expression, start)).timestamp() * 1_000)


def _known_due(trigger: CronTrigger, after: int) -> int:
    """Return the time of `next_due`, or 0 if this process cannot compute it."""
    try:
        return next_due(trigger, after)
    except CRON_ERRORS:
        return 0


def fire_cron(draft: Draft, function_id: str, index: int) -> None:
    """Start a function by its cron trigger and set the next time; firings missed while no engine ran fold into one."""
    crons, function = draft.get(crons_key(function_id)), draft.function(function_id)
    if crons is None or function is None or index >= len(crons.due) or crons.due[index] > draft.now:
        return  # The timer failed, and the triggers or the time have changed since.
    due, trigger = crons.due[index], crons.triggers[index]
    following = next_due(trigger, max(due, draft.now))
    due_times = (*crons.due[:index], following, *crons.due[index + 1 :])
    draft.put(crons_key(function_id), replace(crons, due=due_times))
    draft.arm(following, _cron_timer(function_id, index))
    if due == _DUE_UNKNOWN:
        return
    id, fields = f"{function_id}:{index}:{due}", {"cron": trigger.expression, "timezone": trigger.timezone}
    jitter_ms = _jitter_ms(id, trigger.jitter_ms)
    data = dump_json({**fields, "scheduled_at": due} if jitter_ms else fields)
    request_run(draft, function, EventRecord(CRON, data, id=id, ts=due + jitter_ms))


def _jitter_ms(id: str, jitter_ms: int) -> int:
    """Return by how much a start is late: the same for the same one, at least 1 ms and less than `jitter_ms`."""
    return 1 + crc32(id.encode()) % (jitter_ms - 1) if jitter_ms > 1 else 0
