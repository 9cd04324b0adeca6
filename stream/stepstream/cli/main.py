"""The command `stepstream`: its options, and its commands, which are loaded when they run or show their help."""

from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from stepstream import __version__
from stepstream.cli.registry import COMMANDS, load
from stepstream.cli.terminal.console import EXIT_USAGE, fail, out
from stepstream.contract.errors import StepstreamError


def load_command(name: str) -> Any:
    """Import the module of a command and return the command, or the group of commands, with all its options."""
    group = typer.main.get_command(load(COMMANDS[name].module).cli)
    return getattr(group, "commands", {}).get(name, group)


class _DeferredCommand(TyperCommand):
    """A command of which only the name and the help line are loaded until it runs."""

    def make_context(self, info_name: str | None, args: list[str], parent: Any = None, **extra: Any) -> Any:
        """Parse the arguments of the real command, which the context then names."""
        assert self.name is not None
        return load_command(self.name).make_context(info_name, args, parent=parent, **extra)


class Commands(TyperGroup):
    """The commands of the registry; an error of ours ends each of them with one sentence and an exit code."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        for name, command in COMMANDS.items():
            self.add_command(_DeferredCommand(name, help=command.help))

    def invoke(self, ctx: Any) -> Any:
        """Run a command."""
        try:
            return super().invoke(ctx)
        except StepstreamError as error:
            raise fail(str(error), EXIT_USAGE) from None


cli = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
)


def _print_version(requested: bool) -> None:
    if requested:
        out.text(f"stepstream {__version__}")
        raise typer.Exit


@cli.callback()
def main_options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Durable functions in Python: run them, send them events, and see what they do."""


def main() -> None:
    """Run the command line."""
    cli()
