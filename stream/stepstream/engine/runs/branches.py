"""Steps that wait for several events: for the first of them, or for all of them."""

from msgspec.structs import replace

from stepstream.contract.codec import Raw, encode
from stepstream.contract.events import EventRecord, StoredEvents
from stepstream.contract.history import StepPlanned
from stepstream.contract.outcomes import ErrorInfo, Failure, Outcome, TimedOut, Value
from stepstream.contract.text.waits import several_text
from stepstream.engine.runs.opening import open_run
from stepstream.engine.state.draft import Draft
from stepstream.engine.state.rows import OpenStep


def is_registered(opened: OpenStep) -> bool:
    """Return whether a matcher has a wait of this step."""
    return opened.bucket is not None or any(branch.bucket for branch in opened.branches)


def branches_text(opened: OpenStep) -> str:
    """Return what a step still waits for, as text."""
    waits = ((branch.name, branch.text) for branch in opened.branches if branch.event is None)
    return several_text(waits, every=opened.every)


def settle_branch(draft: Draft, run_id: str, step: str, number: int, event: EventRecord | None) -> Outcome | None:
    """Note the event of one wait of a step, or that it expired (None); return the result of the step if it has one.

    A wait that has ended before, or whose step has, changes nothing.
    """
    opened = draft.step(run_id, step)
    if draft.run(run_id) is None or opened is None or number >= len(opened.branches):
        return None
    branch = opened.branches[number]
    late = 0 < opened.due <= draft.now and not opened.looking_back
    if branch.bucket is None or late:
        return None  # If it is late, the timer of the step is due in this batch and ends it.
    branches = list(opened.branches)
    branches[number] = replace(branch, bucket=None, event=event)
    settled = replace(opened, branches=tuple(branches))
    draft.put_step(run_id, step, opened, settled)
    outcome = _outcome(settled, draft.limits.step_output_bytes_max)
    if outcome is None and event:
        fields = (step, opened.id, opened.kind, branches_text(settled), opened.due)
        draft.record(open_run(draft, run_id), StepPlanned, *fields)
    return outcome


def _outcome(opened: OpenStep, bytes_max: int) -> Outcome | None:
    """Return the result of a step by what its waits have; one that has expired (due 0) ends with the last of them."""
    came = {branch.name: branch.event for branch in opened.branches if branch.event}
    value = encode(StoredEvents(came)) if came else b""
    if len(value) > bytes_max:
        message = f"the events that the step waits for have {len(value):,} bytes, at most {bytes_max:,} are kept"
        return Failure(ErrorInfo("OutputTooLarge", message, code="output-too-large"))
    if came and (not opened.every or len(came) == len(opened.branches)):
        return Value(Raw(value))
    return None if opened.due or is_registered(opened) else TimedOut()
