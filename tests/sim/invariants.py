"""What must hold after every schedule, whichever calls failed."""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from typing import Any

from stepstream.contract.codec import encode
from stepstream.contract.gates import Excess, Gate, PassedGate, gate_id
from stepstream.contract.history import (
    HistoryEntry,
    RunAdmitted,
    RunAttemptFailed,
    RunBatched,
    RunBegan,
    RunEnded,
    RunUnpaused,
    RunWoken,
    StepAttemptFailed,
    StepCancelled,
    StepCopied,
    StepEnded,
    StepPlanned,
)
from stepstream.contract.kinds import RunStatus
from stepstream.contract.operators.limit_settings import LimitSetting
from stepstream.contract.outcomes import TimedOut, Value
from stepstream.engine.gates.passing import counts_work, covers_body
from stepstream.engine.runs.pauses import can_wake
from stepstream.engine.state.gate_rows import GateRun, GateState
from stepstream.engine.state.keys import Key, parse_texts
from stepstream.engine.state.rows import OpenStep, Row, Run, Timer, TimerKind
from stepstream.engine.state.tables import (
    BULKS,
    CRONS,
    EVENT_NAMES,
    GATE_RUNS,
    GATES,
    KEPT_EVENTS,
    KEPT_HEAD,
    KEPT_INDEX,
    KEPT_PATHS,
    LIMIT_SETTINGS,
    LOOKBACK_WINDOWS,
    POSITIONS,
    REGISTRATIONS,
    RUNS,
    SCOPE_CHANGES,
    STARTS,
    STEPS,
    TIMERS,
    TRIGGERS,
    Table,
    decode_row,
    limit_setting_of,
    run_part,
)
from stepstream.runtime.storage.journal import MemoryStore

_SCOPES = ("function", "app", "namespace")
_LASTING = {
    table.prefix
    for table in (CRONS, REGISTRATIONS, LOOKBACK_WINDOWS, KEPT_HEAD, POSITIONS, SCOPE_CHANGES, STARTS, TRIGGERS)
}
_LASTING_TIMERS = {TimerKind.CRON, TimerKind.START_EXPIRY}
# Rows that are removed only when they expire.
_EXPIRING = {table.prefix for table in (BULKS, EVENT_NAMES, KEPT_EVENTS, KEPT_INDEX, KEPT_PATHS, LIMIT_SETTINGS)}
_EXPIRY_TIMERS = {TimerKind.BULK, TimerKind.KEPT_EVENTS_EXPIRY, TimerKind.EVENT_NAME_EXPIRY, TimerKind.LIMIT}
_TOKEN = re.compile(r"(\w+)#(\d+)")
_RUN_ID = re.compile(r"\b[0-9A-HJKMNP-TV-Z]{26}\b")


def check_history(history: Sequence[HistoryEntry]) -> Iterator[str]:
    """Each run starts and ends once, each step has one result, no sequence number is missing, and no timer is early."""
    by_run: dict[str, list[HistoryEntry]] = defaultdict(list)
    for entry in history:
        by_run[entry.run_id].append(entry)
    for run_id, entries in by_run.items():
        numbers = [entry.seq for entry in entries]
        if numbers != list(range(1, len(entries) + 1)):
            yield f"{run_id}: history has gaps or repeats: {numbers}"
        ends = [entry for entry in entries if isinstance(entry, RunEnded)]
        begins = [entry for entry in entries if isinstance(entry, RunBegan)]
        if len(begins) != 1 or entries[0] is not begins[0]:
            yield f"{run_id}: began {len(begins)} times; the first entry is {type(entries[0]).__name__}"
        if len(ends) != 1 or entries[-1] is not ends[0]:
            yield f"{run_id}: ended {len(ends)} times; the last entry is {type(entries[-1]).__name__}"
        results = Counter(entry.step for entry in entries if isinstance(entry, StepEnded))
        yield from (f"{run_id}: step {step} has {count} results" for step, count in results.items() if count > 1)
        yield from _check_times(run_id, entries)
        yield from _check_tokens(run_id, entries)


def check_batches(history: Sequence[HistoryEntry]) -> Iterator[str]:
    """Each event of a run that was batched is in one run of its function that ran, and no event of a batch in two."""
    events = {entry.run_id: entry.events for entry in history if isinstance(entry, RunBegan) and not entry.rerun}
    batches = {entry.run_id: entry.events for entry in history if isinstance(entry, RunBatched)}
    ends = {entry.run_id: entry for entry in history if isinstance(entry, RunEnded)}
    ran = Counter(
        (ends[run_id].function, event.id)
        for run_id, found in (events | batches).items()
        for event in found
        if run_id in ends and ends[run_id].status in (RunStatus.COMPLETED, RunStatus.FAILED)
    )
    for ended in ends.values():
        if ended.error and ended.error.code == Excess.BATCHED:
            (event,) = events[ended.run_id]
            if (count := ran[ended.function, event.id]) != 1:
                yield f"{ended.run_id}: its event is in {count} runs"
    for run_id, found in batches.items():
        twice = [event.id for event in found if run_id in ends and ran[ends[run_id].function, event.id] > 1]
        if twice:
            yield f"{run_id}: the events {twice} are in several runs"


def check_passed(history: Sequence[HistoryEntry]) -> Iterator[str]:
    """History names the gates that let a run pass: all of them first, and those on work again when it was parked."""
    gates = {entry.run_id: entry.gates for entry in history if isinstance(entry, RunBegan)}
    admitted = set[str]()
    for entry in history:
        if isinstance(entry, RunAdmitted):
            expected = [gate.id for gate in gates[entry.run_id] if gate.work or entry.run_id not in admitted]
            admitted.add(entry.run_id)
            if (passed := [gate_id(each.name, each.value) for each in entry.passed]) != expected:
                yield f"{entry.run_id}: it was admitted by {passed}, and its gates are {expected}"
        is_woken = isinstance(entry, RunWoken) or (isinstance(entry, RunUnpaused) and entry.queued)
        if isinstance(entry, RunWoken | RunUnpaused) and is_woken != (0 < entry.parked_at <= entry.at):
            yield f"{entry.run_id}: it has something to do, and was parked at {entry.parked_at}"
        if isinstance(entry, RunAdmitted | StepAttemptFailed | StepEnded | StepCancelled | RunEnded):
            yield from (f"{entry.run_id}: it waited in no queue: {each}" for each in entry.passed if _is_odd(each))


def _is_odd(passed: PassedGate) -> bool:
    return passed.waited_ms < 0 or (passed.waited_ms > 0 and not passed.place)


def _check_times(run_id: str, entries: Sequence[HistoryEntry]) -> Iterator[str]:
    """No sleep, timeout or attempt ends before it is due."""
    due: dict[str, int] = {}
    run_due = 0
    for entry in entries:
        match entry:
            case StepPlanned():
                due[entry.step] = entry.until
            case StepAttemptFailed() | StepEnded() if _is_timed(entry) and entry.at < due.get(entry.step, 0):
                yield f"{run_id}: step {entry.id} ended {due[entry.step] - entry.at} ms early"
            case RunAttemptFailed() | RunEnded() if entry.at < run_due and not _is_cancelled(entry):
                yield f"{run_id}: an attempt of the run ended {run_due - entry.at} ms early"
            case RunBegan():
                run_due = entry.start_at
            case _:
                pass
        if isinstance(entry, StepAttemptFailed):
            due[entry.step] = entry.retry_at
        elif isinstance(entry, RunAttemptFailed):
            run_due = entry.retry_at


def _is_timed(entry: StepAttemptFailed | StepEnded) -> bool:
    if isinstance(entry, StepAttemptFailed):
        return True
    return entry.kind in ("run", "sleep") or isinstance(entry.outcome, TimedOut)


def _is_cancelled(entry: HistoryEntry) -> bool:
    return isinstance(entry, RunEnded) and entry.status == "cancelled"


def _check_tokens(run_id: str, entries: Sequence[HistoryEntry]) -> Iterator[str]:
    """The output of a function is made of the memoized results, and of no others."""
    memoized: dict[str, str] = {}
    for entry in entries:
        if isinstance(entry, StepEnded | StepCopied) and isinstance(entry.outcome, Value):
            memoized.update(_TOKEN.findall(bytes(entry.outcome.data).decode()))
        elif isinstance(entry, RunEnded):
            for step, number in _TOKEN.findall(bytes(entry.output).decode()):
                if memoized.get(step) != number:
                    yield f"{run_id}: its code got {step}#{number}, but the result is {step}#{memoized.get(step)}"


def has_expiring_rows(stores: Sequence[MemoryStore]) -> bool:
    """Return whether any row is left that is removed when it expires."""
    return any(store.scan(table, 1) for store in stores for table in _EXPIRING)


def has_bulk_operations(stores: Sequence[MemoryStore]) -> bool:
    """Return whether any bulk operation is remembered, which lasts longer than other rows that expire."""
    return any(store.scan(BULKS.prefix, 1) for store in stores)


def check_rows(stores: Sequence[MemoryStore], *, expired: bool = False) -> Iterator[str]:
    """No row of an ended run is left in the tables; once all have `expired`, no row that expires is left either."""
    expiring = set[bytes]() if expired else _EXPIRING
    timers = _LASTING_TIMERS if expired else _LASTING_TIMERS | _EXPIRY_TIMERS
    for store in stores:
        for key, value in store.rows.items():
            table = key[:1]
            if table in _LASTING | expiring:
                continue
            row = decode_row(table, value)
            if table != TIMERS.prefix or not isinstance(row, Timer) or row.kind not in timers:
                yield f"a row is left in table {table.decode()!r}: {encode(row).decode()}"


def check_wakes(stores: Sequence[MemoryStore], commanded: Set[str]) -> Iterator[str]:
    """Each run has something durable that wakes it: a timer, or an unacknowledged command if it is in `commanded`.

    This holds whenever the system is idle: a worker may lose its memory at any moment. The end of its pause wakes a
    paused run.
    """
    for store in stores:
        for _, value in store.scan(RUNS.prefix, len(store.rows)):
            run = decode_row(RUNS.prefix, value)
            assert isinstance(run, Run)
            steps = [
                decode_row(STEPS.prefix, row)
                for _, row in store.scan(STEPS.prefix + run_part(run.run_id), len(store.rows))
            ]
            opened = [step for step in steps if isinstance(step, OpenStep)]
            asks = run.queued and not can_wake(run)
            if (asks or any(step.queued for step in opened)) and not run.due:
                continue  # What its gates do is checked by check_gates.
            timed = run.due or any(step.due for step in opened)
            if not timed and not run.paused and run.run_id not in commanded:
                yield f"{run.run_id} of {run.function}: neither a timer nor a command will wake it"


def check_gates(stores: Sequence[MemoryStore]) -> Iterator[str]:
    """The holders of a gate are open runs or steps that it let pass, and those that wait are queued.

    None waits for a free one, or for a run that it replaces. This holds whenever the system is idle. The limits of the
    programs are never lowered.
    """
    passing = _passing(stores)
    settings = {
        gate_id(*limit_setting_of(Key(key[:1], b"", key[1:]))): row
        for store in stores
        for key, value in store.scan(LIMIT_SETTINGS.prefix, len(store.rows))
        if isinstance(row := decode_row(LIMIT_SETTINGS.prefix, value), LimitSetting)
    }
    held: Counter[str] = Counter()
    waiting: Counter[str] = Counter()
    for store in stores:
        for key, value in store.scan(GATE_RUNS.prefix, len(store.rows)):
            gate, holder = _gate_and_holder(key)
            row = decode_row(GATE_RUNS.prefix, value)
            assert isinstance(row, GateRun)
            (waiting if row.place else held)[gate] += 1
            known = passing.get(holder)
            names = [each.id for each in known.gates] if known else []
            if known is None or gate not in names or (names.index(gate) < known.granted) == bool(row.place):
                yield f"{holder} {'waits for' if row.place else 'holds'} {gate!r}, but is {known}"
    for state in _rows(stores, GATES):
        assert isinstance(state, GateState)
        counts = (held[state.gate.id], waiting[state.gate.id])
        if counts != (state.held, state.waiting):
            yield f"{state.gate.id!r} counts {state.held} and {state.waiting} runs, and has {counts}"
        limit, is_paused = _in_force(settings, state.gate)
        if state.gate.has_permits and state.held > limit:
            yield f"{state.gate.id!r} is held by {state.held} runs of {limit}"
        is_free = not is_paused and not state.due and (not state.gate.has_permits or state.held < limit)
        if state.waiting and (is_free or state.gate.excess is Excess.REPLACE):
            yield f"{state.gate.id!r} is free or held by a run that was replaced, and {state.waiting} runs wait for it"
    for holder, known in passing.items():
        stopped = known.due or _asks_later(known, passing[holder.partition("/")[0]])
        if known.queued and not stopped and not waiting[known.gates[known.granted].id]:
            yield f"{holder} waits for a gate that does not know of it"
        yield from _check_order(holder, known)


def _check_order(holder: str, known: Run | OpenStep) -> Iterator[str]:
    """A run or a step that waits for a limit holds no permit of a wider one, which others could use meanwhile."""
    if not known.queued:
        return
    waits_for, held = known.gates[known.granted], known.gates[: known.granted]
    wider = [gate.id for gate in held if gate.has_permits and _width(gate) > _width(waits_for)]
    if wider and known.asked > known.granted:
        yield f"{holder} holds {wider} while it waits for {waits_for.id!r}"


def _width(gate: Gate) -> int:
    return next((width for width, scope in enumerate(_SCOPES) if f" of {scope}" in gate.name), 0)


def check_held(logged: Sequence[Mapping[bytes, bytes]]) -> Iterator[str]:
    """Each permit of a run in the changelogs is in its gate: it is returned in the transaction that says so."""
    rows = {key: value for shard in logged for key, value in shard.items()}
    held = {_gate_and_holder(key) for key, value in rows.items() if _is_permit(key, value)}
    for key, value in rows.items():
        if not key.startswith(RUNS.prefix):
            continue
        run = decode_row(RUNS.prefix, value)
        assert isinstance(run, Run)
        for gate in run.gates[: run.granted]:
            if gate.has_permits and (gate.id, run.run_id) not in held:
                yield f"{run.run_id} has returned its permit of {gate.id!r} before the commit that says so"


def _is_permit(key: bytes, value: bytes) -> bool:
    if not key.startswith(GATE_RUNS.prefix):
        return False
    row = decode_row(GATE_RUNS.prefix, value)
    return isinstance(row, GateRun) and row.place is None


def _asks_later(known: Run | OpenStep, run: Run | OpenStep) -> bool:
    """Return whether a run is paused or parked, or an attempt asks for its limits once its run has its permit."""
    assert isinstance(run, Run)
    stopped = bool(run.paused or run.held)
    if isinstance(known, Run):
        return stopped or can_wake(run)
    return covers_body(run) and run.parked and not known.queue and bool(stopped or run.due or run.asked > run.granted)


def check_work(stores: Sequence[MemoryStore], commanded: Set[str]) -> Iterator[str]:
    """A run holds a permit of a limit on work only while a worker has something to do for it: a command in `commanded`.

    It also holds one while an attempt that it covers waits for limits of the step. This holds whenever the system is
    idle.
    """
    attempts = ((holder.partition("/")[0], known) for holder, known in _passing(stores).items())
    covers = {run_id for run_id, known in attempts if isinstance(known, OpenStep) and known.covered and known.queued}
    for run in _rows(stores, RUNS):
        assert isinstance(run, Run)
        if counts_work(run) and not run.queued and run.run_id not in commanded | covers:
            yield f"{run.run_id} of {run.function} holds a permit, and no worker has anything to do for it"


def check_grants(rows: Iterable[tuple[bytes, bytes]]) -> Iterator[str]:
    """No gate on work has had more holders than its limit, in any row that was written."""
    for key, value in rows:
        if key.startswith(GATES.prefix) and value:
            state = decode_row(GATES.prefix, value)
            assert isinstance(state, GateState)
            if state.gate.work and state.held > state.gate.limit:
                yield f"{state.gate.id!r} let {state.held} runs be executing, and its limit is {state.gate.limit}"


def _passing(stores: Sequence[MemoryStore]) -> dict[str, Run | OpenStep]:
    """Return the open runs and steps by the names under which gates know them."""
    found: dict[str, Run | OpenStep] = {run.run_id: run for run in _rows(stores, RUNS) if isinstance(run, Run)}
    for run_id in list(found):
        for store in stores:
            for key, value in store.scan(STEPS.prefix + run_part(run_id), len(store.rows)):
                step = decode_row(STEPS.prefix, value)
                assert isinstance(step, OpenStep)
                found[f"{run_id}/{key.removeprefix(STEPS.prefix + run_part(run_id)).decode()}"] = step
    return found


def _in_force(settings: Mapping[str, LimitSetting], gate: Gate) -> tuple[int, bool]:
    """Return the number of a gate that counts now, and whether it is paused; that for its key counts first."""
    found = [settings[each] for each in (gate.id, gate_id(gate.name, "")) if each in settings]
    numbers = [each.override.limit for each in found if each.override]
    return numbers[0] if numbers else gate.limit, any(each.pause for each in found)


def _rows(stores: Sequence[MemoryStore], table: Table[Any]) -> Iterator[Row]:
    for store in stores:
        for _, value in store.scan(table.prefix, len(store.rows)):
            yield decode_row(table.prefix, value)


def _gate_and_holder(key: bytes) -> tuple[str, str]:
    part, _, holder = key[1:].rpartition(b"\x00\x00")
    return parse_texts(part + b"\x00\x00")[0], holder.decode()


def check_same(stores: Sequence[MemoryStore], logged: Sequence[Mapping[bytes, bytes]]) -> Iterator[str]:
    """The tables contain what the changelog contains."""
    for shard, (store, rows) in enumerate(zip(stores, logged, strict=True)):
        if dict(store.rows) != rows:
            differing = sorted({key for key, _ in store.rows.items() ^ rows.items()})
            yield f"shard {shard}: tables and changelog differ in {differing[:3]}"


def results_of(history: Sequence[HistoryEntry]) -> Counter[str]:
    """Return how the runs ended, without run ids and without the numbers of executions of each body."""
    found: Counter[str] = Counter()
    for entry in history:
        if isinstance(entry, RunEnded):
            output = _TOKEN.sub(r"\1", bytes(entry.output).decode())
            error = _RUN_ID.sub("", entry.error.message) if entry.error else ""
            found[f"{entry.function} {entry.status} {output} {error}"] += 1
    return found


def minutes_of(history: Sequence[HistoryEntry]) -> Counter[tuple[str, int]]:
    """Return the steps that have a result, each with the minute in which it was applied."""
    return Counter((entry.id, entry.at // 60_000) for entry in history if isinstance(entry, StepEnded))


def ends_of(history: Sequence[HistoryEntry]) -> dict[tuple[str, str], int]:
    """Return how many runs ended, by function and status."""
    return dict(Counter((entry.function, entry.status) for entry in history if isinstance(entry, RunEnded)))
