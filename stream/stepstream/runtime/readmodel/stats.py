"""Statistics of runs: counts by status, steps, retries and timeouts, and the time of each function."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from stepstream.contract.history import (
    HistoryEntry,
    RunBegan,
    RunEnded,
    StepAttemptFailed,
    StepEnded,
    decode_history_record,
)
from stepstream.contract.operators.bulk import BulkChanged
from stepstream.contract.outcomes import TimedOut
from stepstream.runtime.ports import LogRecord


@dataclass(slots=True)
class FunctionStats:
    """The ended runs of a function, and the sum of their durations (ms)."""

    runs: int = 0
    total_ms: int = 0


@dataclass(slots=True)
class RunStats:
    """A read model that has only statistics; its memory is proportional to the open runs."""

    statuses: Counter[str] = field(default_factory=Counter)
    steps: int = 0
    retries: int = 0
    timeouts: int = 0
    functions: dict[str, FunctionStats] = field(default_factory=dict)
    open: dict[str, int] = field(default_factory=dict)
    _positions: dict[tuple[str, int], int] = field(default_factory=dict)

    def position(self, topic: str, partition: int) -> int:
        """Return the offset of the first record that is not folded yet."""
        return self._positions.get((topic, partition), 0)

    def fold(self, records: Sequence[LogRecord]) -> list[HistoryEntry]:
        """Fold records of `history`; return their entries."""
        found = [decode_history_record(record.value) for record in records]
        entries = [entry for entry in found if not isinstance(entry, BulkChanged)]
        for entry in entries:
            self._add(entry)
        for record in records:
            self._positions[record.topic, record.partition] = record.offset + 1
        return entries

    def has_open_runs(self) -> bool:
        """Return whether a run has not ended."""
        return bool(self.open)

    def _add(self, entry: HistoryEntry) -> None:
        match entry:
            case RunBegan():
                self.open[entry.run_id] = entry.start_at
            case RunEnded():
                self.statuses[entry.status] += 1
                stats = self.functions.setdefault(entry.function, FunctionStats())
                stats.runs += 1
                stats.total_ms += max(entry.at - self.open.pop(entry.run_id, entry.at), 0)
            case StepEnded():
                self.steps += 1
                self.timeouts += isinstance(entry.outcome, TimedOut)
            case StepAttemptFailed():
                self.retries += 1
            case _:
                pass
