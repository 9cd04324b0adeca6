"""Cancels all open runs of a function, also those that start meanwhile."""

import time
from collections.abc import Iterator

from stepstream.cli.client import EngineClient, Refused, request
from stepstream.contract.kinds import OPEN_RUN_STATUSES

_PAGE = 1_000
# After this many looks in a row at which the list has nothing new, the command ends.
_UNCHANGED_MAX = 25


def open_runs(client: EngineClient, function: str) -> Iterator[str]:
    """Yield the ids of the open runs of a function, the newest of each status first."""
    for status in OPEN_RUN_STATUSES:
        before, more = "", True
        while more:
            query = {"function": function, "status": status.value, "before": before, "limit": _PAGE}
            page = request(client, "GET", "v1", "runs", expect="runs", query=query)["runs"]
            yield from (str(run["run_id"]) for run in page)
            more = len(page) == _PAGE
            before = str(page[-1]["run_id"]) if more else ""


def cancel_runs(client: EngineClient, function: str, pause_s: float = 0.2) -> int:
    """Cancel the open runs of a function until none is listed; return how many were cancelled.

    The list lags behind: while it still has runs that were cancelled, it may lack those that they started.
    """
    cancelled, seen, unchanged = 0, set[str](), 0
    while unchanged < _UNCHANGED_MAX and (listed := list(open_runs(client, function))):
        found = [run_id for run_id in listed if run_id not in seen]
        unchanged = 0 if found else unchanged + 1
        if not found:
            time.sleep(pause_s)
        seen.update(found)
        for run_id in found:
            try:
                client.request("DELETE", "v1", "runs", run_id, expect="cancelled")
            except Refused:
                continue  # It has ended meanwhile.
            cancelled += 1
    return cancelled
