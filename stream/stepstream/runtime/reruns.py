"""Reruns: which results of an ended run its rerun takes over, and the request for it."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from msgspec.structs import replace

from stepstream.contract.codec import Raw, dump_json, encode, load_json
from stepstream.contract.commands import Memo
from stepstream.contract.errors import Conflict, InvalidInput, TooLarge
from stepstream.contract.events import EventRecord
from stepstream.contract.kinds import OPEN_RUN_STATUSES, RunStatus
from stepstream.contract.limits import REASON_CHARACTERS_MAX, Limits
from stepstream.contract.operators.control import Rerun, RerunRequested
from stepstream.contract.outcomes import Failure, Value
from stepstream.contract.topics import INBOX, payload_bytes_max
from stepstream.runtime.readmodel.tables.recorded import RecordedRun

# What a request has besides the events and results: the fields of the answer, which are added later.
_MORE_BYTES = 1_024


@dataclass(frozen=True, slots=True)
class RerunOptions:
    """How to rerun a run: from its start, from a step (an id or a hash), or `from_failure`.

    `data` replaces the data of the first event, `results` those of steps that do not run again, by id or hash. `by`
    says who asks and `why` for what reason, `bulk` is the operation that asks. A repeated `request` starts nothing.
    """

    request: str
    from_step: str = ""
    from_failure: bool = False
    data: Raw | None = None
    results: Mapping[str, Raw] = field(default_factory=dict)
    by: str = ""
    why: str = ""
    bulk: str = ""


def rerun_request(run: RecordedRun, options: RerunOptions, limits: Limits) -> RerunRequested:
    """Return the request to rerun an ended run.

    Raise Conflict for a run that is open or has no failure, InvalidInput for an unknown step, TooLarge if the request
    does not fit into a record.
    """
    if run.status in OPEN_RUN_STATUSES:
        raise Conflict(f"run {run.run_id} has not ended; cancel it first")
    step, memos = copied_memos(run, options.from_step, from_failure=options.from_failure)
    edited = _edited(run, memos, options.results, limits)
    events = _events(run, options.data, limits)
    rerun = Rerun(
        run.run_id,
        dict(run.steps).get(step, ""),
        options.by,
        options.why,
        options.bulk,
        edited_data=events is not run.events,
        edited_steps=tuple(new.step for new, old in zip(edited, memos, strict=True) if new is not old),
    )
    request = RerunRequested(options.request, run.function, rerun, events, edited)
    size, most = len(encode(request)) + _MORE_BYTES, payload_bytes_max(INBOX)
    if size > most:
        raise TooLarge(
            f"the events and the copied results of the run have {size:,} bytes, and a rerun at most {most:,}; "
            "rerun from an earlier step, or from the start"
        )
    return request


def check_reason(why: str) -> None:
    """Raise InvalidInput for a reason that is too long for the history of a run."""
    if len(why) > REASON_CHARACTERS_MAX:
        raise InvalidInput(f"expected at most {REASON_CHARACTERS_MAX} characters", "why")


def copied_memos(run: RecordedRun, from_step: str, *, from_failure: bool) -> tuple[str, tuple[Memo, ...]]:
    """Return the hash of the step from which a run is rerun, empty for none, and the results that are taken over.

    Raise Conflict for a run without a failure, InvalidInput for an unknown step.
    """
    if from_step and from_failure:
        raise InvalidInput("give from_step or from_failure, not both", "from_failure")
    if from_failure:
        step = _failed_step(run)
        return step, _memos_before(run, step) if step else run.memos
    step = _find_step(run, from_step, "from_step") if from_step else ""
    return step, _memos_before(run, step) if step else ()


def _find_step(run: RecordedRun, step: str, field_name: str) -> str:
    """Return the hash of a step, which is given by its hash or its id."""
    found = [hash_ for hash_, id in run.steps if step in (hash_, id)]
    if not found:
        raise InvalidInput(f"run {run.run_id} has no step {step!r}", field_name)
    if len(found) > 1:
        raise InvalidInput(f"several steps have the id {step!r}; give the hash of one: {', '.join(found)}", field_name)
    return found[0]


def _memos_before(run: RecordedRun, step: str) -> tuple[Memo, ...]:
    """Return the results that the code got before that of a step; all if it has none.

    None of them can depend on the step.
    """
    index = next((index for index, memo in enumerate(run.memos) if memo.step == step), len(run.memos))
    return run.memos[:index]


def _failed_step(run: RecordedRun) -> str:
    """Return the step whose error ended a run, empty if the code between steps failed or the run was cancelled.

    Code that handles the error of a step may continue for long, so only the step with the error of the run counts, or
    the last one.
    """
    if run.status == RunStatus.COMPLETED:
        raise Conflict(f"run {run.run_id} completed; rerun it from the start or from a step")
    failed = [memo for memo in run.memos if isinstance(memo.outcome, Failure)]
    of_run = [memo for memo in failed if isinstance(memo.outcome, Failure) and memo.outcome.error == run.error]
    last = [memo for memo in run.memos[-1:] if memo in failed and run.status == RunStatus.FAILED]
    return next((memo.step for memo in (*of_run, *last)), "")


def _edited(run: RecordedRun, memos: tuple[Memo, ...], results: Mapping[str, Raw], limits: Limits) -> tuple[Memo, ...]:
    edited = {_find_step(run, step, f"results.{step}"): (step, result) for step, result in results.items()}
    copied = {memo.step for memo in memos}
    for hash_, (step, result) in edited.items():
        if hash_ not in copied:
            raise InvalidInput("this step runs again, so its result cannot be set", f"results.{step}")
        if len(bytes(result)) > limits.step_output_bytes_max:
            most = limits.step_output_bytes_max
            raise TooLarge(
                f"the result has {len(bytes(result)):,} bytes; at most {most:,} are allowed", f"results.{step}"
            )
    return tuple(_with_result(memo, edited[memo.step][1]) if memo.step in edited else memo for memo in memos)


def _with_result(memo: Memo, result: Raw) -> Memo:
    """Return a memo with this result: the same memo if that is its result already."""
    same = isinstance(memo.outcome, Value) and is_same_json(memo.outcome.data, result)
    return memo if same else replace(memo, outcome=Value(result))


def is_same_json(one: Raw, other: Raw) -> bool:
    """Return whether two values are equal as JSON text, whose spaces do not matter: 1 is not true."""
    return bytes(dump_json(load_json(one, own=True))) == bytes(dump_json(load_json(other, own=True)))


def _events(run: RecordedRun, data: Raw | None, limits: Limits) -> tuple[EventRecord, ...]:
    if data is None:
        return run.events
    if len(bytes(data)) > limits.event_bytes_max:
        raise TooLarge(
            f"the data has {len(bytes(data)):,} bytes; at most {limits.event_bytes_max:,} are allowed", "data"
        )
    if is_same_json(run.events[0].data, data):
        return run.events
    return (replace(run.events[0], data=data), *run.events[1:])
