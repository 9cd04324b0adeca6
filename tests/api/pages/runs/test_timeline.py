"""The timeline as data: segments, folds and windows."""

from dataclasses import replace

import pytest

from stepstream.api.pages.runs.timeline import Fold, Phase, Window, bar_of, began_at, rows_of, window_of
from stepstream.runtime.readmodel.failed_attempts import FailedAttempt
from stepstream.runtime.readmodel.views import RunView, StepView


def step(id: str, kind: str = "run", status: str = "completed", *times: int, attempts: int = 1) -> StepView:
    """Return a step; its times are first, started and ended."""
    first, started, ended = times or (10, 10, 20)
    return StepView(id, id, kind, status, attempts, first, started, ended, 0, "", None, None, copied=False)


def retried(given: StepView, *attempts: tuple[int, int]) -> StepView:
    """Return a step with failed attempts, each of which started (0: unknown) and failed at these times."""
    failures = [FailedAttempt(n, at, "E", "", at, started) for n, (started, at) in enumerate(attempts)]
    return replace(given, failures=tuple(failures))


def run(*steps: StepView, ended: int = 0) -> RunView:
    """Return a run that was accepted at 100."""
    return RunView(
        "r", "f", "a", "running", 100, 100, ended, [], None, "", (), 0, 0, 1, "", {}, "", None, None, steps=steps
    )


@pytest.mark.parametrize(
    ("given", "drawn"),
    [
        (step("a", "run", "completed", 10, 10, 20), [("run", 10, 20)]),
        (step("a", "run", "completed", 10, 15, 20), [("queue", 10, 15), ("run", 15, 20)]),
        (step("a", "run", "failed", 10, 15, 20, attempts=3), [("retry", 10, 15), ("failed", 15, 20)]),
        (
            retried(step("a", "run", "completed", 5, 40, 45, attempts=3), (10, 12), (20, 30)),
            [
                ("queue", 5, 10),
                ("failed", 10, 12),
                ("retry", 12, 20),
                ("failed", 20, 30),
                ("retry", 30, 40),
                ("run", 40, 45),
            ],
        ),
        (retried(step("a", "run", "retrying", 10, 0, 0), (10, 20)), [("failed", 10, 20), ("retry", 20, 50)]),
        (retried(step("a", "run", "retrying", 10, 0, 0), (0, 20)), [("queue", 10, 20), ("retry", 20, 50)]),
        (step("a", "run", "retrying", 10, 0, 0), [("retry", 10, 50)]),
        (step("a", "run", "running", 10, 15, 0, attempts=2), [("retry", 10, 15), ("run", 15, 50)]),
        (step("a", "run", "waiting", 10, 0, 0, attempts=0), [("queue", 10, 50)]),
        (step("a", "sleep", "waiting", 10, 0, 0), [("wait", 10, 50)]),
        (step("a", "wait", "timed_out", 10, 10, 20), [("wait", 10, 20)]),
        (step("a", "invoke", "completed", 10, 10, 20), [("child", 10, 20)]),
    ],
)
def test_bar_shows_queue_attempts_and_waits(given: StepView, drawn: list[tuple[str, int, int]]) -> None:
    """A bar has a segment for the time in a queue, for retries, for the last attempt, and for waits."""
    assert [(each.phase.value, each.start, each.end) for each in bar_of(given, 50)] == drawn


def test_loop_is_folded_from_five_steps_on() -> None:
    """Ids that differ in numbers are one row from five on; four stay rows, and an opened loop shows its steps too."""
    four = [step(f"chunk {number}") for number in range(4)]
    five = [step(f"page {number}/2") for number in range(1, 6)]
    rows = rows_of([*four, *five], [])
    assert [row.id if isinstance(row, StepView) else row.label for row in rows[-2:]] == ["chunk 3", "page 1…5/2"]
    assert len(rows) == 5
    assert len(rows_of([*four, *five], ["page #/#"])) == 10


def test_two_steps_of_each_iteration_are_two_rows() -> None:
    """A loop that alternates between two steps is folded into one row for each."""
    steps = [step(f"{name} {number}") for number in range(9) for name in ("fetch", "store")]
    assert [row.label for row in rows_of(steps, []) if isinstance(row, Fold)] == ["fetch 0…8", "store 0…8"]


def test_fold_with_a_failed_step_is_marked() -> None:
    """The bar of a folded loop spans its steps, and is that of a failure if one failed."""
    steps = [step(f"a{number}", "run", "completed", number, number, number + 1) for number in range(5)]
    (segment,) = bar_of(Fold("a#", tuple(steps)), 50)
    assert (segment.phase, segment.start, segment.end) == (Phase.RUN, 0, 5)
    (segment,) = bar_of(Fold("a#", (*steps, step("a9", "run", "failed", 9, 9, 12))), 50)
    assert (segment.phase, segment.start, segment.end) == (Phase.FAILED, 0, 12)


def test_fold_of_waits_is_a_wait() -> None:
    """Its bar is not that of attempts, and a wait begins when it was planned."""
    waits = [step(f"w{number}", "wait", "completed", 5, 20, 20) for number in range(5)]
    assert [(each.phase, each.start, each.end) for each in bar_of(Fold("w#", tuple(waits)), 50)] == [
        (Phase.WAIT, 5, 20)
    ]
    assert {began_at(wait) for wait in waits} == {5}


@pytest.mark.parametrize(
    ("query", "shown"),
    [
        ({}, (100, 300)),
        ({"from": "50", "to": "150"}, (150, 250)),
        ({"from": "-1", "to": "x"}, (100, 300)),
        ({"from": "9" * 30, "to": "9" * 30}, (299, 300)),
        ({"from": "50", "to": "10"}, (150, 151)),
    ],
)
def test_window_is_within_the_run(query: dict[str, str], shown: tuple[int, int]) -> None:
    """Any parameters give a window inside of the run that is not empty."""
    window = window_of(run(ended=300), 400, query)
    assert (window.start, window.end) == shown


def test_zoom_and_move_stay_within_the_run() -> None:
    """Zooming in halves the window around its middle; moving and zooming out end at the ends of the run."""
    window = Window(1_000, 2_000, 1_400, 1_600)
    assert window.moved(0, 2) == (450, 550)
    assert window.moved(0.5, 1) == (500, 700)
    assert window.moved(9, 1) == (800, 1_000)
    assert window.moved(0, 0.001) == (0, 1_000)
