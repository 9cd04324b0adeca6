"""The gauge of a list of runs that engines share: the size of its tables in the database."""

import asyncio
from collections.abc import Iterator

from stepstream.runtime.metrics import Reading
from stepstream.runtime.ports import StoreError
from stepstream.runtime.readmodel.index import RunIndex
from stepstream.runtime.readmodel.queries import QueryTooSlow

# Every engine asks, and tables grow slowly.
MEASURE_S = 60.0


class DatabaseGauge:
    """Measures the tables of a list of runs periodically, so that reading the metrics asks no database."""

    def __init__(self, index: RunIndex) -> None:
        self._index = index
        self._readings: list[Reading] = []

    async def measure(self) -> None:
        """Measure until cancelled."""
        while True:
            try:
                size = await self._index.server_bytes()
            except (StoreError, QueryTooSlow):
                # An unknown figure is left out, because an old one would look like a good one.
                size = None
            self._readings = [] if size is None else [Reading("read_model_bytes", (), size)]
            await asyncio.sleep(MEASURE_S)

    def read(self) -> Iterator[Reading]:
        """Return the gauge as last measured; nothing while the database cannot be used."""
        yield from self._readings
