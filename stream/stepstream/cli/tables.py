"""Runs and steps as tables and lines, for people at a terminal."""

import json
import time
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from stepstream.contract.names import workers_name
from stepstream.runtime.readmodel.views import queue_of

_MINUTE_MS, _HOUR_MS, _DAY_MS = 60_000, 3_600_000, 86_400_000
_RESULT_CHARACTERS_MAX = 80
Json = Mapping[str, Any]


def clock(at_ms: int) -> str:
    """Return a point in time in local time, or nothing for 0."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at_ms / 1_000)) if at_ms else ""


def duration_text(length_ms: float) -> str:
    """Return a duration in its two largest units: 12.3 s, 5m 3s, 2h 45m, 3d 12h."""
    if length_ms < _MINUTE_MS:
        return f"{length_ms / 1_000:,.1f} s"
    for unit, unit_ms, part, part_ms in (
        ("d", _DAY_MS, "h", _HOUR_MS),
        ("h", _HOUR_MS, "m", _MINUTE_MS),
        ("m", _MINUTE_MS, "s", 1_000),
    ):
        whole, rest = divmod(int(length_ms), unit_ms)
        if whole:
            return f"{whole:,}{unit} {rest // part_ms}{part}"
    return ""


def counted(number: int, noun: str) -> str:
    """Return a number with its noun: 1 function, 2 functions."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def print_runs(console: Console, runs: Sequence[Json]) -> None:
    """Print runs as a table."""
    table = Table(Column("run", no_wrap=True, min_width=26), "function", "status", "started", "took")
    for run in runs:
        took = duration_text(run["ended_at"] - run["started_at"]) if run["ended_at"] else ""
        cells = (run["run_id"], run["function"], run["status"], clock(run["started_at"]), took)
        table.add_row(*map(_plain, cells))
    console.print(table)


def print_run(console: Console, run: Json, now_ms: int | None = None) -> None:
    """Print a run with its steps, where it is, and each error with its stack on lines of its own."""
    head = Text.assemble((run["run_id"], "bold"), " ", run["function"], " ", (run["status"], "cyan"))
    console.print(head, soft_wrap=True)
    if run["status"] == "completed":
        _print(console, f"  output: {json.dumps(run['output'])}")
    for warning in run["warnings"]:
        _print(console, f"  warning: {warning}")
    if run["error"]:
        _print_error(console, "  error", run["error"])
    for line in whereabouts(run, round(time.time() * 1_000) if now_ms is None else now_ms):
        _print(console, f"  {line}", style="yellow")
    if not run["steps"]:
        return
    # What a run waits for and until when is why one looks: a narrow terminal breaks it over lines and hides nothing.
    names = ("step", "kind", "status", "attempts", "waits for", "until", "result")
    table = Table(*(Column(name, overflow="fold") for name in names))
    for step in run["steps"]:
        until = clock(step["until"]) if step["status"] in ("waiting", "retrying") else ""
        cells = (step["id"], step["kind"], step["status"], step["attempts"] or "", step["detail"], until, _result(step))
        table.add_row(*map(_plain, cells))
    console.print(table)
    for step in run["steps"]:
        if step["error"]:
            _print_error(console, f"step {step['id']!r} {step['status']}", step["error"])


def whereabouts(run: Json, now_ms: int) -> list[str]:
    """Return where a run is that has not ended, as far as its steps alone do not tell, and where to look."""
    if run["status"] == "scheduled":
        return [f"it starts at {clock(run['started_at'])}"]
    if run["status"] != "running":
        return []
    if run["retry_at"] > now_ms:
        return [f"its code is tried again at {clock(run['retry_at'])}"]
    app, workers = run["app"], run.get("workers", {})
    still = [step for step in run["steps"] if step["status"] in ("waiting", "retrying")]
    told, queues = list[str](), list[str]()
    for step in still:
        queue = queue_of(step["kind"], step["detail"])
        place = _with_a_worker(workers_name(app, queue), workers)
        if step["status"] == "waiting" and queue:
            told.append(f"{step['id']!r} {place} since {clock(step['first_at'])}")
            queues.append(queue)
        elif step["status"] == "retrying" and step["until"] <= now_ms:
            told.append(f"the next attempt of {step['id']!r} {place} since {clock(step['until'])}")
            queues.append(queue)
    if not still:
        since = clock(max([run["accepted_at"], run["started_at"], run["retry_at"], *map(_latest, run["steps"])]))
        told.append(f"no step is open: its code, or a step's body, {_with_a_worker(app, workers)} since {since}")
        queues.append("")
    return told + [_workers_up(app, queue, workers) for queue in dict.fromkeys(queues)]


def _with_a_worker(name: str, workers: Mapping[str, int]) -> str:
    waits = f"waits for a worker of {name}"
    return waits if workers.get(name) == 0 else f"is with a worker of {name}, or waits for one,"


def _workers_up(app: str, queue: str, workers: Mapping[str, int]) -> str:
    name = workers_name(app, queue)
    match workers.get(name):
        case None:
            return f"if that is long: is a worker of {name} up? Its log and stepstream_worker_lag_records tell"
        case 0:
            option = f" --queue {queue}" if queue else ""
            return f"no worker of {name} is up: start one by `stepstream worker FILE{option}`"
        case up:
            return f"workers of {name} that are up: {up}; their logs and stepstream_worker_lag_records tell more"


def _latest(step: Json) -> int:
    return max(int(step["first_at"]), int(step["ended_at"]))


def _result(step: Json) -> str:
    if step["error"]:
        return f"{step['error']['name']}: {step['error']['message']}".partition("\n")[0][:_RESULT_CHARACTERS_MAX]
    return json.dumps(step["output"])[:_RESULT_CHARACTERS_MAX] if step["status"] == "completed" else ""


def _print_error(console: Console, what: str, error: Json) -> None:
    _print(console, f"{what}: {error['name']}: {error['message']}", style="red")
    for line in error.get("stack", "").rstrip().splitlines():
        _print(console, f"    {line}")


def _print(console: Console, line: str, style: str = "") -> None:
    # Texts of users are no markup of ours.
    console.print(Text(line, style), soft_wrap=True)


def _plain(cell: object) -> Text:
    return Text(str(cell))
