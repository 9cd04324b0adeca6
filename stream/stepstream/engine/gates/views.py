"""What operators see of gates: who holds them and who waits; an answer reads a bounded number of rows."""

from itertools import islice

from msgspec.structs import replace

from stepstream.contract.codec import encode
from stepstream.contract.gates import gate_id
from stepstream.contract.operators.limit_views import (
    ChangedLimit,
    LimitAnswer,
    LimitRequested,
    LimitsPage,
    LimitsRequested,
    LimitView,
    RunLimitRequested,
)
from stepstream.engine.gates.gate import next_start
from stepstream.engine.gates.overrides import shown
from stepstream.engine.gates.shares import in_order
from stepstream.engine.state.draft import Draft
from stepstream.engine.state.gate_keys import gate_key, gate_name_place, gate_part, gate_place_key, gate_run_key
from stepstream.engine.state.gate_rows import GateState
from stepstream.engine.state.tables import (
    GATE_RUNS,
    GATES,
    LIMIT_SETTINGS,
    STEPS,
    limit_setting_key,
    limit_setting_of,
    run_part,
    step_of,
)

# The runs of a limit in a list, and of one that is shown.
LISTED_RUNS_MAX = 3
SHOWN_RUNS_MAX = 100
# The rows of a gate that one answer reads, to find those that hold it or the place of a run.
_ROWS_MAX = 1_000


def list_limits(draft: Draft, asked: LimitsRequested) -> None:
    """Answer with a part of the gates of this shard."""
    after = gate_part(asked.after) if asked.after else gate_name_place(asked.name)
    rows = [row for _, row in draft.scan(GATES, b"", asked.count + 1, after) if asked.name in ("", row.gate.name)]
    # The scan does not know what earlier records of the batch have changed.
    states = [draft.get(gate_key(row.gate.id)) or row for row in rows]
    views = tuple(_view(draft, state, LISTED_RUNS_MAX) for state in states)
    page = LimitsPage(views, _changed(draft, asked, after))
    draft.reply(asked.reply_to, encode(page).decode())


def _changed(draft: Draft, asked: LimitsRequested, after: bytes) -> tuple[ChangedLimit, ...]:
    """Return those limits that operators changed which this shard owns; every shard reads the same ones."""
    rows = draft.scan(LIMIT_SETTINGS, b"", asked.count + 1, after)
    found = [ChangedLimit(*limit_setting_of(key), row) for key, row in rows]
    return tuple(each for each in found if draft.owns(each.gate) and asked.name in ("", each.name))


def show_limit(draft: Draft, asked: LimitRequested) -> None:
    """Answer with a gate, and with the place of a run in its queue."""
    state = draft.get(gate_key(asked.gate))
    view = _view(draft, state, SHOWN_RUNS_MAX, _place(draft, state, asked)) if state else None
    if view and asked.step:
        view = replace(view, step=asked.step_id)
    name, key = asked.gate.split("\x00", 1)
    settings = [(each, draft.get(limit_setting_key(gate_id(name, each)))) for each in dict.fromkeys((key, ""))]
    changed = tuple(ChangedLimit(name, each, setting) for each, setting in settings if setting)
    draft.reply(asked.reply_to, encode(LimitAnswer(view, changed)).decode())


def show_run_limit(draft: Draft, asked: RunLimitRequested) -> None:
    """Have the owner of the gate for which a run, or the first of its steps, waits answer."""
    run = draft.run(asked.run_id)
    if run and run.asked > run.granted:
        gate = run.gates[run.granted].id
        draft.route(gate, LimitRequested(gate, asked.reply_to, asked.run_id))
        return
    for key, step in draft.scan(STEPS, run_part(asked.run_id)) if run else ():
        if step.asked > step.granted:
            gate = step.gates[step.granted].id
            draft.route(gate, LimitRequested(gate, asked.reply_to, asked.run_id, step_of(key), step.id))
            return
    draft.reply(asked.reply_to, encode(LimitAnswer()).decode())


def _view(draft: Draft, state: GateState, most: int, place: int = 0) -> LimitView:
    gate, pause = shown(draft, state.gate)
    queue = list(islice(in_order(draft, state, _ROWS_MAX), most))
    return LimitView(
        gate.name,
        gate.value,
        gate.limit,
        gate.period_ms,
        gate.burst,
        state.held,
        state.waiting,
        queue[0][1].since if queue else 0,
        0 if pause else next_start(draft, state),
        _holders(draft, state, most),
        tuple(dict.fromkeys(waiter.run_id for _, waiter in queue)),
        place,
        steps=gate.steps,
        paused=pause is not None,
        pause=pause,
        excess=gate.excess,
        most_ms=gate.most_ms,
        size=gate.size,
        metered=gate.metered,
        renewed=gate.renewed,
        work=gate.work,
    )


def _holders(draft: Draft, state: GateState, most: int) -> tuple[str, ...]:
    """Return the first runs that hold a permit. They are older than nearly all that wait, and ids sort by age."""
    if not state.held:
        return ()
    rows = draft.scan(GATE_RUNS, gate_part(state.gate.id), min(most + state.waiting, _ROWS_MAX))
    holders = (key.sort.decode().partition("/")[0] for key, row in rows if not row.place)
    return tuple(dict.fromkeys(holders))[:most]


def _place(draft: Draft, state: GateState, asked: LimitRequested) -> int:
    """Return the place of a run or a step among those that wait, from 1; 0 if it is further back than is read."""
    row = draft.get(gate_run_key(state.gate.id, asked.run_id, asked.step))
    if row is None or not row.place:
        return 0
    own = gate_place_key(state.gate.id, row.place, row.share)
    queue = islice(in_order(draft, state, _ROWS_MAX), _ROWS_MAX)
    return next((number for number, (key, _) in enumerate(queue, 1) if key == own), 0)
