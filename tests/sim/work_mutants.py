"""Seeded bugs in the limits on work."""

from tests.sim.mutation import Mutant

_PASSING = "engine/gates/passing.py"
_PAUSES = "engine/runs/pauses.py"
_RUNS = "engine/runs/runs.py"
_WORKER = "runtime/worker/worker.py"

_DISPATCH = "engine/runs/dispatch.py"
_PERMIT = "sdk/replay/run_permit.py"

_TURNS = tuple(
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

_PIECES = tuple(
    Mutant(name, module, (edit,), program="pieces")
    for name, module, edit in (
        (
            "two bodies are covered at a time",
            _PERMIT,
            ("        if not self.exists or _is_in(self._user, _USED):\n", "        if not self.exists:\n"),
        ),
        (
            "all parallel bodies run by the permit of their run",
            "sdk/replay/operations.py",
            (
                "        planned = [call for call in new if call.plan and call is not next_by_permit]\n",
                "        for call in new:\n"
                "            call.plan = None if call.shares else call.plan\n"
                "        planned = [call for call in new if call.plan]\n",
            ),
        ),
        (
            "a run is parked although an attempt waits for a permit",
            _RUNS,
            ("    elif not continue_by_attempt(draft, run):\n", "    else:\n"),
        ),
        (
            "an attempt that is due asks for a permit before its run does",
            _DISPATCH,
            ("    if run.parked and covers_body(run) and not opened.queue:\n", "    if run.parked and run.due:\n"),
        ),
        (
            "a body that is covered keeps its place",
            _PASSING,
            ("    for gate in asked:\n        if gate.work:\n", "    for gate in ():\n        if gate.work:\n"),
        ),
        (
            "the next attempt of a covered body asks for no permit",
            _PASSING,
            ("        return run.step_gates if covers_body(run) else ()\n", "        return ()\n"),
        ),
        (
            "code starts without a permit",
            _PASSING,
            ("if rule.steps == steps or (rule.work and not steps)]", "if rule.steps == steps]"),
        ),
    )
)

WORK_MUTANTS = _TURNS + _PIECES
