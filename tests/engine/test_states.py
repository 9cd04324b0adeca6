"""The life cycles of runs and steps: drawn, covered by the record tables, and enforced."""

import importlib

import pytest

from stepstream.contract.codec import Raw
from stepstream.contract.inbox import StepReported
from stepstream.contract.outcomes import Value
from stepstream.engine.lifecycle import RUN_LIFE, STEP_LIFE, IllegalMove
from tests.engine.states import STATES_FILE, find_moves, render
from tests.engine.tables import TABLE, Line, Move, World, fold
from tests.tidy_rules import ROOT


def test_the_document_is_what_the_code_says() -> None:
    """docs/states.md is drawn from the tables that the engine checks."""
    assert STATES_FILE.read_text("utf-8") == render(), "run `python -m tests.engine.states` and commit what it writes"


def test_every_move_is_shown_and_no_other_is_made() -> None:
    """The record tables together make each move of the life cycles, and none besides."""
    paths = (ROOT / "tests" / "engine").glob("test_*.py")
    modules = [importlib.import_module(f"tests.engine.{path.stem}") for path in paths]
    tables = [vars(test)[TABLE] for module in modules for test in vars(module).values() if TABLE in dir(test)]
    made: set[Move] = set()
    for lines, limits in tables:
        made |= fold(lines, 1, limits).moves
    allowed: set[Move] = {("run", *move) for move in find_moves(RUN_LIFE)}
    allowed |= {("step", *move) for move in find_moves(STEP_LIFE)}
    assert sorted(allowed - made) == [], "no record table shows these moves"
    assert sorted(made - allowed) == [], "the life cycles do not know these moves"


def test_a_report_of_a_run_that_has_not_started_is_refused() -> None:
    """No worker was told of a scheduled run, so that a report of it cannot be true; the shard puts it aside."""
    world = World(1)
    world.play(Line(10, "function f on=go", ""))
    world.play(Line(10, "event go ts=100", ""))
    report = StepReported(world.run_of("r1"), 1, "a", "a", Value(Raw(b"1")))
    with pytest.raises(IllegalMove, match="StepReported may not take a run from scheduled"):
        world.take([report], 11)
