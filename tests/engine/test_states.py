"""The life cycles of runs and steps: rendered, covered by the record tables, and enforced."""

import importlib
from collections.abc import Callable

import pytest

from stepstream.contract.codec import Raw
from stepstream.contract.commands import Memo
from stepstream.contract.history import RunEnded
from stepstream.contract.inbox import StepReported
from stepstream.contract.kinds import RunStatus, StepKind
from stepstream.contract.limits import DEFAULT_LIMITS
from stepstream.contract.outcomes import Value
from stepstream.engine.state.draft import Draft
from stepstream.engine.state.lifecycle import BULK_LIFE, RUN_LIFE, STEP_LIFE, IllegalMove
from stepstream.engine.state.rows import OpenStep, Run
from tests.engine.tables import TABLE, Line, Move, World, fold
from tests.fakes.tables import Tables
from tests.states import STATES_FILE, find_moves, render
from tests.tidy_rules import ROOT


def test_the_document_is_what_the_code_says() -> None:
    """docs/states.md is rendered from the tables that the engine, the worker and the replay follow."""
    assert STATES_FILE.read_text("utf-8") == render(), "run `python -m tests.states` and commit what it writes"


def test_every_move_is_shown_and_no_other_is_made() -> None:
    """The record tables together make each move of the life cycles, and no others."""
    paths = (ROOT / "tests" / "engine").rglob("test_*.py")
    modules = [importlib.import_module(".".join(path.relative_to(ROOT).with_suffix("").parts)) for path in paths]
    tables = [vars(test)[TABLE] for module in modules for test in vars(module).values() if TABLE in dir(test)]
    made: set[Move] = set()
    for lines, limits in tables:
        made |= fold(lines, 1, limits).moves
    allowed: set[Move] = {("run", *move) for move in find_moves(RUN_LIFE)}
    allowed |= {("step", *move) for move in find_moves(STEP_LIFE)}
    allowed |= {("bulk", *move) for move in find_moves(BULK_LIFE)}
    assert sorted(allowed - made) == [], "no record table shows these moves"
    assert sorted(made - allowed) == [], "the life cycles do not know these moves"


def test_a_report_of_a_scheduled_run_is_refused() -> None:
    """No worker has a command of a scheduled run, so a report cannot be true; the shard moves it to dead-letters."""
    world = World(1)
    world.play(Line(10, "function f on=go", ""))
    world.play(Line(10, "event go ts=100", ""))
    report = StepReported(world.run_of("r1"), 1, "a", "a", Value(Raw(b"1")))
    with pytest.raises(IllegalMove, match="StepReported may not move a run from scheduled"):
        world.take([report], 11)


def draft_for(record: str) -> Draft:
    """Return a draft of a transition by a record of this type, over empty tables."""
    return Draft(Tables(), 10, 0, 1, DEFAULT_LIMITS, record)


RUN = Run("r", "f", "app", 1, history_seq=2)
SLEEP, BODY = OpenStep("a", StepKind.SLEEP, 20), OpenStep("a", StepKind.RUN, 20, 1)
WRITES: dict[str, Callable[[], None]] = {
    "StepReported may not move a run from absent to active": lambda: draft_for("StepReported").put_run(RUN),
    "RunReturned may not move a run from absent to absent": lambda: draft_for("RunReturned").record_end(
        RUN, RunEnded, RunStatus.COMPLETED, "f"
    ),
    "Tick may not move a step from absent to planned": lambda: draft_for("Tick").put_step("r", "a", None, SLEEP),
    "Tick may not move a step from planned to backing-off": lambda: draft_for("Tick").put_step("r", "a", SLEEP, BODY),
    "Tick may not move a step from planned to absent": lambda: draft_for("Tick").cancel_step("r", "a", SLEEP),
    "EventMatched may not move a step from backing-off to kept": lambda: draft_for("EventMatched").keep_memo(
        "r", Memo("a", "a", StepKind.WAIT, Value()), BODY
    ),
}


@pytest.mark.parametrize("message", WRITES)
def test_every_way_to_write_is_checked(message: str) -> None:
    """A move that the life cycle of a run or a step does not have is an error that names it."""
    with pytest.raises(IllegalMove, match=message):
        WRITES[message]()
