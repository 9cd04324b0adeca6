"""The start of a run's code: at once, or when the run has passed its gates."""

from msgspec.structs import replace

from stepstream.contract.commands import RunResumed
from stepstream.contract.gates import GateGranted, GateRefused
from stepstream.contract.history import RunAdmitted, RunBatched
from stepstream.contract.ids import run_routing
from stepstream.engine.gates.passing import ask_next, passed_gates, return_work
from stepstream.engine.runs.deadlines import start_command
from stepstream.engine.runs.dispatch import begin_attempt
from stepstream.engine.runs.pauses import is_paused, send_news
from stepstream.engine.state.draft import Draft
from stepstream.engine.state.rows import Run
from stepstream.engine.state.tables import run_events_key


def start_code(draft: Draft, run: Run) -> None:
    """Start the code of a run, unless it waits for a gate: then the last grant starts it."""
    if run.queued:
        return
    if run.steps:
        # It has results of another run. No worker has it: the one that reads this claims it, and receives them.
        draft.command(run.app, RunResumed(run.run_id, run.epoch))
    else:
        draft.command(run.app, start_command(run, draft.events(run.run_id)))


def receive_grant(draft: Draft, granted: GateGranted) -> None:
    """Let a run, or an attempt of a step, pass a gate; behind the last one its code starts."""
    run = draft.run(granted.run_id)
    if run and granted.step:
        _receive_step_grant(draft, run, granted)
        return
    # The end of a run leaves its gates, even one that lets it pass meanwhile.
    if run is None or run.granted == run.asked or run.gates[run.granted].id != granted.gate:
        _pass_on(draft, granted)
        return
    run = replace(run, granted=run.granted + 1, passed=passed_gates(run, granted))
    if granted.others:
        run = _take_over(draft, run, granted)
    # A paused run keeps no permit on work: the end of the pause has it ask again.
    if run.gates[run.granted - 1].work and is_paused(draft, run):
        draft.put_run(return_work(draft, replace(run, parked=False, held=not run.paused)))
        return
    if run.queued:
        draft.put_run(ask_next(draft, run))
        return
    draft.time("queue", run.function, run.queued_at)
    paused, woken = is_paused(draft, run), run.parked
    passed, run = run.passed, replace(run, held=paused and not run.paused, parked=False, parked_at=0, passed=())
    run = draft.record(run, RunAdmitted, max(draft.now - run.queued_at, 0), passed)
    if woken:
        send_news(draft, run, RunResumed(run.run_id, run.epoch))
    elif not paused:
        start_code(draft, run)


def _pass_on(draft: Draft, granted: GateGranted) -> None:
    """Let the next run of a batch pass, if there is one, because this one has ended meanwhile."""
    if granted.others:
        run_id = granted.others[0].run_id
        draft.route_to_run(run_id, replace(granted, run_id=run_id, others=granted.others[1:]))


def _take_over(draft: Draft, run: Run, granted: GateGranted) -> Run:
    """Give a run the events and the callers of the others of its batch, which end; return it as it was written."""
    key, others = run_events_key(run.run_id), granted.others
    row = draft.get(key)
    assert row is not None, "an open run has its events"
    events = (*row.events, *(each.event for each in others))
    draft.put(key, replace(row, events=events, callers=tuple(each.caller for each in others if each.caller)))
    for each in others:
        draft.route_later(run_routing(each.run_id), GateRefused(run.gates[run.granted - 1], each.run_id, run.run_id))
    chain = max(run.chain, *(each.chain for each in others))
    return draft.record(replace(run, chain=chain), RunBatched, events)


def _receive_step_grant(draft: Draft, run: Run, granted: GateGranted) -> None:
    opened = draft.step(run.run_id, granted.step)
    # A step that ends leaves its gates, even one that lets it pass meanwhile; it may then be planned again.
    if opened is None or opened.granted == opened.asked or opened.number != granted.number:
        return
    if opened.gates[opened.granted].id != granted.gate:
        return
    after = replace(opened, granted=opened.granted + 1, passed=passed_gates(opened, granted))
    begin_attempt(draft, run, granted.step, opened, after)
