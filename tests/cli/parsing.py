"""Parses command lines as `stepstream` would, without running them; knows every setting that the code reads."""

from collections.abc import Sequence
from dataclasses import fields
from typing import Any

import typer

from stepstream.cli.main import cli, load_command
from stepstream.cli.registry import COMMANDS
from stepstream.host.settings import Settings
from stepstream.runtime.kafka.client.settings import KafkaSettings

# Newer versions of typer carry their own click.
UsageError: Any = typer.BadParameter.__base__
# Some settings are options of the commands alone.
OPTIONS = {
    str(option.envvar) for name in COMMANDS for option in load_command(name).params if getattr(option, "envvar", None)
}
SETTINGS = (
    OPTIONS
    | {f"STEPSTREAM_{field.name.upper()}" for field in fields(Settings)}
    | {f"STEPSTREAM_KAFKA_{field.name.upper()}" for field in fields(KafkaSettings)}
)


def parse(arguments: Sequence[str]) -> str:
    """Parse a command line and return the name of its command; raise UsageError for one that would be refused."""
    command: Any = typer.main.get_command(cli)
    context, rest = None, list(arguments)
    path: list[str] = []
    while hasattr(command, "commands") and not _runs_itself(command, rest):
        context = command.context_class(command, parent=context, info_name="stepstream")
        name, _, rest = command.resolve_command(context, rest)
        command = load_command(name) if not path else command.commands[name]
        path.append(name)
    command.make_context(" ".join(path), rest, parent=context)
    return " ".join(path)


def _runs_itself(group: Any, arguments: Sequence[str]) -> bool:
    """Return whether a group is the command: it can run without one of its commands, and no name of one follows."""
    return bool(group.invoke_without_command) and (not arguments or arguments[0].startswith("-"))
