"""Renders docs/states.md from the life cycles in the code: `python -m tests.states` writes it."""

import inspect
import re
from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Any, TypeVar

from stepstream.engine.state.lifecycle import BULK_LIFE, RUN_LIFE, STEP_LIFE
from stepstream.gateway.connect.worker_call import CALL_LIFE as WORKER_CALL_LIFE
from stepstream.gateway.connect.worker_call import WorkerCallEvent, WorkerCallPhase
from stepstream.gateway.runs import phases as remote
from stepstream.runtime.worker.runs.lifecycle import OWNERSHIPS, PHASES, Move
from stepstream.runtime.worker.runs.states import Effect, Event, Ownership, Phase
from stepstream.sdk.replay.calls import CALL_LIFE, CallEvent, CallState
from tests.tidy_rules import ROOT

STATES_FILE = ROOT / "docs" / "states.md"
S = TypeVar("S", bound=str)

HEAD = """\
# States

The life cycles of runs, steps and bulk operations, in the engine, in a worker, and in the code of a run.
`python -m tests.states` renders this page from the tables in the code, and a test compares it with them.

A run, a step and a bulk operation in the engine come from `stream/stepstream/engine/state/lifecycle.py`. The engine
checks every transition of each against these tables. A run in a worker comes from
`stream/stepstream/runtime/worker/runs/lifecycle.py`. A worker does what these tables say and nothing else. A call,
which is a step that code awaits, comes from `stream/stepstream/sdk/replay/calls.py`. The replay of a run checks every
transition of a call against that table. The calls to a function of an SDK come from
`stream/stepstream/gateway/runs/phases.py`, and those to connected workers from
`stream/stepstream/gateway/connect/worker_call.py`. All of them reject a transition that is not in them, and tests
exercise each one that is.
"""
RUN_TEXT = """\
The state of a run follows from its row. Without a row it is `absent`. With a `due` time in the future it is `scheduled`
before anything has happened, and `backing-off` afterwards. It is `queued` until it has passed its gates, the limits of
its function. Otherwise it is `active`.

Only a run with [limits on work](flow-control.md#limit-how-many-runs-are-executing) is `parked`, once its worker has
reported that the code waits, and `waking` while it waits for their permits again.

Every move to `absent` from another state is the one end of the run. `Tick` is time itself. A move from `active` or
`backing-off` to `absent` by a record of a step means that the run broke a limit.
"""
STEP_TEXT = """\
A step is `planned` while it sleeps, or waits for an event, a signal or another run. A body that failed is `backing-off`
until its next attempt is due, and then `ready`. `kept` has its result, which never changes. The end of the run removes
all of its steps, in any state.
"""
BULK_TEXT = """\
A [bulk operation](bulk.md) is `receiving` until the last page of its runs has arrived, and then `running`. An upload
that stops makes it `expired`, and it changes no run. After its end it is remembered for seven days, so that a repeated
request starts nothing. `Tick` sends the next requests, and removes what an operation leaves.
"""
WORKER_TEXT = """\
A worker keeps one phase and one ownership for each of its runs. The phase says what the code of the run can do next.
The ownership says which worker may run it: a partition may be revoked while a body is running, and a worker may drain.

An event goes to the ownership first. If the ownership has an entry for it, that entry applies, and it may pass another
event to the phase. Any other event goes to the phase directly. The effects are data: the worker performs them in the
order in which they are listed. A step that was dispatched to a queue has the same life cycle in a worker of the queue,
of which it uses `absent`, `claiming`, `queued`, `outdated`, `active`, `leaving`, `returning`, `ending` and `stopped`.
"""
OWNERSHIP_TEXT = """\
A run is `held` or, when its worker drains, `draining`. The other ownerships have a lease: the engine grants no claim of
the run until the lease is released or expires.
"""
CALL_TEXT = """\
A call is a step that the code of a run awaits. Its life lasts from the `await` until the code has the result, or no
longer needs it. The engine has no calls: it has the step, whose life cycle is shown above.

Where an event has several next states, the state of the step decides. `discover` leads to `open` or
`due` if the step is open in the engine already, as it may be when the code is replayed. `retry` leads to `due` if the
engine has called for the next attempt already. A call whose step has a stored result goes from `new` to `resolved`.
"""
REMOTE_TEXT = """\
A gateway runs a function of an [Inngest SDK](sdk-endpoints.md) by discovery calls, in which the app executes the code
from its first line, and by calls for single steps. A step has the life cycle of a call, above. `running` is a call
that is open. At most one discovery call is open at a time, and one begins whenever `calling` is entered.
"""
WORKER_CALL_TEXT = """\
A gateway sends a call of an app whose [workers connect](inngest.md#workers-that-connect) to one of them, which leases
it. A worker whose connection is closed has until the end of the lease to connect again.
"""


def find_moves(life: Mapping[S, Mapping[Any, tuple[S, ...]]]) -> list[tuple[S, str, S]]:
    """Return the transitions of a life cycle: state, record or event, next state."""
    return [(was, record, to) for was, records in life.items() for record, after in records.items() for to in after]


def render() -> str:
    """Return the text of docs/states.md."""
    engine = ["## A run in the engine\n", RUN_TEXT, *_draw(RUN_LIFE), "## A step in the engine\n", STEP_TEXT]
    worker = ["## A run in a worker\n", WORKER_TEXT, "### Phases\n", *_draw_worker(Phase, PHASES)]
    ownership = ["### Ownerships\n", OWNERSHIP_TEXT, *_draw_worker(Ownership, OWNERSHIPS)]
    words = ["### Events\n", _list(Event), "### Effects\n", _list(Effect)]
    call = ["## A call in the code of a run\n", CALL_TEXT, _list(CallState), *_draw(CALL_LIFE, "event")]
    call += ["### Events of a call\n", _list(CallEvent)]
    phases = {was: {need: (to,) for need, to in moves.items()} for was, moves in remote.PHASES.items()}
    call += ["## The calls to a function of an SDK\n", REMOTE_TEXT, _list(remote.Phase), *_draw(phases, "need")]
    call += ["### Needs\n", _list(remote.Need)]
    sent = {was: {event: (to,) for event, to in moves.items()} for was, moves in WORKER_CALL_LIFE.items()}
    call += ["## A call to a connected worker\n", WORKER_CALL_TEXT, _list(WorkerCallPhase), *_draw(sent, "event")]
    call += ["### Events of a call to a worker\n", _list(WorkerCallEvent)]
    engine += [*_draw(STEP_LIFE), "## A bulk operation\n", BULK_TEXT, *_draw(BULK_LIFE)]
    return "\n".join([HEAD, *engine, *worker, *ownership, *words, *call])


def _diagram(arrows: Mapping[tuple[str, str], Iterable[str]]) -> str:
    lines = [f"    {_node(was)} --> {_node(to)} : {', '.join(words)}" for (was, to), words in arrows.items()]
    return "\n".join(["```mermaid", "stateDiagram-v2", *lines, "```", ""])


def _draw(life: Mapping[S, Mapping[Any, tuple[S, ...]]], cause: str = "record") -> list[str]:
    arrows: dict[tuple[str, str], list[str]] = {}
    for was, record, to in find_moves(life):
        arrows.setdefault((was, to), []).append(record)
    rows = [f"| {was} | {record} | {' or '.join(life[was][record])} |" for was in life for record in life[was]]
    table = "\n".join([f"| state | {cause} | next |", "| --- | --- | --- |", *rows, ""])
    return [_diagram(arrows), table]


def _draw_worker(words: type[StrEnum], life: Mapping[Any, Mapping[Event, Move[Any]]]) -> list[str]:
    arrows: dict[tuple[str, str], list[str]] = {}
    rows: dict[tuple[str, str, str], list[str]] = {}
    for was, moves in life.items():
        for event, move in moves.items():
            if move.to is not was:
                arrows.setdefault((was, move.to), []).append(event)
            effects = ", ".join([*move.effects, *([f"passes `{move.passes}`"] if move.passes else [])])
            rows.setdefault((was, move.to, effects), []).append(event)
    lines = [f"| {was} | {', '.join(events)} | {to} | {effects} |" for (was, to, effects), events in rows.items()]
    table = "\n".join(["| state | event | next | effects |", "| --- | --- | --- | --- |", *lines, ""])
    return [_list(words), _diagram(arrows), table]


def _list(words: type[StrEnum]) -> str:
    """Return the members of an enumeration with the comments that describe them."""
    found = re.findall(r'^    [A-Z_]+ = "([a-z-]+)"  # (.+)$', inspect.getsource(words), re.MULTILINE)
    assert [word for word, _ in found] == [str(member) for member in words], f"describe each member of {words}"
    return "\n".join([*(f"- `{word}`: {meaning}" for word, meaning in found), ""])


def _node(state: str) -> str:
    return "[*]" if state in ("absent", "stopped", "resolved", "abandoned", "over") else state.replace("-", "_")


if __name__ == "__main__":
    STATES_FILE.write_text(render(), encoding="utf-8")
