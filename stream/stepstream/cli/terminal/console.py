"""What all commands share: printing, exit codes, common options, and how an error is reported.

Commands print through `out` and `err` only. They escape what could control a terminal, and when the output is a pipe or
a file they neither wrap lines nor cut values.
"""

import json
import sys
from collections.abc import Sequence
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from stepstream.contract.text.printable import printable

EXIT_FAILED, EXIT_USAGE, EXIT_UNREACHABLE = 1, 2, 3
# A table is as wide as its content, and never wider than this; in a pipe there is no reason to wrap.
_PIPE_COLUMNS = 100_000

BY_VARIABLES = "Most options can also be set by a variable, such as STEPSTREAM_DATA_DIR; docs/settings.md lists them."
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")]
Part = str | tuple[str, str]


class Screen:
    """Prints lines to a standard stream or another console. A line consists of parts: text, with or without a style."""

    def __init__(self, *, stderr: bool = False, console: Console | None = None) -> None:
        stream = sys.stderr if stderr else sys.stdout
        width = None if stream.isatty() else _PIPE_COLUMNS
        self.console = console or Console(stderr=stderr, width=width)
        self._stderr = stderr

    @property
    def is_terminal(self) -> bool:
        """Whether a person reads the output, so that values may be cut."""
        return self.console.is_terminal

    def line(self, *parts: Part, keep_lines: bool = False) -> None:
        """Print one line; `keep_lines` keeps line feeds inside the parts."""
        texts = ((part, "") if isinstance(part, str) else part for part in parts)
        line = Text.assemble(*((printable(text, keep_lines=keep_lines), style) for text, style in texts))
        self.console.print(line, soft_wrap=True)

    def text(self, text: str) -> None:
        """Print text of several lines as it is, without styles."""
        typer.echo(printable(text, keep_lines=True), err=self._stderr)

    def json(self, value: Any, *, indent: int | None = None) -> None:
        """Print a value as JSON: in ASCII on one line for scripts, or indented for people."""
        self.text(json.dumps(value, indent=indent, ensure_ascii=indent is None))

    def table(self, columns: Sequence[str | Column], rows: Sequence[Sequence[object]], title: str = "") -> None:
        """Print a table."""
        table = Table(*columns, title=title or None)
        for row in rows:
            table.add_row(*(Text(printable(str(cell))) for cell in row))
        self.console.print(table)


out = Screen()
err = Screen(stderr=True)


def commands(help: str = "") -> typer.Typer:
    """Return an empty group of commands with the options that all groups share."""
    return typer.Typer(
        help=help,
        no_args_is_help=True,
        add_completion=False,
        rich_markup_mode="rich",
        pretty_exceptions_enable=False,
    )


def fail(message: str, code: int) -> typer.Exit:
    """Print an error and return the exit to raise."""
    err.line(("error:", "red"), " ", message, keep_lines=True)
    return typer.Exit(code)
