"""What `stepstream dev` prints of each entry of history, whatever names users choose."""

import errno
import io

import pytest
from rich.console import Console

from stepstream.cli.terminal.console import Screen
from stepstream.cli.terminal.reporters import HistoryPrinter
from stepstream.contract.events import event_record
from stepstream.contract.history import (
    HistoryEntry,
    RunBegan,
    RunEnded,
    StepAttemptFailed,
    StepEnded,
    StepPlanned,
)
from stepstream.contract.kinds import RunStatus, StepKind
from stepstream.contract.outcomes import ErrorInfo, Failure, Value

ODD = ["page[/x]", "[red]not red[/red]", "C:\\[/red]", "back\\", "[", "plain"]


@pytest.mark.parametrize("text", ODD)
def test_names_and_messages_are_not_markup(text: str) -> None:
    """Ids, names and messages are printed as they are, whatever brackets they contain."""
    lines = printed(text)
    assert len(lines) == 6
    assert all(text in line for line in lines), lines


def test_names_and_messages_cannot_control_the_terminal() -> None:
    """Escape sequences, other line ends and direction marks are escaped; only the first line of a text is printed."""
    lines = printed("a\x1b[2Jb\x9bc\u2028d\u202ee\rf\ng")
    assert len(lines) == 6
    assert all(line.isprintable() for line in lines)
    assert all(r"a\u001b[2Jb\u009bc\u2028d\u202ee\rf" in line for line in lines), lines


def test_output_that_takes_no_more_stops_nothing() -> None:
    """For example a file on a full disk: lines are lost, and the process continues."""

    class FullFile(io.StringIO):
        def write(self, text: str) -> int:
            raise OSError(errno.ENOSPC, f"no space for {text!r}")

    HistoryPrinter(Screen(console=Console(file=FullFile()))).show(
        RunBegan("r", 1, 0, "f", "app", 0, (event_record("go"),))
    )


def printed(text: str) -> list[str]:
    """Return the lines of a run whose names and messages are this text."""
    error = ErrorInfo("ValueError", text)
    entries: list[HistoryEntry] = [
        RunBegan("r", 1, 0, text, "app", 0, (event_record(text),)),
        StepPlanned("r", 2, 0, "s", text, StepKind.WAIT, text, 5),
        StepAttemptFailed("r", 3, 0, "s", text, 0, error, 5),
        StepEnded("r", 4, 0, "s", text, StepKind.RUN, Failure(error)),
        StepEnded("r", 5, 0, "s", text, StepKind.RUN, Value()),
        RunEnded("r", 6, 0, RunStatus.FAILED, text, error=error),
    ]
    out = io.StringIO()
    printer = HistoryPrinter(Screen(console=Console(file=out, width=300)))
    for entry in entries:
        printer.show(entry)
    return out.getvalue().rstrip("\n").split("\n")
