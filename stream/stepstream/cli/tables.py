"""Runs and steps as tables and lines, for people at a terminal and in pipes."""

import json
import re
import time
from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Column

from stepstream.cli.console import Screen
from stepstream.contract.kinds import OPEN_STEP_STATUSES, RunStatus, StepKind, StepStatus
from stepstream.contract.names import workers_name
from stepstream.contract.wording import duration_text
from stepstream.runtime.readmodel.views import queue_of

# On a terminal; in a pipe nothing is cut.
_RESULT_CHARACTERS_MAX = 80
_DATA_CHARACTERS_MAX = 1_000
_OWN_REFERENCE = re.compile(r"\bevent((?:\.[A-Za-z_]\w*)+)")
Json = Mapping[str, Any]


def clock(at_ms: int) -> str:
    """Return a point in time as local time, or nothing for 0."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at_ms / 1_000)) if at_ms else ""


def print_runs(screen: Screen, runs: Sequence[Json]) -> None:
    """Print runs as a table."""
    rows = [
        (
            run["run_id"],
            run["function"],
            run["status"],
            clock(run["started_at"]),
            duration_text(run["ended_at"] - run["started_at"]) if run["ended_at"] else "",
        )
        for run in runs
    ]
    screen.table((Column("run", no_wrap=True, min_width=26), "function", "status", "started", "took"), rows)


def print_errors(screen: Screen, groups: Sequence[Json]) -> None:
    """Print groups of errors as a table; the id of a group is for the filter `error_group:`."""
    rows = [
        (
            group["id"],
            group["function"],
            group["step"],
            f"{group['name']}: {group['message']}",
            group["failures"],
            group["runs"],
            clock(group["last_at"]),
            group["samples"][0][-8:],
        )
        for group in groups
    ]
    names = ("function", "step", "error", "failures", "failed runs", "last seen", "latest run")
    screen.table((Column("group", no_wrap=True, min_width=12), *names), rows)


def print_run(screen: Screen, run: Json, now_ms: int | None = None) -> None:
    """Print a run with its events, its steps, where it is, and each error with its traceback, once."""
    screen.line((run["run_id"], "bold"), " ", run["function"], " ", (run["status"], "cyan"))
    for event in run["events"]:
        _print_event(screen, event)
    _print_reruns(screen, run)
    if run["status"] == RunStatus.COMPLETED:
        screen.line(f"  output: {_json(run['output'])}")
    for warning in run["warnings"]:
        screen.line(f"  warning: {warning}")
    failed = [step for step in run["steps"] if step["error"]]
    if run["error"]:
        # An error that a step raised and the function did not catch is shown with its traceback below.
        is_of_step = any(step["error"] == run["error"] for step in failed)
        _print_error(screen, "  error", run["error"], with_stack=not is_of_step)
    for line in whereabouts(run, round(time.time() * 1_000) if now_ms is None else now_ms):
        screen.line((f"  {line}", "yellow"))
    if not run["steps"]:
        return
    # What a run waits for is the reason to look at it: a narrow terminal wraps it and hides nothing.
    names = ("step", "kind", "status", "attempts", "waits for", "until", "result")
    rows = [
        (
            step["id"],
            step["kind"],
            f"{step['status']} (copied)" if step["copied"] else step["status"],
            step["attempts"] or "",
            _waits_for(step, run),
            clock(step["until"]) if step["status"] in OPEN_STEP_STATUSES else "",
            _result(step, cut=screen.is_terminal),
        )
        for step in run["steps"]
    ]
    screen.table([Column(name, overflow="fold") for name in names], rows)
    for step in failed:
        _print_error(screen, f"step {step['id']!r} {step['status']}", step["error"])


def _print_reruns(screen: Screen, run: Json) -> None:
    """Print which run this one repeats, from where, who asked for it and why, and which runs repeat it."""
    if rerun := run["rerun"]:
        step, by, why = (rerun.get(name, "") for name in ("step", "by", "why"))
        parts = [f"from step {step!r}" * bool(step), f"by {by}" * bool(by), f"because {why!r}" * bool(why)]
        screen.line(" ".join(["  rerun of", rerun["origin"], *filter(None, parts)]))
    for run_id in run["reruns"]:
        screen.line(f"  repeated by {run_id}")


def _print_event(screen: Screen, event: Json) -> None:
    data = _json(event.get("data", {}))
    if screen.is_terminal and len(data) > _DATA_CHARACTERS_MAX:
        data = f"{data[:_DATA_CHARACTERS_MAX]}… ({len(data):,} characters; --json prints all)"
    screen.line(f"  event: {event['name']}  id {event['id']}  at {clock(event['ts'])}  {data}")


def _waits_for(step: Json, run: Json) -> str:
    """Return what a step waits for; for an event, with the values of the run's own event that it must match."""
    detail = str(step["detail"])
    event, _, condition = detail.partition(" ")
    if step["kind"] != StepKind.WAIT or not condition or not run["events"]:
        return detail
    own = run["events"][0]
    if not condition.startswith(("async.", "event.")) and " " not in condition:
        return f"{event} with {condition} = {_json(_lookup(own, condition))}"
    paths = dict.fromkeys(found[1:] for found in _OWN_REFERENCE.findall(condition))
    values = ", ".join(f"event.{path} = {_json(_lookup(own, path))}" for path in paths)
    return f"{event} if {condition}" + (f" ({values})" if values else "")


def _lookup(value: Any, path: str) -> Any:
    for name in path.split("."):
        value = value.get(name) if isinstance(value, Mapping) else None
    return value


def whereabouts(run: Json, now_ms: int) -> list[str]:
    """Return where an open run is, as far as its steps do not show it, and what to look at."""
    if run["status"] == RunStatus.SCHEDULED:
        return [f"starts at {clock(run['started_at'])}"]
    if run["status"] != RunStatus.RUNNING:
        return []
    if run["retry_at"] > now_ms:
        return [f"the code between steps is retried at {clock(run['retry_at'])}"]
    app, workers = run["app"], run.get("workers", {})
    still = [step for step in run["steps"] if step["status"] in OPEN_STEP_STATUSES]
    lines, queues = list[str](), list[str]()
    for step in still:
        queue = queue_of(step["kind"], step["detail"])
        place = _with_a_worker(workers_name(app, queue), workers)
        if step["status"] == StepStatus.WAITING and queue:
            lines.append(f"{step['id']!r} {place} since {clock(step['first_at'])}")
            queues.append(queue)
        elif step["status"] == StepStatus.RETRYING and step["until"] <= now_ms:
            lines.append(f"the next attempt of {step['id']!r} {place} since {clock(step['until'])}")
            queues.append(queue)
    if not still:
        since = clock(max([run["accepted_at"], run["started_at"], run["retry_at"], *map(_latest, run["steps"])]))
        lines.append(f"no step is open: its code, or the body of a step, {_with_a_worker(app, workers)} since {since}")
        queues.append("")
    return lines + [_running_workers(app, queue, workers) for queue in dict.fromkeys(queues)]


def _with_a_worker(name: str, workers: Mapping[str, int]) -> str:
    waits = f"waits for a worker of {name}"
    return waits if workers.get(name) == 0 else f"runs on a worker of {name}, or waits for one,"


def _running_workers(app: str, queue: str, workers: Mapping[str, int]) -> str:
    name = workers_name(app, queue)
    match workers.get(name):
        case None:
            return f"if that is long ago, check the workers of {name}, their logs, and stepstream_worker_lag_records"
        case 0:
            option = f" --queue {queue}" if queue else ""
            return f"no worker of {name} is running: start one with `stepstream worker FILE{option}`"
        case count:
            return f"running workers of {name}: {count}; see their logs and stepstream_worker_lag_records"


def _latest(step: Json) -> int:
    return max(int(step["first_at"]), int(step["ended_at"]))


def _result(step: Json, *, cut: bool) -> str:
    if step["error"]:
        result = f"{step['error']['name']}: {step['error']['message']}".partition("\n")[0]
    else:
        result = _json(step["output"]) if step["status"] == StepStatus.COMPLETED else ""
    return result[:_RESULT_CHARACTERS_MAX] if cut else result


def _print_error(screen: Screen, what: str, error: Json, *, with_stack: bool = True) -> None:
    screen.line((f"{what}: {error['name']}: {error['message']}", "red"), keep_lines=True)
    if with_stack:
        for line in error["stack"].rstrip().splitlines():
            screen.line(f"    {line}")


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
