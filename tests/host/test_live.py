"""The terminal's view prints whatever users call their things."""

import io

import pytest
from rich.console import Console

from stepstream.cli.live import LiveView
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
def test_names_and_messages_are_no_markup(text: str) -> None:
    """Ids, names and messages are printed letter by letter, whatever brackets they have."""
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
    view = LiveView(Console(file=out, width=300))
    for entry in entries:
        view.show(entry)
    lines = out.getvalue().splitlines()
    assert len(lines) == len(entries)
    assert all(text in line for line in lines), lines
