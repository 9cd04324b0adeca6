"""What `runs show` prints about a run."""

import io
from typing import Any

import pytest
from rich.console import Console

from stepstream.cli.console import Screen
from stepstream.cli.tables import clock, print_run, whereabouts

_BEGAN, _NOW = 1_767_225_600_000, 1_767_225_700_000
_STEP: dict[str, Any] = {
    "id": "captured",
    "kind": "wait",
    "status": "waiting",
    "attempts": 0,
    "detail": "payments/captured data.order_id",
    "first_at": 1_767_225_650_000,
    "ended_at": 0,
    "until": 1_795_482_469_000,
    "error": None,
    "output": None,
    "copied": False,
}
_RUN: dict[str, Any] = {
    "run_id": "0" * 26,
    "function": "pay",
    "app": "shop",
    "status": "running",
    "warnings": [],
    "error": None,
    "events": [{"name": "order", "id": "e-1", "ts": _BEGAN, "data": {"order_id": 7}}],
    "steps": [_STEP],
    "accepted_at": _BEGAN,
    "started_at": _BEGAN,
    "retry_at": 0,
    "rerun": None,
    "reruns": [],
}


def printed(run: dict[str, Any], width: int = 200, *, terminal: bool = False) -> str:
    """Return what is printed about a run."""
    text = io.StringIO()
    console = Console(file=text, width=width, force_terminal=terminal, no_color=True)
    print_run(Screen(console=console), run, _NOW)
    return text.getvalue()


def test_a_rerun_shows_its_origin_and_a_copied_step() -> None:
    """It names the run that it repeats, from where, who asked and why; the origin names the runs that repeat it."""
    rerun = {"origin": "1" * 26, "step": "charge", "by": "ann", "why": "bank is back"}
    steps = [_STEP | {"status": "completed", "copied": True}]
    text = printed(_RUN | {"rerun": rerun, "reruns": ["2" * 26], "steps": steps})
    assert f"rerun of {'1' * 26} from step 'charge' by ann because 'bank is back'" in text
    assert f"repeated by {'2' * 26}" in text
    assert "completed (copied)" in text


def test_a_narrow_terminal_hides_nothing_that_a_step_waits_for() -> None:
    """In 60 columns the name of the event and the value wrap over several lines, and are complete."""
    text = printed(_RUN, 60, terminal=True)
    assert "…" not in text
    rows = [line.split("│")[1:-1] for line in text.splitlines() if "│" in line]
    assert "".join(row[4].strip() for row in rows) == "payments/capturedwithdata.order_id =7"


@pytest.mark.parametrize(
    ("detail", "shown"),
    [
        ("paid data.order_id", "paid with data.order_id = 7"),
        ("paid data.none.deep", "paid with data.none.deep = null"),
        (
            "paid async.data.n == event.data.order_id && event.id != async.id",
            "paid if async.data.n == event.data.order_id && event.id != async.id "
            '(event.data.order_id = 7, event.id = "e-1")',
        ),
        ("paid async.data.ok", "paid if async.data.ok"),
        ("paid", "paid"),
    ],
)
def test_a_wait_shows_the_values_that_it_matches(detail: str, shown: str) -> None:
    """They are those of the run's own event, to which match= and if_= refer."""
    assert f" {shown} " in printed(_RUN | {"steps": [_STEP | {"detail": detail}]})


def test_only_a_terminal_cuts_long_values() -> None:
    """A pipe gets results and the data of events completely."""
    step = _STEP | {"status": "completed", "output": "x" * 300}
    event = {"name": "order", "id": "e-1", "ts": _BEGAN, "data": {"text": "y" * 5_000}}
    long = _RUN | {"steps": [step], "events": [event]}
    assert "x" * 300 in printed(long, 10_000)
    assert "y" * 5_000 in printed(long, 10_000)
    assert "x" * 100 not in printed(long, 10_000, terminal=True)
    assert "y" * 2_000 not in printed(long, 10_000, terminal=True)


def where(step: dict[str, Any] | None = None, **run: Any) -> str:
    """Return the lines about a run with one step, or with none."""
    steps = [] if step is None else [_STEP | step]
    return "\n".join(whereabouts(_RUN | {"steps": steps} | run, _NOW))


def test_a_run_without_an_open_step_is_with_a_worker() -> None:
    """The line says since when, which worker has the run, and what to look at."""
    line = where()
    assert line.startswith(
        "no step is open: its code, or the body of a step, runs on a worker of shop, or waits for one, "
        f"since {clock(_BEGAN)}"
    )
    assert "check the workers of shop, their logs" in line
    assert "stepstream_worker_lag_records" in line
    done = {"kind": "run", "status": "completed", "detail": "", "ended_at": _BEGAN + 60_000}
    assert f"since {clock(_BEGAN + 60_000)}" in where(done)


def test_a_dispatched_step_names_the_workers_of_its_queue() -> None:
    """Its body waits for a worker of the queue, or runs in one."""
    line = where({"id": "render", "kind": "run", "detail": "queue gpu"})
    since = clock(_STEP["first_at"])
    assert line.startswith(f"'render' runs on a worker of shop.gpu, or waits for one, since {since}")
    assert "check the workers of shop.gpu, their logs" in line


def test_an_attempt_that_is_due_is_with_a_worker() -> None:
    """Before its time the table says when it is due; afterwards a worker has it."""
    retrying = {"id": "charge", "kind": "run", "status": "retrying", "detail": "", "until": _NOW + 1}
    assert where(retrying) == ""
    assert where(retrying | {"until": _NOW}).startswith(
        "the next attempt of 'charge' runs on a worker of shop, or waits for one, since"
    )


def test_a_missing_worker_is_reported_with_the_command() -> None:
    """If the engine knows how many workers are running, the line states it and does not ask."""
    down = where(workers={"shop": 0})
    assert down == (
        f"no step is open: its code, or the body of a step, waits for a worker of shop since {clock(_BEGAN)}\n"
        "no worker of shop is running: start one with `stepstream worker FILE`"
    )
    dispatched = {"id": "render", "kind": "run", "detail": "queue gpu"}
    down = where(dispatched, workers={"shop": 2, "shop.gpu": 0})
    assert down.startswith("'render' waits for a worker of shop.gpu since")
    assert down.endswith("no worker of shop.gpu is running: start one with `stepstream worker FILE --queue gpu`")
    up = where(workers={"shop": 2})
    assert "runs on a worker of shop, or waits for one," in up
    assert "running workers of shop: 2;" in up


def test_what_the_table_shows_is_not_repeated() -> None:
    """A wait has its row; a run that starts later, or whose code is retried, has one line with the time."""
    assert where({}) == ""
    assert where(status="scheduled") == f"starts at {clock(_BEGAN)}"
    assert where(retry_at=_NOW + 5) == f"the code between steps is retried at {clock(_NOW + 5)}"
    assert where(status="completed") == ""
    assert "no step is open" in printed(_RUN | {"steps": []})
