"""Runs and steps as tables and lines, for people at a terminal and in pipes."""

import json
import re
import time
from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Column

from stepstream.cli.terminal.console import Screen
from stepstream.contract.kinds import NOT_STARTED, OPEN_STEP_STATUSES, RunStatus, StepKind, StepStatus
from stepstream.contract.text.waits import read_several
from stepstream.contract.text.wording import duration_text
from stepstream.runtime.readmodel.activity import activities
from stepstream.runtime.readmodel.passed_limits import PassedLimit, passed_sentence
from stepstream.runtime.readmodel.usage import UsageView, usage_text
from stepstream.runtime.readmodel.views import asked_of
from stepstream.runtime.readmodel.why import at_once_text

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
    now_ms = round(time.time() * 1_000)
    rows = [
        (
            run["run_id"],
            run["function"],
            _does(run, now_ms),
            f"waits since {clock(run['accepted_at'])}" if run["status"] in NOT_STARTED else clock(run["started_at"]),
            duration_text(run["ended_at"] - run["started_at"]) if run["ended_at"] else "",
        )
        for run in runs
    ]
    screen.table((Column("run", no_wrap=True, min_width=26), "function", "status", "started", "took"), rows)


def _does(run: Json, now_ms: int) -> str:
    """Return what a run does: its status, or what it waits for and until when."""
    return ", ".join(
        each.state
        + (f" for {each.name}" if each.name else "")
        + (f" {each.word} {clock(each.until)}" if each.until else "")
        for each in activities(run, now_ms)
    )


def print_errors(screen: Screen, groups: Sequence[Json]) -> None:
    """Print groups of errors as a table; the id of a group is for the filter `error_group:`."""
    rows = [
        (
            group["id"],
            group["function"],
            group["step"],
            f"{group['name']}: {group['message']}",
            group["latest_message"] if group["latest_message"] != group["message"] else "",
            group["failures"],
            group["runs"],
            clock(group["last_at"]),
            group["latest_run"][-8:],
        )
        for group in groups
    ]
    names = ("function", "step", "error", "latest message", "failures", "failed runs", "last seen", "latest run")
    screen.table((Column("group", no_wrap=True, min_width=12), *names), rows)


def print_run(screen: Screen, run: Json) -> None:
    """Print a run with its events, its steps, why it is open, and each error with its traceback, once."""
    screen.line((run["run_id"], "bold"), " ", run["function"], " ", (run["status"], "cyan"))
    for event in run["events"]:
        _print_event(screen, event)
    for name in ("attributes", "state"):
        # An engine of an earlier release sends no state.
        _print_values(screen, name, run.get(name, {}))
    _print_reruns(screen, run)
    _print_continuation(screen, run["continuation"] or {})
    if run["status"] == RunStatus.COMPLETED:
        screen.line(f"  output: {_json(run['output'])}")
    if usage := run.get("usage"):
        screen.line(f"  tokens: {usage_text(UsageView(**usage))}")
    _print_decisions(screen, "  ", run)
    for warning in run["warnings"]:
        screen.line(f"  warning: {warning}")
    failed = [step for step in run["steps"] if step["error"]]
    if run["error"]:
        # An error that a step raised and the function did not catch is shown with its traceback below.
        is_of_step = any(step["error"] == run["error"] for step in failed)
        _print_error(screen, "  error", run["error"], with_stack=not is_of_step)
    for line in why_lines(run):
        screen.line((f"  {line}", "yellow"))
    if run["steps"]:
        _print_steps(screen, run, failed)
    if "logs" in run:
        _print_logs(screen, run)


def _print_values(screen: Screen, name: str, values: Json) -> None:
    """Print values by name on one line, if there are any."""
    if values:
        screen.line(f"  {name}: ", ", ".join(f"{each}={_json(value)}" for each, value in values.items()))


def _print_steps(screen: Screen, run: Json, failed: Sequence[Json]) -> None:
    # What a run waits for is the reason to look at it: a narrow terminal wraps it and hides nothing.
    names = ("step", "kind", "status", "attempts", "waits for", "until", "result")
    rows = [
        (
            step["id"],
            asked_of(run["run_id"], step["step"], step["detail"]) or step["kind"],
            _status(step, run),
            step["attempts"] or "",
            _waits_for(step, run),
            clock(step["until"]) if step["status"] in (StepStatus.WAITING, StepStatus.RETRYING) else "",
            _result(step, cut=screen.is_terminal),
        )
        for step in run["steps"]
    ]
    screen.table([Column(name, overflow="fold") for name in names], rows)
    for step in run["steps"]:
        _print_attempts(screen, step)
    for step in failed:
        _print_error(screen, f"step {step['id']!r} {step['status']}", step["error"])


def _status(step: Json, run: Json) -> str:
    """Return the status of a step, and whether its result is from the run that this one reruns."""
    if not step["copied"]:
        return str(step["status"])
    is_edited = step["step"] in (run["rerun"] or {}).get("edited_steps", ())
    return f"{step['status']} ({'edited' if is_edited else 'copied'})"


def _print_attempts(screen: Screen, step: Json) -> None:
    """Print the attempts of a step that failed and were retried."""
    for each in step["failures"]:
        error = f"{each['name']}: {each['message']}"
        times = f"{clock(each['at'])}, next at {clock(each['retry_at'])}"
        screen.line(f"step {step['id']!r}, attempt {each['attempt'] + 1} failed {times}: {error}")

    _print_decisions(screen, f"step {step['id']!r}, ", step)


def _print_decisions(screen: Screen, of: str, decided: Json) -> None:
    """Print the limits that a run or a step has passed; an engine of an earlier release sends none."""
    for each in decided.get("limits", ()):
        attempt = f"attempt {each['attempt'] + 1}: " if each["attempt"] else ""
        screen.line(f"{of}{attempt}{_decision(each)}")


def _decision(decision: Json) -> str:
    """Return which limits were passed, and when, or when permits were returned."""
    if not decision["passed"]:
        return f"permits returned at {clock(decision['at'])} while it waits"
    passed = "; ".join(passed_sentence(PassedLimit(**each)) for each in decision["passed"])
    word = "permits returned" if decision["returned"] else "passed"
    return f"limits: {passed}; {word} at {clock(decision['at'])}"


def _print_logs(screen: Screen, run: Json) -> None:
    """Print what a run logged: the lines of one attempt after the other, below its name."""
    names = {step["step"]: step["id"] for step in run["steps"]}
    groups: dict[tuple[str, int], list[Json]] = {}
    for line in run["logs"]:
        groups.setdefault((line["step"], line["attempt"]), []).append(line)
    if not groups:
        screen.line("no logs: the run logged nothing, or its logs were dropped")
    for (step, attempt), lines in groups.items():
        of = f"of step {names.get(step, step)!r}" if step else "of the code between steps"
        screen.line(f"logs {of}", f", attempt {attempt + 1}" if attempt else "")
        for line in lines:
            first, *rest = line["text"].splitlines() or [""]
            screen.line(f"  {clock(line['at'])} {line['level']} {line['logger']}: {first}")
            for each in rest:
                screen.line(f"    {each}")


def _print_reruns(screen: Screen, run: Json) -> None:
    """Print which run this one reruns, from where, who asked for it and why, what was edited, and its reruns."""
    if rerun := run["rerun"]:
        step, by, why = (rerun.get(name, "") for name in ("step", "by", "why"))
        parts = [f"from step {step!r}" * bool(step), f"by {by}" * bool(by), f"because {why!r}" * bool(why)]
        screen.line(" ".join(["  rerun of", rerun["origin"], *filter(None, parts)]))
        ids = {step["step"]: step["id"] for step in run["steps"]}
        edited = ["the data of the event"] * rerun.get("edited_data", False)
        edited += [f"the result of step {ids.get(step, step)!r}" for step in rerun.get("edited_steps", ())]
        if edited:
            screen.line(f"  edited for this rerun: {', '.join(edited)}")
    for run_id in run["reruns"]:
        screen.line(f"  rerun as {run_id}")


def _print_continuation(screen: Screen, continuation: Json) -> None:
    if origin := continuation.get("from"):
        screen.line(f"  continues {origin}, as number {continuation['number']:,} of the series")
    if successor := continuation.get("to"):
        screen.line(f"  continued by {successor}")


def _print_event(screen: Screen, event: Json) -> None:
    data = _json(event.get("data", {}))
    if screen.is_terminal and len(data) > _DATA_CHARACTERS_MAX:
        data = f"{data[:_DATA_CHARACTERS_MAX]}… ({len(data):,} characters; --json prints all)"
    screen.line(f"  event: {event['name']}  id {event['id']}  at {clock(event['ts'])}  {data}")


def _waits_for(step: Json, run: Json) -> str:
    """Return what a step waits for; for an event, with the values of the run's own event that it must match."""
    detail = str(step["detail"])
    match asked_of(run["run_id"], step["step"], detail):
        case "approval":
            return "a decision"
        case "request":
            return f"a request {step['id']!r}"
    if step["kind"] != StepKind.WAIT or not run["events"]:
        return detail
    words, several = read_several(detail)
    if several:
        return f"{words} " + "; ".join(f"{name}: {_awaited_event(text, run['events'][0])}" for name, text in several)
    return _awaited_event(detail, run["events"][0])


def _awaited_event(text: str, own: Json) -> str:
    event, _, condition = text.partition(" ")
    if not condition:
        return event
    if not condition.startswith(("async.", "event.")) and " " not in condition:
        return f"{event} with {condition} = {_json(_lookup(own, condition))}"
    paths = dict.fromkeys(found[1:] for found in _OWN_REFERENCE.findall(condition))
    values = ", ".join(f"event.{path} = {_json(_lookup(own, path))}" for path in paths)
    return f"{event} if {condition}" + (f" ({values})" if values else "")


def _lookup(value: Any, path: str) -> Any:
    for name in path.split("."):
        value = value.get(name) if isinstance(value, Mapping) else None
    return value


def why_lines(run: Json) -> list[str]:
    """Return why an open run does not continue, what to do, and when a timeout cancels it."""
    heading = at_once_text(why["step"] for why in run["why"])
    lines = [heading] if heading else []
    for why in run["why"]:
        lines.append(why["text"])
        if why["remedy"]:
            lines.append(f"  {why['remedy']}")
    return lines


def _result(step: Json, *, cut: bool) -> str:
    if step["error"]:
        result = f"{step['error']['name']}: {step['error']['message']}".partition("\n")[0]
    else:
        result = _json(step["output"]) if step["status"] == StepStatus.COMPLETED else ""
    if step["heartbeat_at"] and step["status"] in OPEN_STEP_STATUSES:
        said = "heartbeat" if step["progress"] is None else f"progress {_json(step['progress'])}"
        result = "; ".join(filter(None, [f"{said} at {clock(step['heartbeat_at'])}", result]))
    return result[:_RESULT_CHARACTERS_MAX] if cut else result


def _print_error(screen: Screen, what: str, error: Json, *, with_stack: bool = True) -> None:
    screen.line((f"{what}: {error['name']}: {error['message']}", "red"), keep_lines=True)
    if with_stack:
        for line in error["stack"].rstrip().splitlines():
            screen.line(f"    {line}")


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
