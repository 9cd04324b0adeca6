"""The gauges of the data directory: the size of the tables and of the list of runs, and the free space."""

import asyncio
import os
import shutil
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from stepstream.runtime.metrics import Reading
from stepstream.runtime.readmodel.index import RUNS_FILE

MEASURE_S = 15.0
_STORES = ("tables", "read_model")


class DiskGauges:
    """Measures a data directory periodically, in a thread: a slow disk must not hold up the event loop."""

    def __init__(self, data_dir: Path) -> None:
        self._data_dir = data_dir
        self._readings: list[Reading] = []

    async def measure(self) -> None:
        """Measure until cancelled."""
        while True:
            self._readings = await asyncio.to_thread(_measure, self._data_dir)
            await asyncio.sleep(MEASURE_S)

    def read(self) -> Iterator[Reading]:
        """Return the gauges as last measured."""
        yield from self._readings


def _measure(data_dir: Path) -> list[Reading]:
    used = Counter(dict.fromkeys(_STORES, 0))
    for folder, _, names in os.walk(data_dir):
        for name in names:
            # RocksDB deletes files at any time.
            with suppress(OSError):
                used["read_model" if name.startswith(RUNS_FILE) else "tables"] += (Path(folder) / name).stat().st_size
    found = [Reading("disk_used_bytes", (store,), size) for store, size in used.items()]
    with suppress(OSError):
        disk = shutil.disk_usage(data_dir)
        found += [Reading("disk_free_bytes", (), disk.free), Reading("disk_size_bytes", (), disk.total)]
    return found
