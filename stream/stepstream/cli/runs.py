"""The commands that look at runs: `stepstream runs list`, `show` and `cancel`."""

import difflib
import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.text import Text

from stepstream.cli.client import EngineApi, NoAnswer, NoUsableUrl, Refused
from stepstream.cli.console import EXIT_FAILED, EXIT_UNREACHABLE, EXIT_USAGE, AsJson, err, fail, out
from stepstream.cli.tables import print_run, print_runs
from stepstream.contract.ids import is_run_id
from stepstream.runtime.readmodel.index import RunIndex, RunStatus

runs_cli = typer.Typer(no_args_is_help=True, help="Look at runs, or cancel one.")

Url = Annotated[str, typer.Option(envvar="STEPSTREAM_URL", help="Where the engine's HTTP API is.")]
ApiKey = Annotated[
    str, typer.Option(envvar="STEPSTREAM_API_KEY", help="The API key, where the engine has one.", show_default=False)
]
DataDir = Annotated[Path | None, typer.Option(help="Read the runs of this directory, without a running engine.")]
RunIdOrTail = Annotated[str, typer.Argument(metavar="RUN_ID", help="The run's id, or how it ends, as `dev` prints it.")]
URL_DEFAULT = "http://127.0.0.1:8288"
_LOOKED_THROUGH = 1_000


def ask(api: EngineApi, method: str, *path: str, want: str, unsure: str = "", **options: Any) -> Any:
    """Return what an engine answers; what goes wrong ends the command with a line and a code."""
    try:
        return api.ask(method, *path, want=want, unsure=unsure, **options)
    except NoUsableUrl as error:
        raise fail(str(error), EXIT_USAGE) from None
    except NoAnswer as error:
        raise fail(str(error), EXIT_UNREACHABLE) from None
    except Refused as error:
        raise fail(str(error), EXIT_FAILED) from None


class _Reading:
    """Runs, from an engine or from a directory."""

    def __init__(self, data_dir: Path | None, api: EngineApi) -> None:
        self._api = api
        self._index = _open_index(data_dir) if data_dir else None

    def list(self, limit: int, **filters: str) -> list[dict[str, Any]]:
        """Return runs, the newest first; a limit of 0 is as many as there may be."""
        if self._index:
            return [asdict(run) for run in self._index.list(limit=limit or -1, **filters)]
        query = {**filters, "limit": min(limit or 1_000, 1_000)}
        found: list[dict[str, Any]] = ask(self._api, "GET", "v1", "runs", want="runs", params=query)["runs"]
        return found

    def show(self, run_id: str) -> dict[str, Any]:
        """Return a run with its steps."""
        if self._index is None:
            run: dict[str, Any] = ask(self._api, "GET", "v1", "runs", run_id, want="run_id")
            return run
        view = self._index.show(run_id)
        if view is None:
            raise fail(f"there is no run {run_id!r}", EXIT_FAILED)
        return asdict(view)

    def id_of(self, text: str) -> str:
        """Return the id of the run that is meant: a whole id, or how one ends."""
        if is_run_id(text):
            return text
        found = [run["run_id"] for run in self.list(2, tail=text.upper())]
        if len(found) > 1:
            raise fail(f"more than one run ends with {text!r}; give more of its id", EXIT_USAGE)
        return found[0] if found else text


def _open_index(data_dir: Path) -> RunIndex:
    path = data_dir / "runs.sqlite"
    if not path.is_file():
        raise fail(f"{data_dir} has no runs; give the --data-dir of `stepstream dev` or `replay`", EXIT_USAGE)
    # Whoever serves it may make it anew.
    return RunIndex(path, keep=True)


@runs_cli.command("list", epilog="Example: stepstream runs list --function fulfil-order --status running")
def list_runs(
    function: Annotated[str, typer.Option(help="Only of this function.")] = "",
    status: Annotated[RunStatus | None, typer.Option(help="Only of this status.")] = None,
    limit: Annotated[int, typer.Option(help="At most so many; with --data-dir 0 lists all.", min=0)] = 50,
    outputs: Annotated[bool, typer.Option("--outputs", help="With --json: all of each run, asked one by one.")] = False,
    data_dir: DataDir = None,
    url: Url = URL_DEFAULT,
    api_key: ApiKey = "",
    as_json: AsJson = False,
) -> None:
    """List runs, the newest first."""
    reading = _Reading(data_dir, EngineApi(url, api_key))
    found = reading.list(limit, function=function, status=status.value if status else "")
    if function and not found:
        _tell_of_near_functions(function, reading.list)
    if not as_json:
        print_runs(out, found)
    elif outputs:
        typer.echo(json.dumps([reading.show(run["run_id"]) for run in found]))
    else:
        typer.echo(json.dumps(found))


def _tell_of_near_functions(function: str, list_: Callable[[int], list[dict[str, Any]]]) -> None:
    """Where no run of a function is listed and others are: say which names there are, the near ones first."""
    names = sorted({run["function"] for run in list_(_LOOKED_THROUGH)})
    if function in names or not names:
        return
    near = difflib.get_close_matches(function, names, 3)
    told = f"did you mean {' or '.join(map(repr, near))}?" if near else f"there are runs of {', '.join(names[:5])}"
    err.print(Text.assemble(("no run", "yellow"), f" of a function {function!r}; {told}"), soft_wrap=True)


@runs_cli.command("show", epilog="Example: stepstream runs show 01KDVDNA00ZP0GFMQQFK8ZDFSF, or FK8ZDFSF alone")
def show_run(
    run_id: RunIdOrTail,
    data_dir: DataDir = None,
    url: Url = URL_DEFAULT,
    api_key: ApiKey = "",
    as_json: AsJson = False,
) -> None:
    """Show a run with its steps, and what it waits for."""
    reading = _Reading(data_dir, EngineApi(url, api_key))
    run = reading.show(reading.id_of(run_id))
    if as_json:
        typer.echo(json.dumps(run))
    else:
        print_run(out, run)


@runs_cli.command("cancel", epilog="Example: stepstream runs cancel 01KDVDNA00ZP0GFMQQFK8ZDFSF")
def cancel_run(run_id: RunIdOrTail, url: Url = URL_DEFAULT, api_key: ApiKey = "", as_json: AsJson = False) -> None:
    """Cancel a run."""
    api = EngineApi(url, api_key)
    unsure = "The run may be cancelled; the same command tells, and does no harm"
    chosen = _Reading(None, api).id_of(run_id)
    answer = ask(api, "DELETE", "v1", "runs", chosen, want="cancelled", unsure=unsure)
    typer.echo(json.dumps(answer) if as_json else "cancelled")
