"""The commands `pause`, `resume` and `paused` of `stepstream functions` and `stepstream queues`."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any

import typer

from stepstream.cli.client import EngineClient
from stepstream.cli.control.pausing import PauseReason, Until, pause, print_pauses, resume
from stepstream.cli.options import URL_DEFAULT, ApiKey, Url
from stepstream.cli.terminal.console import AsJson, commands


@dataclass(frozen=True, slots=True)
class _Scope:
    """A kind of thing that can be paused: its name, that of many, the arguments that name one, and an example of it.

    `effect` says what a pause does.
    """

    name: str
    plural: str
    arguments: Mapping[str, Any]
    example: str
    effect: str


_SCOPES = (
    _Scope(
        "function",
        "functions",
        {"function": Annotated[str, typer.Argument(metavar="FUNCTION", help="The id of a function.")]},
        "orders.charge",
        "its new runs are accepted, and no run of it gets code to run",
    ),
    _Scope(
        "queue",
        "queues",
        {
            "app": Annotated[str, typer.Argument(metavar="APP", help="The name of an app.")],
            "queue": Annotated[str, typer.Argument(metavar="QUEUE", help="The name of a queue of the app.")],
        },
        "shop gpu",
        "the bodies of its steps that run may end, and no other starts",
    ),
)


def _named(scope: _Scope, command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the arguments that name what it acts on, in place of its `**names`."""
    signature = inspect.signature(command)
    names = [
        inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=annotation)
        for name, annotation in scope.arguments.items()
    ]
    options = [each for each in signature.parameters.values() if each.kind is not inspect.Parameter.VAR_KEYWORD]
    command.__signature__ = signature.replace(parameters=[*names, *options])  # type: ignore[attr-defined]
    return command


def _commands(scope: _Scope) -> typer.Typer:
    """Return the commands of a kind of thing."""
    cli = commands(f"Pause {scope.plural} and resume them.")
    example = f"Example: stepstream {scope.plural}"

    def pause_one(
        until: Until = "",
        why: PauseReason = "",
        url: Url = URL_DEFAULT,
        api_key: ApiKey = "",
        as_json: AsJson = False,
        **names: str,
    ) -> None:
        pause(EngineClient(url, api_key), scope.plural, *names.values(), until=until, why=why, as_json=as_json)

    def resume_one(
        why: PauseReason = "", url: Url = URL_DEFAULT, api_key: ApiKey = "", as_json: AsJson = False, **names: str
    ) -> None:
        resume(EngineClient(url, api_key), scope.plural, *names.values(), why=why, as_json=as_json)

    def list_paused(url: Url = URL_DEFAULT, api_key: ApiKey = "", as_json: AsJson = False) -> None:
        print_pauses(EngineClient(url, api_key), scope.name, as_json=as_json)

    cli.command(
        "pause",
        help=f"Pause a {scope.name}: {scope.effect}.",
        epilog=f"{example} pause {scope.example} --until 2h --why 'payment API is down'",
    )(_named(scope, pause_one))
    cli.command("resume", help=f"Resume a {scope.name} that was paused.", epilog=f"{example} resume {scope.example}")(
        _named(scope, resume_one)
    )
    cli.command("paused", help=f"List the {scope.plural} that are paused.", epilog=f"{example} paused --json")(
        list_paused
    )
    return cli


cli = commands("Pause functions and queues of apps, and resume them.")
for _scope in _SCOPES:
    cli.add_typer(_commands(_scope), name=_scope.plural)
