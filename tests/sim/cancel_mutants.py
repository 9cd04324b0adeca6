"""Seeded bugs in cancellation by events, timeouts and the ends of parents."""

from tests.sim.mutation import Mutant

CANCEL_MUTANTS = tuple(
    Mutant(name, module, edits, program="withdrawn")
    for name, module, edits in (
        (
            "the wait for a cancelling event outlives its run",
            "engine/matching/cancel_waits.py",
            (
                (
                    "    for wait in waits:\n        draft.route",
                    "    for wait in waits[:0]:\n        draft.route",
                ),
            ),
        ),
        (
            "the timer of cancelling events outlives its run",
            "engine/matching/cancel_waits.py",
            (("    _disarm(draft, run_id, waits)\n", ""),),
        ),
        (
            "an event cancels a run after the time of its rule",
            "engine/matching/cancel_waits.py",
            (
                (
                    "expires_at = draft.now + rule.timeout_ms if rule.timeout_ms else",
                    "expires_at = draft.now + 9 * rule.timeout_ms if rule.timeout_ms else",
                ),
            ),
        ),
        (
            "a run is cancelled by its own trigger",
            "engine/matching/waits.py",
            ((" and wait.trigger_id != event.id\n", "\n"),),
        ),
        (
            "a cancelling event is taken for the result of a step",
            "engine/runs/steps.py",
            (("        cancel_by_event(draft, matched)\n        return\n", "        return\n"),),
        ),
    )
)
TIMEOUT_MUTANTS = tuple(
    Mutant(name, module, edits, program="overdue")
    for name, module, edits in (
        (
            "the timer of a timeout outlives its run",
            "engine/runs/endings.py",
            (("    draft.disarm(run.deadline, Timer(TimerKind.DEADLINE, run.run_id))\n", ""),),
        ),
        (
            "a worker that claims a new run does not report its start",
            "engine/runs/runs.py",
            (("        announces(run),\n", ""),),
        ),
        (
            "a run that has started is still awaited",
            "engine/runs/deadlines.py",
            (("    draft.disarm(run.deadline, Timer(TimerKind.DEADLINE, run.run_id))\n", ""),),
        ),
        (
            "a claim of a run that has exceeded its time is granted",
            "engine/runs/runs.py",
            (("    if run.expired and not run.due:\n", "    if run.expired and run.due:\n"),),
        ),
        (
            "a run that has exceeded its time stays in its worker",
            "runtime/worker/runs/lifecycle.py",
            (
                (
                    "        Event.EXPIRED: _RECLAIM,\n        Event.EVICTED",
                    "        Event.EXPIRED: _to(Phase.PARKED, Effect.ACKNOWLEDGE),\n        Event.EVICTED",
                ),
            ),
        ),
    )
)
CHILD_MUTANTS = tuple(
    Mutant(name, module, edits, program="orphans")
    for name, module, edits in (
        (
            "a child continues after the end of its parent",
            "engine/runs/endings.py",
            (("    cancel_children(draft, run)\n", ""),),
        ),
        (
            "a child is cancelled at the shard of its parent",
            "engine/runs/children.py",
            (
                (
                    "        draft.route_to_run(child.run_id, CancelRequested",
                    "        draft.route_to_run(run.run_id, CancelRequested",
                ),
            ),
        ),
        (
            "a child that has ended is not forgotten",
            "engine/runs/children.py",
            (("    draft.delete(child_key(run_id, step))\n", ""),),
        ),
    )
)
