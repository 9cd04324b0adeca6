"""Renders docs/states.md from the life cycles of the engine and of the worker: `python -m tests.states` writes it."""

import inspect
import re
from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Any, TypeVar

from stepstream.engine.state.lifecycle import RUN_LIFE, STEP_LIFE
from stepstream.runtime.worker.lifecycle import OWNERSHIPS, PHASES, Move
from stepstream.runtime.worker.states import Effect, Event, Ownership, Phase
from tests.tidy_rules import ROOT

STATES_FILE = ROOT / "docs" / "states.md"
S = TypeVar("S", bound=str)

HEAD = """\
# States

The life cycles of runs and steps, in the engine and in a worker. `python -m tests.states` renders this page from the
tables in the code, and a test compares it with them.

A run and a step in the engine come from `stream/stepstream/engine/state/lifecycle.py`. The engine checks every
transition of a run and of a step against these tables. A run in a worker comes from
`stream/stepstream/runtime/worker/lifecycle.py`. A worker does what these tables say and nothing else. Both reject a
transition that is not in them, and tests exercise each one that is.
"""
RUN_TEXT = """\
The state of a run follows from its row. Without a row it is `absent`. With a `due` time in the future it is `scheduled`
before anything has happened, and `backing-off` afterwards. Otherwise it is `active`.

Every move to `absent` from another state is the one end of the run. `Tick` is time itself. A move from `active` or
`backing-off` to `absent` by a record of a step means that the run broke a limit.
"""
STEP_TEXT = """\
A step is `planned` while it sleeps, or waits for an event, a signal or another run. A body that failed is `backing-off`
until its next attempt is due, and then `ready`. `kept` has its result, which never changes. The end of the run removes
all of its steps, in any state.
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


def find_moves(life: Mapping[S, Mapping[str, tuple[S, ...]]]) -> list[tuple[S, str, S]]:
    """Return the transitions of a life cycle: state, record, next state."""
    return [(was, record, to) for was, records in life.items() for record, after in records.items() for to in after]


def render() -> str:
    """Return the text of docs/states.md."""
    engine = ["## A run in the engine\n", RUN_TEXT, *_draw(RUN_LIFE), "## A step in the engine\n", STEP_TEXT]
    worker = ["## A run in a worker\n", WORKER_TEXT, "### Phases\n", *_draw_worker(Phase, PHASES)]
    ownership = ["### Ownerships\n", OWNERSHIP_TEXT, *_draw_worker(Ownership, OWNERSHIPS)]
    words = ["### Events\n", _list(Event), "### Effects\n", _list(Effect)]
    return "\n".join([HEAD, *engine, *_draw(STEP_LIFE), *worker, *ownership, *words])


def _diagram(arrows: Mapping[tuple[str, str], Iterable[str]]) -> str:
    lines = [f"    {_node(was)} --> {_node(to)} : {', '.join(words)}" for (was, to), words in arrows.items()]
    return "\n".join(["```mermaid", "stateDiagram-v2", *lines, "```", ""])


def _draw(life: Mapping[S, Mapping[str, tuple[S, ...]]]) -> list[str]:
    arrows: dict[tuple[str, str], list[str]] = {}
    for was, record, to in find_moves(life):
        arrows.setdefault((was, to), []).append(record)
    rows = [f"| {was} | {record} | {' or '.join(life[was][record])} |" for was in life for record in life[was]]
    table = "\n".join(["| state | record | next |", "| --- | --- | --- |", *rows, ""])
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
    return "[*]" if state in ("absent", "stopped") else state.replace("-", "_")


if __name__ == "__main__":
    STATES_FILE.write_text(render(), encoding="utf-8")
