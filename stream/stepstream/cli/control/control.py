"""The commands `stepstream runs rerun`, `pause` and `resume`; this module adds them to the commands of `runs`."""

import json
import secrets
from typing import Annotated, Any

import typer

from stepstream.cli.client import EngineClient, request
from stepstream.cli.control.bulk import (
    CAP_DEFAULT,
    RATE_DEFAULT,
    Cap,
    DryRun,
    Filter,
    Rate,
    RunIdOrFilter,
    Why,
    Yes,
    act_on_many,
    check_target,
)
from stepstream.cli.control.pausing import Until, pause, resume
from stepstream.cli.control.runs import EngineRuns, cli, find_id
from stepstream.cli.options import URL_DEFAULT, ApiKey, Url
from stepstream.cli.terminal.console import EXIT_USAGE, AsJson, fail, out


def _json(text: str, what: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise fail(f"{what}: not valid JSON: {error}", EXIT_USAGE) from None


def _results(options: list[str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for option in options:
        step, equals, text = option.partition("=")
        if not equals:
            raise fail(f"--result {option!r}: expected STEP=JSON", EXIT_USAGE)
        found[step] = _json(text, f"--result {step}")
    return found


@cli.command("rerun", epilog="Example: stepstream runs rerun --filter 'status:failed after:-1h' --from-failure")
def rerun_run(
    run_id: RunIdOrFilter = "",
    filter: Filter = "",
    from_step: Annotated[str, typer.Option(help="Take over the results before this step, given by its id.")] = "",
    from_failure: Annotated[
        bool, typer.Option("--from-failure", help="Take over the results before what failed.")
    ] = False,
    data: Annotated[str, typer.Option(help="JSON object that replaces the data of the event.")] = "",
    result: Annotated[
        list[str] | None, typer.Option(help="STEP=JSON replaces a result that is taken over; may be repeated.")
    ] = None,
    why: Why = "",
    cap: Cap = CAP_DEFAULT,
    rate: Rate = RATE_DEFAULT,
    dry_run: DryRun = False,
    yes: Yes = False,
    url: Url = URL_DEFAULT,
    api_key: ApiKey = "",
    as_json: AsJson = False,
) -> None:
    """Rerun an ended run as a new run, and print its id; or rerun all runs that a filter finds."""
    client = EngineClient(url, api_key)
    check_target(run_id, filter)
    body: dict[str, Any] = {"from_failure": from_failure, "why": why}
    if data:
        body["data"] = _json(data, "--data")
    if not filter:
        _rerun_one(client, run_id, body | {"from_step": from_step, "results": _results(result or [])}, as_json=as_json)
        return
    if from_step or result:
        raise fail("--from-step and --result are for one run; use --from-failure with --filter", EXIT_USAGE)
    body |= {"action": "rerun", "filter": filter, "cap": cap, "rate": rate}
    act_on_many(client, body, dry_run=dry_run, yes=yes, as_json=as_json)


def _rerun_one(client: EngineClient, run_id: str, body: dict[str, Any], *, as_json: bool) -> None:
    # With its own id the request can be sent again without a second run.
    body = {**body, "request_id": secrets.token_hex(8)}
    chosen = find_id(EngineRuns(client), run_id)
    unsure = "The run may have been rerun; see `stepstream runs show` for its reruns"
    answer = request(client, "POST", "v1", "runs", chosen, "rerun", expect="run_id", unsure=unsure, body=body)
    if as_json:
        out.json(answer)
    else:
        out.text(answer["run_id"])


@cli.command("pause", epilog="Example: stepstream runs pause --filter 'function:orders.* status:open' --until 2h")
def pause_run(
    run_id: RunIdOrFilter = "",
    filter: Filter = "",
    until: Until = "",
    why: Why = "",
    cap: Cap = CAP_DEFAULT,
    rate: Rate = RATE_DEFAULT,
    dry_run: DryRun = False,
    yes: Yes = False,
    url: Url = URL_DEFAULT,
    api_key: ApiKey = "",
    as_json: AsJson = False,
) -> None:
    """Pause a run, or all that a filter finds: the bodies of steps that run may end, and nothing else starts."""
    client = EngineClient(url, api_key)
    check_target(run_id, filter)
    if filter:
        body = {"action": "pause", "filter": filter, "until": until, "why": why, "cap": cap, "rate": rate}
        act_on_many(client, body, dry_run=dry_run, yes=yes, as_json=as_json)
    else:
        pause(client, "runs", find_id(EngineRuns(client), run_id), until=until, why=why, as_json=as_json)


@cli.command(
    "resume", epilog="Example: stepstream runs resume --filter 'function:orders.*' --why 'payment API is back'"
)
def resume_run(
    run_id: RunIdOrFilter = "",
    filter: Filter = "",
    why: Why = "",
    cap: Cap = CAP_DEFAULT,
    rate: Rate = RATE_DEFAULT,
    dry_run: DryRun = False,
    yes: Yes = False,
    url: Url = URL_DEFAULT,
    api_key: ApiKey = "",
    as_json: AsJson = False,
) -> None:
    """Resume a run that was paused, or all of those that a filter finds."""
    client = EngineClient(url, api_key)
    check_target(run_id, filter)
    if filter:
        body = {"action": "resume", "filter": filter, "why": why, "cap": cap, "rate": rate}
        act_on_many(client, body, dry_run=dry_run, yes=yes, as_json=as_json)
    else:
        resume(client, "runs", find_id(EngineRuns(client), run_id), why=why, as_json=as_json)
