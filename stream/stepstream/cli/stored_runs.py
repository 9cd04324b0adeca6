"""Runs that are read from a data directory, without an engine."""

import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Any

from stepstream.cli.terminal.console import EXIT_USAGE, fail
from stepstream.host.folder import locked_folder
from stepstream.runtime.readmodel.index import RUNS_FILE, RunIndex
from stepstream.runtime.readmodel.search.filters import Filter, FilterError
from stepstream.runtime.readmodel.tables.logged_lines import LOG_LINES_MAX
from stepstream.runtime.readmodel.why import Surroundings, why_open


class StoredRuns:
    """The runs of a data directory, which another process may be writing."""

    def __init__(self, data_dir: Path) -> None:
        path = data_dir / RUNS_FILE
        if not path.is_file():
            raise fail(f"{data_dir} has no runs; give the --data-dir of `stepstream dev` or `replay`", EXIT_USAGE)
        self._path = path

    def list(self, limit: int, **filters: str) -> list[dict[str, Any]]:
        """Return runs, the newest first; a limit of 0 returns all."""
        try:
            parsed = Filter.parse(filters.pop("filter", ""))
        except FilterError as error:
            raise fail(str(error), EXIT_USAGE) from None
        with closing(self._open()) as index:
            more = {"run_id" if key == "tail" else key: value for key, value in filters.items()}
            return [asdict(run) for run in index.find(parsed.having_all(more), limit)]

    def show(self, run_id: str) -> dict[str, Any] | None:
        """Return a run with its steps; None if there is none."""
        with closing(self._open()) as index:
            view = index.show(run_id)
        if view is None:
            return None
        # Of a folder it is unknown which workers run.
        why = why_open(view, round(time.time() * 1_000), Surroundings())
        return {**asdict(view), "why": [asdict(each) for each in why]}

    def logs(self, run_id: str) -> Sequence[Any]:
        """Return what a run logged, in order of time."""
        with closing(self._open()) as index:
            return [asdict(line) for line in index.logs(run_id, limit=LOG_LINES_MAX)]

    def ended(self, before: int) -> int:
        """Return how many runs ended before a time (Unix ms)."""
        with closing(self._open()) as index:
            return index.ended(before)

    def prune(self, ended_before: int) -> None:
        """Drop the runs that ended before a time (Unix ms); raise SettingsError while a process uses the folder."""
        with locked_folder(self._path.parent), closing(self._open()) as index:
            while index.drop(ended_before):
                pass
            index.compact()

    @property
    def bytes(self) -> int:
        """The size of the file."""
        return self._path.stat().st_size

    def _open(self) -> RunIndex:
        # A file of another version is left to the process that owns it, which may rebuild it.
        return RunIndex(self._path, keep=True)
