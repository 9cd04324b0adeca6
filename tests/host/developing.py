"""`stepstream dev` in the process of a test, for apps of SDKs."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from stepstream.contract.history import HistoryEntry, RunEnded
from stepstream.gateway.sync import polling
from stepstream.host import embedded
from stepstream.host.sdk_apps import Polling
from stepstream.host.settings import Settings


class Reporter:
    """What the developer reads; the port, and the end of each run, can be awaited."""

    def __init__(self) -> None:
        self.lines: asyncio.Queue[str] = asyncio.Queue()
        self.port: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self.ends: asyncio.Queue[RunEnded] = asyncio.Queue()

    def know(self, run_id: str, function: str, started_at: int) -> None:
        """Ignore a run of an earlier process."""

    def show(self, entry: HistoryEntry) -> None:
        """Note the end of a run."""
        if isinstance(entry, RunEnded):
            self.ends.put_nowait(entry)

    def ready(self, port: int) -> None:
        """Note the port."""
        self.port.set_result(port)

    def notice(self, line: str) -> None:
        """Note what happens to an app."""
        self.lines.put_nowait(line)

    def unmatched(self, line: str) -> None:
        """Ignore an event that matched nothing."""

    def draining(self, bodies: int) -> None:
        """Ignore the end."""


@asynccontextmanager
async def serving(folder: Path, urls: list[str], monkeypatch: Any) -> AsyncIterator[Reporter]:
    """Run `stepstream dev` without a file in this process; the block's end is a SIGTERM."""
    stop = asyncio.Event()
    monkeypatch.setattr(polling, "POLL_S", 0.01)
    monkeypatch.setattr(embedded, "stop_on_signals", lambda: stop)
    reporter = Reporter()
    settings = Settings(data_dir=folder, port=0)
    served: asyncio.Future[None] = asyncio.ensure_future(
        embedded.serve(None, settings, reporter, Polling(urls, registered=True))
    )
    waiting: set[asyncio.Future[Any]] = {served, reporter.port}
    await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    try:
        yield reporter
    finally:
        stop.set()
        await served
