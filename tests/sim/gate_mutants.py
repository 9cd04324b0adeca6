"""Seeded bugs in the limits on runs."""

from tests.sim.mutation import Mutant
from tests.sim.work_mutants import WORK_MUTANTS

_GATE = "engine/gates/gate.py"
_CHANGES = "engine/gates/limit_changes.py"
_PASSING = "engine/gates/passing.py"
_SHARES = "engine/gates/shares.py"
_STEPS = "engine/runs/steps.py"

_ONE_EDIT = tuple(
    Mutant(name, module, (edit,), program=program)
    for name, module, edit, program in (
        (
            "a run that ends keeps its permit",
            "engine/runs/endings.py",
            ("    leave_gates(draft, run)\n", ""),
            "tenants",
        ),
        (
            "a run that is cancelled while it waits keeps its place",
            _PASSING,
            ("enumerate(passing.gates[: passing.asked])", "enumerate(passing.gates[: passing.granted])"),
            "tenants",
        ),
        (
            "two limits are passed in the wrong order",
            _PASSING,
            (
                "    rules.sort(key=lambda rule: (rule.work, rule.steps))\n",
                "    rules.sort(key=lambda rule: (rule.work, rule.steps, bool(rule.key)))\n",
            ),
            "tenants",
        ),
        (
            "a permit is returned before the commit",
            "runtime/shard/loop.py",
            (
                "        await self._log.begin()\n        await self._log.send(batch.outputs, rows)\n",
                "        left = [output for output in batch.outputs if b'gate.left' in output.value]\n"
                "        await self._log.begin()\n"
                "        await self._log.send(left, [])\n"
                "        await self._log.commit({})\n"
                "        await self._log.begin()\n"
                "        await self._log.send([each for each in batch.outputs if each not in left], rows)\n",
            ),
            "pieces",
        ),
        (
            "a permit is returned and can be returned again",
            _GATE,
            ("        return\n    draft.delete(holder)\n", "        return\n"),
            "tenants",
        ),
        (
            "a run that was cancelled while it waited gets a permit",
            _GATE,
            ("        draft.delete(place)\n", ""),
            "tenants",
        ),
        (
            "an attempt that fails keeps its permit",
            "engine/matching/waits.py",
            ("    leave_step_gates(draft, run_id, step, opened)\n", ""),
            "bodies",
        ),
        (
            "a body with a result keeps its permit",
            _STEPS,
            ("        leave_step_gates(draft, run.run_id, memo.step, opened)\n", ""),
            "bodies",
        ),
        (
            "a body starts behind the first of its limits",
            _PASSING,
            (
                "    if opened.asked > opened.granted or not opened.queued:\n",
                "    if opened.asked or not opened.queued:\n",
            ),
            "bodies",
        ),
        (
            "one run too many holds a permit",
            _GATE,
            ("return state.held < state.gate.limit", "return state.held <= state.gate.limit"),
            "tenants",
        ),
        (
            "a run that passes keeps its place in the queue",
            _GATE,
            ("    draft.delete(key)\n    draft.delete(gate_run_key", "    draft.delete(gate_run_key"),
            "tenants",
        ),
        (
            "only the first of the gates is passed",
            "engine/runs/starts.py",
            (
                "    if run.queued:\n        draft.put_run(ask_next(draft, run))",
                "    if run.queued:\n        draft.put_run(run)",
            ),
            "tenants",
        ),
        (
            "the timer of a gate is not set again",
            _GATE,
            (
                "    if after.due and (before is None or before.due != after.due):",
                "    if after.due and before is None:",
            ),
            "spread",
        ),
        (
            "a start is not counted",
            _GATE,
            (
                "next_us=max(state.next_us, draft.now * _US_PER_MS) + request.units * _interval_us(gate)",
                "next_us=max(state.next_us, draft.now * _US_PER_MS)",
            ),
            "spread",
        ),
        (
            "what a body used does not count",
            _STEPS,
            (
                "    opened = draft.step(report.run_id, report.step)\n    settle_gates(draft, opened, report.used)\n",
                "    opened = draft.step(report.run_id, report.step)\n",
            ),
            "metered",
        ),
        (
            "what a body in a queue used does not count",
            _STEPS,
            (
                "engine_memo(run, report.step, opened, report.outcome)\n    settle_gates(draft, opened, report.used)\n",
                "engine_memo(run, report.step, opened, report.outcome)\n",
            ),
            "metered",
        ),
        (
            "what an attempt that fails used does not count",
            _STEPS,
            ("    settle_gates(draft, opened, report.used)\n    if run.expired:", "    if run.expired:"),
            "metered",
        ),
        (
            "what a body used counts beside what was expected",
            _GATE,
            ("    more_us = (settled.units - settled.gate.units) *", "    more_us = settled.units *"),
            "metered",
        ),
        (
            "units that a body did not use are not returned",
            _GATE,
            (
                "    more_us = (settled.units - settled.gate.units) *",
                "    more_us = max(settled.units - settled.gate.units, 0) *",
            ),
            "metered",
        ),
        (
            "a step passes no named limits",
            _PASSING,
            ("        if not plan.limits:\n", "        if plan:\n"),
            "metered",
        ),
    )
)
GATE_MUTANTS = (
    *_ONE_EDIT,
    *WORK_MUTANTS,
    Mutant(
        "a run that is replaced while it waits does not end",
        _GATE,
        (("        draft.route_later(run_routing(waiter.run_id), GateRefused(gate, waiter.run_id, by))\n", ""),),
        program="single",
    ),
    Mutant(
        "the run that holds the permit does not end for another one",
        _GATE,
        (("    draft.route_later(run_routing(state.latest), GateRefused(gate, state.latest, by))\n", ""),),
        program="single",
    ),
    Mutant(
        "a run that is refused keeps a place",
        _GATE,
        (
            (
                "            draft.route_to_run(asked.run_id, GateRefused(gate, asked.run_id, state.latest))",
                "            state = _enqueue(draft, state, asked)\n"
                "            draft.route_to_run(asked.run_id, GateRefused(gate, asked.run_id, state.latest))",
            ),
        ),
        program="refused",
    ),
    Mutant(
        "a run with a priority is not found in the queue",
        _GATE,
        (("passed = min(state.passed, (place[0], places - 1))", "passed = state.passed"),),
        program="spread",
    ),
    Mutant(
        "a run that is debounced does not end",
        _GATE,
        (("        draft.route_to_run(waiter.run_id, GateRefused(gate, waiter.run_id, asked.run_id))\n", ""),),
        program="refused",
    ),
    Mutant(
        "the run of the last event is dropped",
        _GATE,
        (
            (
                "asked.run_id))\n    return _enqueue(draft, state, asked)",
                "asked.run_id))\n        return state\n    return _enqueue(draft, state, asked)",
            ),
        ),
        program="refused",
    ),
    Mutant(
        "the events of a batch start twice",
        "engine/runs/starts.py",
        (
            (
                "GateRefused(run.gates[run.granted - 1], each.run_id, run.run_id)",
                "GateGranted(granted.gate, each.run_id)",
            ),
        ),
        program="batches",
    ),
    Mutant(
        "the last event of a batch is lost at its deadline",
        _GATE,
        (("    leader, *others = batch\n", "    leader, *others = batch[:5]\n"),),
        program="batches",
    ),
    Mutant(
        "a limit that was raised wakes no run",
        _CHANGES,
        (("        wake_gate(draft, gate.id)\n", ""),),
        program="steered",
    ),
    Mutant(
        "a changed limit is lost when its shard moves",
        "runtime/shard/loop.py",
        (
            (
                "for key, value in batch.rows.items()]\n        for at",
                'for key, value in batch.rows.items() if key.table != b"L"]\n        for at',
            ),
        ),
        program="steered",
    ),
    Mutant(
        "the runs that a debounce delays are lost when its shard moves",
        "runtime/shard/loop.py",
        (
            (
                "for key, value in batch.rows.items()]\n        for at",
                'for key, value in batch.rows.items() if key.table != b"Q"]\n        for at',
            ),
        ),
        program="refused",
    ),
    Mutant(
        "a change of a limit reaches only the shard that orders it",
        _CHANGES,
        (
            (
                "    draft.send_to_all(gate_id(name, key), LimitChanged(",
                "    draft.route(gate_id(name, key), LimitChanged(",
            ),
        ),
        program="steered",
    ),
    Mutant(
        "the virtual time of a limit stalls",
        _SHARES,
        (("            state = replace(state, tag=tag)\n", ""),),
        program="shares",
    ),
    Mutant(
        "a sub-queue counts a run that was cancelled",
        _GATE,
        (("            leave_share(draft, left.gate, row.share)\n", "            pass\n"),),
        program="shares",
    ),
    # Either of the two alone lets it pass, at once or by the timer.
    Mutant(
        "a run that leaves lets no other pass",
        _GATE,
        (
            (
                "held=before.held - 1)\n    _write(draft, before, _let_pass(draft, _opened(draft, state)),",
                "held=before.held - 1)\n    _write(draft, before, _opened(draft, state),",
            ),
            ("    if state.waiting and _is_free(draft, state):\n        return draft.now\n", ""),
        ),
        program="tenants",
    ),
)
