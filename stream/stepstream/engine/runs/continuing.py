"""Continue as new: a run ends, and its successor begins, with an empty history, in the same transaction."""

from msgspec.structs import replace

from stepstream.contract.attributes import changed
from stepstream.contract.codec import NULL, Raw
from stepstream.contract.continuations import Continuation
from stepstream.contract.events import EventRecord
from stepstream.contract.functions import FunctionRegistered
from stepstream.contract.gates import Excess, Gate
from stepstream.contract.ids import run_hash, run_id_at, run_routing
from stepstream.contract.inbox import ChildContinued, RunContinued, RunRequested
from stepstream.contract.kinds import RunStatus
from stepstream.contract.outcomes import ErrorInfo, Failure, Value
from stepstream.engine.gates.passing import gates_of, lasting_gates, step_gates_of
from stepstream.engine.matching.cancel_waits import register_cancel_waits
from stepstream.engine.runs.attributes import attributes_of
from stepstream.engine.runs.endings import cancel_overdue, end_run
from stepstream.engine.runs.runs import current
from stepstream.engine.state.draft import Draft
from stepstream.engine.state.rows import Run, RunEvents
from stepstream.engine.state.tables import run_events_key


def continue_run(draft: Draft, report: RunContinued) -> None:
    """End a run as completed, and start its successor, which answers its caller.

    A paused run changes nothing: its code runs again when the pause ends, and continues then.
    """
    run = current(draft, report.run_id, report.epoch)
    if run is None or run.paused:
        return
    if run.expired:
        cancel_overdue(draft, run)
        return
    function = draft.function(run.function)
    if function is None:
        error = ErrorInfo("FunctionNotFoundError", f"no function {run.function!r} is registered")
        end_run(draft, run, RunStatus.FAILED, Failure(replace(error, code="function-not-found")))
        return
    request = _successor(draft, run, function, report.data)
    # Before the waits of this run are closed: an event that cancels the series never finds neither of them.
    register_cancel_waits(draft, request.run_id, request.events[0], request.cancel_on)
    draft.route(run_routing(request.run_id), request)
    if caller := run.caller:
        moved = ChildContinued(caller.run_id, caller.step, request.run_id, run.ends_with_parent)
        draft.route_to_run(caller.run_id, moved)
    lasting = lasting_gates(run)
    returned = tuple(gate for gate in run.gates if gate not in lasting)
    run = replace(run, gates=returned, asked=len(returned), granted=len(returned))
    end_run(draft, run, RunStatus.COMPLETED, Value(NULL), continued_by=request.run_id)


def _gates(draft: Draft, run: Run, function: FunctionRegistered, event: EventRecord) -> tuple[Gate, ...]:
    """Return the gates of a successor; those that refuse runs would end the series."""
    lasting = lasting_gates(run)
    known = {gate.id for gate in lasting}
    waiting = (gate for gate in gates_of(draft, function, event) if gate.excess is Excess.WAIT)
    return (*lasting, *(gate for gate in waiting if gate.id not in known))


def _successor(draft: Draft, run: Run, function: FunctionRegistered, data: Raw) -> RunRequested:
    cause = f"{run.run_id}:continued"
    hash_part = run_hash(function.id, cause)
    row = draft.get(run_events_key(run.run_id)) or RunEvents(())
    event = replace(row.events[0], data=data, id=cause, ts=draft.now)
    return RunRequested(
        run_id_at(draft.now, hash_part),
        function.id,
        function.app,
        (event,),
        on_failure=function.on_failure,
        caller=run.caller,
        suppress_end_events=run.suppress_end_events,
        chain=run.chain,
        attributes=changed(run.attributes, attributes_of(draft, function, event)),
        cancel_on=function.cancel_on,
        timeouts=function.timeouts,
        gates=_gates(draft, run, function, event),
        step_gates=step_gates_of(draft, function, event),
        continues=Continuation(run.run_id, run.continued + 1),
        ends_with_parent=run.ends_with_parent,
        signal=run.signal,
        callers=row.callers,
    )
