"""What people at a terminal read about a run."""

import io
from typing import Any

from rich.console import Console

from stepstream.cli.tables import clock, print_run, whereabouts

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
}
_BEGAN, _NOW = 1_767_225_600_000, 1_767_225_700_000
_RUN: dict[str, Any] = {
    "run_id": "0" * 26,
    "function": "pay",
    "app": "shop",
    "status": "running",
    "warnings": [],
    "error": None,
    "steps": [_STEP],
    "accepted_at": _BEGAN,
    "started_at": _BEGAN,
    "retry_at": 0,
}


def test_a_narrow_terminal_hides_nothing_of_what_a_step_waits_for() -> None:
    """In 60 columns the name of the event and the time are broken over lines, and all of them is there."""
    text = io.StringIO()
    print_run(Console(file=text, width=60), _RUN)
    assert "…" not in text.getvalue()
    rows = [line.split("│")[1:-1] for line in text.getvalue().splitlines() if "│" in line]
    assert "".join(row[4].strip() for row in rows) == "payments/captureddata.order_id"


def where(step: dict[str, Any] | None = None, **run: Any) -> str:
    """Return what is said of a run with one step, or with none."""
    steps = [] if step is None else [_STEP | step]
    return "\n".join(whereabouts(_RUN | {"steps": steps} | run, _NOW))


def test_a_run_without_an_open_step_is_with_a_worker() -> None:
    """It is told since when, which is the last that is known of it, whose worker has it, and where to look."""
    told = where()
    assert told.startswith(
        "no step is open: its code, or a step's body, is with a worker of shop, or waits for one, "
        f"since {clock(_BEGAN)}"
    )
    assert "is a worker of shop up?" in told
    assert "stepstream_worker_lag_records" in told
    done = {"kind": "run", "status": "completed", "detail": "", "ended_at": _BEGAN + 60_000}
    assert f"since {clock(_BEGAN + 60_000)}" in where(done)


def test_a_step_in_a_queue_has_its_workers_named() -> None:
    """A body that was lent waits for the workers of its queue, or is at work with them."""
    told = where({"id": "render", "kind": "run", "detail": "queue gpu"})
    assert told.startswith(f"'render' is with a worker of shop.gpu, or waits for one, since {clock(_STEP['first_at'])}")
    assert "is a worker of shop.gpu up?" in told


def test_an_attempt_that_is_due_is_with_a_worker() -> None:
    """Until its time the table says when it is due; after it a worker has it."""
    retrying = {"id": "charge", "kind": "run", "status": "retrying", "detail": "", "until": _NOW + 1}
    assert where(retrying) == ""
    assert where(retrying | {"until": _NOW}).startswith(
        "the next attempt of 'charge' is with a worker of shop, or waits for one, since"
    )


def test_a_run_whose_workers_are_not_up_is_with_nobody() -> None:
    """Where the engine has told how many workers are up, none is a remedy and not a question."""
    down = where(workers={"shop": 0})
    assert down == (
        f"no step is open: its code, or a step's body, waits for a worker of shop since {clock(_BEGAN)}\n"
        "no worker of shop is up: start one by `stepstream worker FILE`"
    )
    lent = {"id": "render", "kind": "run", "detail": "queue gpu"}
    down = where(lent, workers={"shop": 2, "shop.gpu": 0})
    assert down.startswith("'render' waits for a worker of shop.gpu since")
    assert down.endswith("no worker of shop.gpu is up: start one by `stepstream worker FILE --queue gpu`")
    up = where(workers={"shop": 2})
    assert "is with a worker of shop, or waits for one," in up
    assert "workers of shop that are up: 2;" in up


def test_what_tells_itself_is_not_told_twice() -> None:
    """A wait has its row in the table; a run that starts later, or whose code is tried again, has its time."""
    assert where({}) == ""
    assert where(status="scheduled") == f"it starts at {clock(_BEGAN)}"
    assert where(retry_at=_NOW + 5) == f"its code is tried again at {clock(_NOW + 5)}"
    assert where(status="completed") == ""
    text = io.StringIO()
    print_run(Console(file=text, width=200), _RUN | {"steps": []}, _NOW)
    assert "no step is open" in text.getvalue()
