"""What people at a terminal read about a run."""

import io
from typing import Any

from rich.console import Console

from stepstream.host.showing import print_run

_STEP: dict[str, Any] = {
    "id": "captured",
    "kind": "wait",
    "status": "waiting",
    "attempts": 0,
    "detail": "payments/captured data.order_id",
    "until": 1_795_482_469_000,
    "error": None,
    "output": None,
}
_RUN = {"run_id": "0" * 26, "function": "pay", "status": "running", "warnings": [], "error": None, "steps": [_STEP]}


def test_a_narrow_terminal_hides_nothing_of_what_a_step_waits_for() -> None:
    """In 60 columns the name of the event and the time are broken over lines, and all of them is there."""
    text = io.StringIO()
    print_run(Console(file=text, width=60), _RUN)
    assert "…" not in text.getvalue()
    rows = [line.split("│")[1:-1] for line in text.getvalue().splitlines() if "│" in line]
    assert "".join(row[4].strip() for row in rows) == "payments/captureddata.order_id"
