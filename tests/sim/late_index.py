"""The read model of a simulated engine: it has no tables until a program asks it for runs, which few programs do."""

import functools
from collections.abc import Sequence
from typing import Any

from stepstream.contract.history import HistoryEntry, decode_history_record
from stepstream.contract.operators.bulk import BulkChanged
from stepstream.runtime.ports import LogRecord
from stepstream.runtime.readmodel.index import RunIndex


class LateIndex:
    """Stands in for a RunIndex in memory: opens one at the first question, and folds the records that came before."""

    def __init__(self) -> None:
        self._before: list[Sequence[LogRecord]] = []
        self._positions: dict[tuple[str, int], int] = {}

    @functools.cached_property
    def _opened(self) -> RunIndex:
        index = RunIndex()
        for records in self._before:
            index.fold(records)
        return index

    def __getattr__(self, name: str) -> Any:
        return getattr(self._opened, name)

    def position(self, topic: str, partition: int) -> int:
        """Return the offset of the first record that was not given to `fold`."""
        return self._positions.get((topic, partition), 0)

    def fold(self, records: Sequence[LogRecord]) -> list[HistoryEntry]:
        """Keep or fold records of a partition of `history`; return their entries of runs."""
        last = records[-1]
        self._positions[last.topic, last.partition] = last.offset + 1
        if self._is_open:
            return self._opened.fold(records)
        self._before.append(records)
        entries = [decode_history_record(record.value) for record in records]
        return [entry for entry in entries if not isinstance(entry, BulkChanged)]

    def close(self) -> None:
        """Close the tables, if there are any."""
        if self._is_open:
            self._opened.close()

    @property
    def _is_open(self) -> bool:
        return "_opened" in vars(self)
