"""The pauses of functions and queues in the tables of a shard, and who changed them last."""

from stepstream.engine.state.scope_rows import ScopeChanges
from stepstream.engine.state.tables import SCOPE_CHANGES, SCOPE_PAUSES, scope_of
from stepstream.engine.state.view import View, scan_table
from stepstream.runtime.overview import ScopeChangeView, ScopePauseView


def pause_views(view: View) -> list[ScopePauseView]:
    """Return the pauses of functions and queues."""
    return [
        ScopePauseView(scope_of(key), row.since, row.pause.until, row.pause.by, row.pause.why)
        for key, row in scan_table(view, SCOPE_PAUSES)
    ]


def pause_change_views(view: View, scope: str) -> list[ScopeChangeView]:
    """Return the latest pauses and resumptions of a function or a queue, the newest first."""
    row = view.get(SCOPE_CHANGES.key(b"", scope.encode()))
    return [
        ScopeChangeView(each.at, each.pause is not None, each.pause.until if each.pause else 0, each.by, each.why)
        for each in (row.changes if isinstance(row, ScopeChanges) else ())
    ]
