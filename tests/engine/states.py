"""Renders docs/states.md from the life cycles: `python -m tests.engine.states` writes it."""

from collections.abc import Mapping
from typing import TypeVar

from stepstream.engine.state.lifecycle import RUN_LIFE, STEP_LIFE
from tests.tidy_rules import ROOT

STATES_FILE = ROOT / "docs" / "states.md"
S = TypeVar("S", bound=str)

HEAD = """\
# States

The life cycles of runs and steps in the engine, rendered from `stream/stepstream/engine/state/lifecycle.py` by
`python -m tests.engine.states`; a test compares. The engine checks every move against these tables. A test folds all
record tables of `tests/engine` and finds each move at least once.
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


def find_moves(life: Mapping[S, Mapping[str, tuple[S, ...]]]) -> list[tuple[S, str, S]]:
    """Return the moves of a life cycle: state, record, next state."""
    return [(was, record, to) for was, records in life.items() for record, after in records.items() for to in after]


def render() -> str:
    """Return the text of docs/states.md."""
    parts = [HEAD, "## A run\n", RUN_TEXT, *_draw(RUN_LIFE), "## A step\n", STEP_TEXT, *_draw(STEP_LIFE)]
    return "\n".join(parts)


def _draw(life: Mapping[S, Mapping[str, tuple[S, ...]]]) -> list[str]:
    arrows: dict[tuple[S, S], list[str]] = {}
    for was, record, to in find_moves(life):
        arrows.setdefault((was, to), []).append(record)
    lines = [f"    {_node(was)} --> {_node(to)} : {', '.join(records)}" for (was, to), records in arrows.items()]
    diagram = "\n".join(["```mermaid", "stateDiagram-v2", *lines, "```", ""])
    rows = [f"| {was} | {record} | {' or '.join(life[was][record])} |" for was in life for record in life[was]]
    table = "\n".join(["| state | record | next |", "| --- | --- | --- |", *rows, ""])
    return [diagram, table]


def _node(state: str) -> str:
    return "[*]" if state == "absent" else state.replace("-", "_")


if __name__ == "__main__":
    STATES_FILE.write_text(render(), encoding="utf-8")
