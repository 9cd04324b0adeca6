"""What `runs show` prints about a run."""

import io
from typing import Any

import pytest
from rich.console import Console

from stepstream.cli.terminal.console import Screen
from stepstream.cli.terminal.tables import clock, print_run, print_runs

_BEGAN = 1_767_225_600_000
_STEP: dict[str, Any] = {
    "step": "c0",
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
    "failures": [],
    "progress": None,
    "heartbeat_at": 0,
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
    "attributes": {},
    "rerun": None,
    "reruns": [],
    "continuation": None,
    "why": [],
}


def printed(run: dict[str, Any], width: int = 200, *, terminal: bool = False) -> str:
    """Return what is printed about a run."""
    text = io.StringIO()
    console = Console(file=text, width=width, force_terminal=terminal, no_color=True)
    print_run(Screen(console=console), run)
    return text.getvalue()


def test_a_list_shows_what_runs_do() -> None:
    """A run that waits is not shown as running, and one whose code has not started has no start."""
    text, due = io.StringIO(), 4_102_444_800_000
    listed = {**_RUN, "ended_at": 0, "paused": None, "waits": None}
    waits = {"state": "sleeping", "step": "nap", "name": "", "until": due}
    paused = {"since": 1, "until": 0, "by": "ann", "why": ""}
    runs = [
        {**listed, "waits": waits},
        {**listed, "waits": {**waits, "state": "waiting", "name": "event paid"}, "paused": paused},
        {**listed, "waits": {**waits, "state": "retrying"}},
        {**listed, "status": "queued"},
        {**listed, "status": "scheduled", "started_at": due},
    ]
    print_runs(Screen(console=Console(file=text, width=200, no_color=True)), runs)
    rows = [[cell.strip() for cell in line.strip("│").split("│")] for line in text.getvalue().splitlines()[3:-1]]
    assert [row[2] for row in rows] == [
        f"sleeping until {clock(due)}",
        "paused, waiting for event paid",
        f"retrying at {clock(due)}",
        "queued",
        f"scheduled for {clock(due)}",
    ]
    assert [row[3] for row in rows[2:]] == [clock(_BEGAN), *[f"waits since {clock(_BEGAN)}"] * 2]


def test_attributes_are_shown_with_their_values() -> None:
    """The attributes are one line; a string is quoted, so that it differs from a number."""
    assert 'attributes: order="4711", n=1, paid=true' in printed(
        _RUN | {"attributes": {"order": "4711", "n": 1, "paid": True}}
    )


def test_the_state_is_shown_as_json() -> None:
    """The state is one line, with its values as JSON."""
    state = {"stage": "copy", "progress": {"page": 7}}
    assert 'state: stage="copy", progress={"page": 7}' in printed(_RUN | {"state": state})


def test_an_open_step_shows_the_progress_of_its_body() -> None:
    """It has the time of the last heartbeat, and the error of the attempt before; a result takes its place."""
    body = _STEP | {"id": "copy", "kind": "run", "status": "running", "detail": "", "until": 0, "heartbeat_at": _BEGAN}
    said = body | {"progress": {"page": 7}, "error": {"name": "IOError", "message": "refused", "stack": ""}}
    assert f'progress {{"page": 7}} at {clock(_BEGAN)}; IOError: refused ' in printed(_RUN | {"steps": [said]})
    assert f" heartbeat at {clock(_BEGAN)} " in printed(_RUN | {"steps": [body]})
    ended = printed(_RUN | {"steps": [said | {"status": "completed", "error": None, "output": 1}]})
    assert "progress" not in ended


def test_a_rerun_shows_its_origin_and_a_copied_step() -> None:
    """It names the run that it repeats, from where, who asked and why; the origin names the runs that repeat it."""
    rerun = {"origin": "1" * 26, "step": "charge", "by": "ann", "why": "bank is back"}
    steps = [_STEP | {"status": "completed", "copied": True}]
    text = printed(_RUN | {"rerun": rerun, "reruns": ["2" * 26], "steps": steps})
    assert f"rerun of {'1' * 26} from step 'charge' by ann because 'bank is back'" in text
    assert f"rerun as {'2' * 26}" in text
    assert "completed (copied)" in text
    assert "edited" not in text


def test_a_rerun_shows_what_was_edited() -> None:
    """It names the data of the event and the steps whose results were replaced, and marks these steps."""
    steps = [_STEP | {"step": "a1", "id": "price", "status": "completed", "copied": True}]
    rerun = {"origin": "1" * 26, "edited_data": True, "edited_steps": ["a1"]}
    text = printed(_RUN | {"rerun": rerun, "steps": steps})
    assert "edited for this rerun: the data of the event, the result of step 'price'" in text
    assert "completed (edited)" in text


def test_a_step_that_asks_shows_what_its_author_wrote() -> None:
    """An approval and a request are named as such, and not by the signals of the engine that answer them."""
    run, asks = _RUN["run_id"], {"kind": "signal", "until": 0}
    approval = _STEP | asks | {"step": "a1", "id": "ask", "detail": f"approval/{run}/a1"}
    request = _STEP | asks | {"step": "r1", "id": "orders/add", "detail": f"request/{run}/r1"}
    text = printed(_RUN | {"steps": [approval, request]})
    assert "a decision" in text
    assert "a request 'orders/add'" in text
    assert run not in text.partition(run)[2]


def test_a_series_shows_its_neighbours() -> None:
    """A run names the run that it continues, its number in the series, and its successor."""
    text = printed(_RUN | {"continuation": {"from": "1" * 26, "number": 1_200, "to": "2" * 26}})
    assert f"continues {'1' * 26}, as number 1,200 of the series" in text
    assert f"continued by {'2' * 26}" in text


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
        ("first of: yes: paid data.order_id | no: refused", "first of: yes: paid with data.order_id = 7; no: refused"),
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


def test_each_reason_comes_with_its_time_and_its_remedy() -> None:
    """A reason that time will end has no remedy; those of several steps have a line above them."""
    nap = {"code": "sleep", "text": "Step 'nap' sleeps.", "step": "nap", "since": 0, "until": 5, "remedy": ""}
    down = {"code": "no-worker", "text": "Its code waits.", "step": "", "since": _BEGAN, "until": 0, "remedy": "Start."}
    lines = [line.rstrip() for line in printed(_RUN | {"why": [down, nap]}).splitlines()]
    at = lines.index("  Its code waits.")
    assert lines[at + 1 : at + 3] == ["    Start.", "  Step 'nap' sleeps."]
    assert "  2 steps wait at once:" in printed(_RUN | {"why": [nap, nap]})


def test_a_timeout_is_no_reason_to_be_open() -> None:
    """It is printed as a separate sentence."""
    text = "A timeout cancels it at noon if it has not ended."
    limit = {"code": "timeout", "text": text, "step": "", "since": 0, "until": 5, "remedy": ""}
    assert f"  {text}" in [line.rstrip() for line in printed(_RUN | {"why": [limit]}).splitlines()]


def test_failed_attempts_are_printed_below_the_steps() -> None:
    """Each with its error, and when the next was due; the step itself may have succeeded."""
    failure = {"attempt": 0, "at": _BEGAN, "name": "IOError", "message": "bank is down", "retry_at": _BEGAN + 60_000}
    text = printed({**_RUN, "steps": [{**_STEP, "id": "pay", "kind": "run", "failures": [failure]}]})
    times = f"{clock(_BEGAN)}, next at {clock(_BEGAN + 60_000)}"
    assert f"step 'pay', attempt 1 failed {times}: IOError: bank is down" in text


def test_limits_are_printed_with_their_waits() -> None:
    """Of the run, and of each attempt of a step; an engine of an earlier release sends none."""
    passed = {"limit": "db", "key": "a", "waited_ms": 7, "place": 2, "units": None, "used": None}
    decision = {"at": _BEGAN, "passed": [passed], "returned": False, "attempt": 0}
    parked = {"at": _BEGAN, "passed": [], "returned": True, "attempt": 0}
    step = {**_STEP, "id": "pay", "limits": [decision | {"returned": True, "attempt": 1}]}
    text = printed({**_RUN, "steps": [step], "limits": [decision, parked]})
    assert f"  limits: db of a: place 2, waited 7 ms; passed at {clock(_BEGAN)}" in text
    assert f"  permits returned at {clock(_BEGAN)} while it waits" in text
    assert f"step 'pay', attempt 2: limits: db of a: place 2, waited 7 ms; permits returned at {clock(_BEGAN)}" in text


def test_the_tokens_of_a_run_are_printed() -> None:
    """A run that asked no model has no such line."""
    usage = {"model": "", "input_tokens": 1_200, "output_tokens": 34, "cost_usd": 0.0}
    assert "tokens: 1,200 in, 34 out" in printed({**_RUN, "usage": usage})
    assert "tokens" not in printed({**_RUN, "usage": None})
