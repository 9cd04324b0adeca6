"""The notation of record tables: words become a record, and what leaves the engine becomes words."""

import json
from typing import assert_never

import msgspec

from stepstream.contract.attributes import Attributes
from stepstream.contract.codec import EMPTY_OBJECT, NULL, Raw, encode
from stepstream.contract.commands import (
    Command,
    Memo,
    ReloadRequested,
    RunLoaded,
    RunResumed,
    RunStarted,
    RunStopped,
    StepDispatched,
)
from stepstream.contract.events import INVOKED, EventRecord
from stepstream.contract.functions import (
    CancelTrigger,
    CronTrigger,
    EventTrigger,
    FunctionRegistered,
    RunTimeouts,
    Trigger,
)
from stepstream.contract.gates import RunParked
from stepstream.contract.history import (
    AttributesChanged,
    HistoryEntry,
    RunAdmitted,
    RunAttemptFailed,
    RunBatched,
    RunBegan,
    RunDeadlineChanged,
    RunEnded,
    RunMoved,
    RunPaused,
    RunUnpaused,
    RunWarned,
    RunWoken,
    StateChanged,
    StepAttemptFailed,
    StepCancelled,
    StepCopied,
    StepEnded,
    StepPlanned,
    StepProgressed,
)
from stepstream.contract.inbox import (
    AttributesSet,
    CancelRequested,
    CommandsLost,
    ExecutionStarted,
    RunClaimed,
    RunContinued,
    RunFailed,
    RunLeased,
    RunPostponed,
    RunReturned,
    SignalSent,
    SignalWithStart,
    StepClaimed,
    StepFailed,
    StepLeased,
    StepPostponed,
    StepReported,
    StepResolved,
    StepsPlanned,
    WarningReported,
)
from stepstream.contract.kinds import StepKind
from stepstream.contract.matching import EventMatched, LookBackTruncated
from stepstream.contract.operators.bulk import BulkChanged
from stepstream.contract.operators.control import (
    InvokeRequested,
    Pause,
    PauseRequested,
    Rerun,
    RerunRequested,
    ScopePauseRequested,
    UnpauseRequested,
)
from stepstream.contract.outcomes import ErrorInfo
from stepstream.contract.progress import HeartbeatReported, StateSet
from stepstream.contract.run_state import StateValues
from stepstream.contract.text.waits import read_several
from stepstream.engine.state.records import EventReceived, Input
from tests.engine.gate_notation import read_gates, read_limit_change, read_limit_question
from tests.engine.outcome_notation import read_outcome, read_progress, show_end, show_outcome, show_progress
from tests.engine.plan_notation import read_plans
from tests.engine.runs.bulk_notation import read_bulk, show_bulk
from tests.engine.words import RunOf, Words


def read_record(text: str, now: int, position: str, run_of: RunOf) -> Input:
    """Return the record of a line; `position` is that of an event in its log."""
    words = Words(text)
    record = _read(words, now, position, run_of)
    words.end()
    return record


def _read(words: Words, now: int, position: str, run_of: RunOf) -> Input:  # noqa: C901 - a table
    match words.take():
        case "function":
            return _function(words)
        case "event":
            name = words.take()
            event = EventRecord(name, _data(words), words.take(), words.number("ts"))
            return EventReceived(event, position, words.number("arrived") or now)
        case "signal":
            return SignalSent(words.take(), _data(words), words.text("reply"), words.text("by"))
        case "signal-or-start":
            signal, function, data = words.take(), words.take(), _data(words)
            event = EventRecord(INVOKED, id=words.text("id"))
            return SignalWithStart(signal, data, function, event, words.text("reply"), by=words.text("by"))
        case "invoke":
            function, data = words.take(), _data(words)
            return InvokeRequested(function, EventRecord(INVOKED, data, words.text("id")), words.text("reply"))
        case "claim":
            return RunClaimed(run_of(words.take()), words.take(), "app")
        case "claim-step":
            return StepClaimed(run_of(words.take()), words.take(), words.take(), "app", words.text("queue"))
        case "lost":
            return CommandsLost(words.take())
        case "pause-scope":
            return ScopePauseRequested(words.take(), Pause(words.number("until"), "ann", "fix"), words.text("reply"))
        case "resume-scope":
            return ScopePauseRequested(words.take(), None, words.text("reply"), words.text("by"), words.text("why"))
        case "limits" | "limit" | "limit-of" as verb:
            return read_limit_question(verb, words, run_of)
        case "set-limit" | "pause-limit" | "resume-limit" | "reset-limit" as verb:
            return read_limit_change(verb, words)
        case "matched":
            return EventMatched(run_of(words.take()), words.take(), EventRecord(words.take(), id=words.take()))
        case "truncated":
            return LookBackTruncated(run_of(words.take()), words.take(), words.take())
        case "resolved":
            return StepResolved(run_of(words.take()), words.take(), read_outcome(words.take()))
        case "rerun" | "cancel" | "pause" | "unpause" as verb:
            return _request(verb, words, run_of)
        case "bulk":
            return read_bulk(words, run_of)
        case verb:
            return _report(verb, words, run_of(words.take()), words.number("epoch", 1))


def _request(verb: str, words: Words, run_of: RunOf) -> Input:
    """Return what an operator asks for."""
    run_id, reply = run_of(words.take()), words.text("reply")
    match verb:
        case "cancel":
            return CancelRequested(run_id, reply, children=words.has("children"))
        case "pause":
            return PauseRequested(run_id, Pause(words.number("until"), words.text("by") or "ann", "fix"), reply)
        case "unpause":
            return UnpauseRequested(run_id, words.text("by") or "ann", "fixed", reply)
    function, request, rerun = words.take(), words.take(), Rerun(run_id, words.text("step"), "ann", "fix")
    events = (EventRecord(words.take(), id=words.take()),)
    memos = tuple(_memo(words.take()) for _ in list(words.plain))
    return RerunRequested(request, function, rerun, events, memos, reply)


def _used(words: Words) -> int | None:
    return words.number("used") if "used" in words.named else None


def _report(verb: str, words: Words, run_id: str, epoch: int) -> Input:  # noqa: C901 - a table
    match verb:
        case "report":
            step, outcome = words.take(), read_outcome(words.take())
            attempt, seen, queue = words.number("attempt"), words.number("seen"), words.text("queue")
            claim, used = words.text("claim"), _used(words)
            return StepReported(run_id, epoch, step, step, outcome, attempt, seen, queue=queue, claim=claim, used=used)
        case "fail":
            step = words.take()
            attempt, retry_ms, group = words.number("attempt"), words.number("retry"), words.text("group")
            queue, claim, error, used = words.text("queue"), words.text("claim"), ErrorInfo("Oops"), _used(words)
            failed = (run_id, epoch, step, step, attempt, retry_ms, error, group, 0, queue, claim)
            return StepFailed(*failed, used=used, progress=read_progress(words))
        case "beat":
            step, attempt, group = words.take(), words.number("attempt"), words.text("group")
            queue, claim = words.text("queue"), words.text("claim")
            sent_at, progress = words.number("sent"), read_progress(words)
            return HeartbeatReported(run_id, epoch, step, step, attempt, sent_at, progress, group, 0, queue, claim)
        case "plan":
            acknowledge, wake = words.has("ack"), words.has("wake")
            cancelled, ungrouped = (tuple(filter(None, words.text(name).split(","))) for name in ("cancel", "ungroup"))
            return StepsPlanned(run_id, epoch, tuple(read_plans(words)), cancelled, acknowledge, wake, ungrouped)
        case "lease":
            return RunLeased(run_id, epoch, words.number("for"))
        case "lease-step":
            attempt, queue, claim = words.number("attempt"), words.text("queue"), words.text("claim")
            return StepLeased(run_id, words.take(), attempt, queue, claim, words.number("for"))
        case "park":
            return RunParked(run_id, epoch, words.number("number"))
        case "postpone":
            return RunPostponed(run_id, epoch, "no code", words.number("for"))
        case "postpone-step":
            attempt, queue, claim = words.number("attempt"), words.text("queue"), words.text("claim")
            return StepPostponed(run_id, words.take(), attempt, queue, claim, "no code", words.number("for"))
        case "return":
            return RunReturned(run_id, epoch, _data(words, NULL))
        case "continue":
            return RunContinued(run_id, epoch, _data(words))
        case "raise":
            return RunFailed(run_id, epoch, ErrorInfo("Oops"), *_failure(words))
        case "execute":
            return ExecutionStarted(run_id, epoch)
        case "set":
            return AttributesSet(run_id, epoch, json.loads(words.take()))
        case "state":
            return StateSet(run_id, epoch, _decode_state(words.take()))
        case _:
            assert verb == "warn", f"{verb!r} is not a record"
            return WarningReported(run_id, epoch, words.take())


def _memo(word: str) -> Memo:
    """Return the memo that `step:OUTCOME` or `step:OUTCOME@seen` means."""
    step, _, rest = word.partition(":")
    outcome, _, seen = rest.partition("@")
    return Memo(step, step, StepKind.RUN, read_outcome(outcome), int(seen or 0))


def _failure(words: Words) -> tuple[int, int, Raw, bool]:
    attempt, retry, raw = words.number("attempt"), words.number("retry", -1), words.text("raw")
    return attempt, retry, Raw(raw.encode()) if raw else NULL, words.has("final")


def _data(words: Words, default: Raw = EMPTY_OBJECT) -> Raw:
    if words.plain and words.plain[0][0] in "{=":
        return Raw(words.take().removeprefix("=").encode())
    return default


def _function(words: Words) -> FunctionRegistered:
    name = words.take()
    triggers: list[Trigger] = [
        EventTrigger(event, condition) for event, _, condition in (on.partition("?") for on in _listed(words, "on"))
    ]
    crons = (cron.partition("@") for cron in _listed(words, "cron"))
    triggers += [CronTrigger(expression, zone or "UTC") for expression, _, zone in crons]
    lookback_ms, on_failure = words.number("lookback"), words.text("on_failure")
    retired, queues = words.has("retired"), tuple(_listed(words, "queues"))
    attributes = dict(pair.split(":", 1) for pair in _listed(words, "attributes"))
    timeouts = RunTimeouts(words.number("start"), words.number("finish"))
    return FunctionRegistered(
        name,
        "app",
        tuple(triggers),
        on_failure,
        lookback_ms=lookback_ms,
        retired=retired,
        queues=queues,
        attributes=attributes,
        cancel_on=tuple(map(_cancel_trigger, _listed(words, "cancel_on"))),
        timeouts=None if timeouts == RunTimeouts() else timeouts,
        gates=read_gates(name, words),
        priority=words.text("priority"),
    )


def _cancel_trigger(word: str) -> CancelTrigger:
    """Return the rule of `event[:match|:?condition][:ms]`."""
    event, asked, ms = (*word.split(":"), "", "")[:3]
    match, condition = ("", asked[1:]) if asked.startswith("?") else (asked, "")
    return CancelTrigger(event, match, condition, int(ms or 0))


def _listed(words: Words, name: str) -> list[str]:
    return [word for word in words.text(name).split(";") if word]


def show_record(record: msgspec.Struct) -> str:
    """Return in words what left the engine; run ids are not replaced."""
    if isinstance(record, EventRecord):
        return f"emit {record.name}#{record.id}"
    if isinstance(record, HistoryEntry):
        return _show_entry(record)
    if isinstance(record, BulkChanged):
        return show_bulk(record)
    assert isinstance(record, Command), f"{record!r} does not leave the engine"
    return _show_command(record)


def _show_entry(entry: HistoryEntry) -> str:  # noqa: C901 - a table
    match entry:
        case RunBegan():
            later = f" for {entry.start_at}" if entry.start_at > entry.at else ""
            origin = f" of {entry.rerun.origin}" if entry.rerun else ""
            attributes = f" with {_compact(entry.attributes)}" if entry.attributes else ""
            deadline = f" by {entry.deadline}" if entry.deadline else ""
            queued = " queued" if entry.gates else ""
            queued += f" continues {entry.continues.run_id}#{entry.continues.number}" if entry.continues else ""
            return f"began {entry.run_id} {entry.function}{origin}{later}{deadline}{queued}{attributes}"
        case RunAdmitted():
            return f"admitted {entry.run_id} after {entry.waited_ms}"
        case RunWoken():
            return f"woken {entry.run_id}"
        case RunBatched():
            return f"batched {entry.run_id} {','.join(event.id for event in entry.events)}"
        case RunAttemptFailed():
            return f"attempt {entry.attempt} failed, next {entry.retry_at}"
        case RunMoved():
            return f"moved to epoch {entry.epoch}"
        case RunWarned():
            return f"warned {entry.warning}"
        case AttributesChanged():
            return f"attributes {_compact(entry.attributes)}"
        case StateChanged():
            return f"state {_compact(entry.state)}"
        case RunPaused():
            return f"paused by {entry.pause.by} until {entry.pause.until}"
        case RunUnpaused():
            return f"unpaused by {entry.by or 'time'}{' queued' * entry.queued}"
        case RunDeadlineChanged():
            return f"{'expired' if entry.expired else 'executes'} until {entry.deadline}"
        case RunEnded():
            return show_end(entry)
        case _:
            return _show_step_entry(entry)


_decode_state = msgspec.json.Decoder(StateValues).decode


def _compact(values: Attributes | StateValues) -> str:
    return encode(values).decode()


def _show_step_entry(
    entry: StepPlanned | StepAttemptFailed | StepProgressed | StepEnded | StepCopied | StepCancelled,
) -> str:
    match entry:
        case StepPlanned():
            several, waits = read_several(entry.detail)
            names = f" {several} {','.join(name for name, _ in waits)}" if several else ""
            return f"planned {entry.step} until {entry.until}{names}"
        case StepAttemptFailed():
            progress = show_progress(entry.progress)
            return f"attempt {entry.attempt} of {entry.step} failed, next {entry.retry_at}{progress}"
        case StepProgressed():
            return f"attempt {entry.attempt} of {entry.step} runs{show_progress(entry.progress)}"
        case StepEnded():
            return f"kept {entry.step}{show_outcome(entry.outcome)}{f' by {entry.by}' if entry.by else ''}"
        case StepCopied():
            return f"copied {entry.step}{show_outcome(entry.outcome)}"
        case StepCancelled():
            return f"dropped {entry.step}"
        case _:
            assert_never(entry)


def _show_command(command: Command) -> str:
    match command:
        case RunStarted():
            return f"start {command.run_id}{_show_expected(command)}"
        case RunLoaded():
            opened = [
                f" {step.step}#{step.attempt}" + "!" * step.ready + "~" * step.covered + show_progress(step.progress)
                for step in command.open
            ]
            memos = "".join(map(_show_memo, command.memos))
            more = _show_expected(command) + (f" in {_compact(command.state)}" if command.state else "")
            return f"load {command.run_id} for {command.claim}{memos}{''.join(opened)}{more}"
        case RunResumed():
            retries = "".join(
                f" {step.step}#{step.attempt}{'~' * step.covered}{show_progress(step.progress)}"
                for step in command.retries
            )
            memos = "".join(map(_show_memo, command.memos))
            asleep = "" if command.wake else " asleep"
            number = f" #{command.number}" if command.number else ""
            return f"resume {command.run_id}{number}{memos}{retries}{' ack' * command.acknowledged}{asleep}"
        case ReloadRequested():
            return f"reload {command.run_id}{' expired' * command.expired}"
        case StepDispatched():
            claim = f" for {command.claim}" if command.claim else ""
            memos = "".join(map(_show_memo, command.memos))
            partial = " partial" * command.partial + show_progress(command.progress)
            return f"dispatch {command.run_id} {command.step}#{command.attempt}{claim}{memos}{partial}"
        case RunStopped():
            step = f" {command.step}" if command.step else ""
            return f"stop {command.run_id}{step} {command.reason}"
        case _:
            assert_never(command)


def _show_expected(command: RunStarted | RunLoaded) -> str:
    """Return what is expected of the worker of a run; `covers` says that the permit of the run covers a body."""
    parked = " reports-parked" * (command.report_parked and not command.covers_body)
    return " announced" * command.announce + parked + " covers" * command.covers_body


def _show_memo(memo: Memo) -> str:
    return f" {memo.step}{show_outcome(memo.outcome)}"
