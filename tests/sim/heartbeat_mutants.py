"""Seeded bugs in the heartbeats of bodies."""

from tests.sim.mutation import Mutant

HEARTBEAT_MUTANTS = (
    Mutant(
        "a body that completes its group wakes no run for results on their way",
        "engine/runs/steps.py",
        (("if opened.group and report.seen < run.seen and", "if not opened and"),),
        first=38,
        workers=2,
        program="heartbeats",
    ),
    *(
        Mutant(name, module, (edit,), program="heartbeats")
        for name, module, edit in (
            (
                "a run that another worker claims has no progress of its bodies",
                "engine/runs/runs.py",
                ("        progress=opened.progress,\n", ""),
            ),
            (
                "a body that is dispatched again has no progress",
                "engine/runs/dispatch.py",
                ("NULL if partial else opened.progress", "NULL if partial or opened.claim else opened.progress"),
            ),
            (
                "an attempt that fails loses the progress of its body",
                "engine/runs/steps.py",
                ("        progress=progress,\n    )\n    draft.put_step", "    )\n    draft.put_step"),
            ),
            (
                "an attempt that fails reports no newer progress",
                "engine/runs/steps.py",
                ("if opened and reported == NULL else reported", "if opened else reported"),
            ),
            (
                "a body that is silent is never cancelled",
                "sdk/heartbeats.py",
                ("            limit.reschedule(due)\n", "            pass\n"),
            ),
        )
    ),
)
