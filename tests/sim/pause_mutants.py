"""Seeded bugs in pauses, which an operator of the simulation must detect."""

from tests.sim.mutation import Mutant

PAUSE_MUTANTS = tuple(
    Mutant(name, module, edits, operator=True)
    for name, module, edits in (
        (
            "a claim of a paused run is granted",
            "engine/runs/runs.py",
            (("    if hold(draft, run):\n        _park(", "    if not run:\n        _park("),),
        ),
        (
            "a claim of a dispatched step of a paused run is granted",
            "engine/runs/dispatch.py",
            (("due=max(draft.now, 1) if is_paused(draft, run, claim.queue) else 0)", "due=0)"),),
        ),
        (
            "a step that is planned during a pause is never dispatched",
            "engine/runs/pauses.py",
            (("        if step.queue and 0 < step.due <= draft.now:\n", "        if step.queue and step.due < 0:\n"),),
        ),
        (
            "code that is retried during a pause is never retried",
            "engine/runs/pauses.py",
            (("    if 0 < run.due <= draft.now:\n", "    if run.due < 0:\n"),),
        ),
        (
            "a run that a pause of its function held never continues",
            "engine/runs/scope_pauses.py",
            (("    if released:\n        reload(draft, run)\n", ""),),
        ),
        (
            "what a pause of a queue held is never dispatched",
            "engine/runs/scope_pauses.py",
            (("    return arm_again(draft, run) + released\n", "    return released\n"),),
        ),
        (
            "a run of a paused function gets news",
            "engine/runs/pauses.py",
            (
                (
                    "    if hold(draft, run):\n        return\n    if counts_work(run):",
                    "    if counts_work(run):",
                ),
            ),
        ),
        (
            "a body starts after its worker read that the run is paused",
            "runtime/worker/runs/lifecycle.py",
            (
                (
                    "        **_stay(Phase.RELOADING, Event.ALLOWED, Event.REFUSED),",
                    "        **_stay(Phase.RELOADING, Event.REFUSED),\n"
                    "        Event.ALLOWED: _to(Phase.RELOADING, Effect.START_BODY),",
                ),
            ),
        ),
        (
            "the bodies of a run that is paused are stopped",
            "runtime/worker/runs/lifecycle.py",
            (
                (
                    "        Event.RELOAD: _to(Phase.RELOADING),\n        Event.ALLOWED",
                    "        Event.RELOAD: _RECLAIM,\n        Event.ALLOWED",
                ),
            ),
        ),
        (
            "a run that is resumed while a body is running stays where it is",
            "runtime/worker/runs/lifecycle.py",
            (
                (
                    "    Phase.RELOADING: {\n        Event.SETTLED: _RECLAIM,\n",
                    "    Phase.RELOADING: {\n"
                    "        Event.SETTLED: _to(Phase.STOPPED, Effect.ACKNOWLEDGE, Effect.DROP),\n",
                ),
            ),
        ),
    )
)
