"""Runs that are read from a data directory, without an engine."""

import asyncio
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Any

from stepstream.cli.terminal.console import EXIT_USAGE, fail
from stepstream.contract.errors import InvalidInput
from stepstream.host.folder import locked_folder
from stepstream.host.read_models import open_read_model
from stepstream.host.settings import Settings, settings_from
from stepstream.runtime.readmodel.index import RUNS_FILE, RunIndex
from stepstream.runtime.readmodel.search.filters import Filter, FilterError
from stepstream.runtime.readmodel.tables.logged_lines import LOG_LINES_MAX
from stepstream.runtime.readmodel.why import Surroundings, why_open

_FOLDER = Path(".stepstream")
_NO_SIZE = (
    "the tables of a database do not become smaller when runs are dropped, because new rows use their space again; "
    "give --older-than"
)


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

    def prune(self, ended_before: int, bytes_max: int, /) -> None:
        """Drop runs as RunIndex.drop does; raise SettingsError while a process uses the folder."""
        with locked_folder(self._path.parent), closing(self._open()) as index:
            while index.drop(ended_before, bytes_max):
                pass
            index.compact()

    @property
    def bytes(self) -> int:
        """The size of the file."""
        return self._path.stat().st_size

    def _open(self) -> RunIndex:
        # A file of another version is left to the process that owns it, which may rebuild it.
        return RunIndex(self._path, keep=True)


class SharedRuns:
    """The runs in a PostgreSQL database, which engines may be writing; StoreError if it cannot be used."""

    def __init__(self, url: str) -> None:
        self._settings = Settings(read_model=url)

    def ended(self, before: int) -> int:
        """Return how many runs ended before a time (Unix ms)."""
        with closing(self._open()) as index:
            return index.ended(before)

    def prune(self, ended_before: int, _: int, /) -> None:
        """Drop the runs that ended before a time (Unix ms)."""
        with closing(self._open()) as index:
            while index.drop(ended_before):
                pass

    @property
    def bytes(self) -> int:
        """The size of the tables, with the space of deleted rows."""
        with closing(self._open()) as index:
            return asyncio.run(index.server_bytes()) or 0

    def _open(self) -> RunIndex:
        return open_read_model(self._settings, "")


def pruned_runs(data_dir: Path | None, read_model: str | None, bytes_max: int) -> StoredRuns | SharedRuns:
    """Return the runs of a folder or, if none is given, those of the database that an option or the variable names.

    Raise InvalidInput if the runs of a database are to be dropped by size (0: they are not).
    """
    if data_dir and read_model:
        raise InvalidInput("give either --data-dir or --read-model", "read_model")
    url = "" if data_dir else settings_from(read_model=read_model).read_model
    if not url:
        return StoredRuns(data_dir or _FOLDER)
    if bytes_max:
        raise InvalidInput(_NO_SIZE, "max_bytes")
    return SharedRuns(url)
