"""Stores metadata and scores of runs as log lines of these runs: at most once, like every log line."""

import itertools
import logging
import secrets
from collections.abc import Callable, Sequence

from stepstream.contract.logs import LogLine, StepLogged
from stepstream.gateway.wire.metadata import Metadata, line_text
from stepstream.runtime.ports import LogError, StoreError
from stepstream.runtime.worker.step_logs import Write

logger = logging.getLogger(__name__)
# The loggers of these lines begin with it; the scope follows.
METADATA_LOGGER = "metadata."
_SOURCE_BYTES = 6


class MetadataLog:
    """Writes metadata by `write`; `now_ms` returns the time (Unix ms)."""

    def __init__(self, write: Write, now_ms: Callable[[], int]) -> None:
        self._write = write
        self._now_ms = now_ms
        self._source = secrets.token_hex(_SOURCE_BYTES)
        self._numbers = itertools.count()

    async def add(self, run_id: str, step: str, attempt: int, items: Sequence[Metadata]) -> None:
        """Write items about an attempt of a step, by its hash, or with an empty one about the run."""
        at = self._now_ms()
        lines = (
            LogLine(at, next(self._numbers), "INFO", f"{METADATA_LOGGER}{each.scope}", line_text(each))
            for each in items
        )
        await self._write([StepLogged(run_id, step, attempt, self._source, tuple(lines))])

    async def note(self, run_id: str, step: str, attempt: int, items: Sequence[Metadata]) -> None:
        """Write metadata that came with the result of a step; a failure is logged and does not affect the result."""
        try:
            await self.add(run_id, step, attempt, items)
        except (LogError, StoreError) as error:
            logger.warning("the metadata of a step of run %s is lost: %s", run_id, error)
