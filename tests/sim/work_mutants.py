"""Seeded bugs in the limits on work."""

from tests.sim.mutation import Mutant

_PASSING = "engine/gates/passing.py"
_PAUSES = "engine/runs/pauses.py"
_RUNS = "engine/runs/runs.py"
_WORKER = "runtime/worker/worker.py"

WORK_MUTANTS = tuple(
    Mutant(name, module, (edit,), program="turns")
    for name, module, edit in (
        (
            "a run that is parked keeps its permit",
            _PASSING,
            ("    for gate in run.gates[first : run.asked]:\n", "    for gate in ():\n"),
        ),
        (
            "a run that is parked returns only the first of its permits",
            _PASSING,
            ("run.gates[first : run.asked]", "run.gates[first : first + 1]"),
        ),
        (
            "a run that backs off keeps its permit",
            _RUNS,
            (
                "    run = return_work(draft, replace(run, attempt=report.attempt + 1, due=due))\n",
                "    run = replace(run, attempt=report.attempt + 1, due=due)\n",
            ),
        ),
        (
            "a run whose worker has not read all news is parked",
            _RUNS,
            ("    if run is None or run.news != report.number:\n", "    if run is None:\n"),
        ),
        (
            "a result wakes a parked run without a permit",
            _PAUSES,
            ("    if not run.parked:\n", "    if run:\n"),
        ),
        (
            "a run that was granted its permit again gets no command",
            "engine/runs/starts.py",
            (
                "    if woken:\n        send_news(draft, run, RunResumed(run.run_id, run.epoch))\n",
                "    if woken:\n        pass\n",
            ),
        ),
        (
            "code that waits is not reported",
            _WORKER,
            ("            self._wait(run, Event.YIELDED)\n", "            self._wait(run, Event.SUSPENDED)\n"),
        ),
    )
)
