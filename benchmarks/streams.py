"""Live streams of a `stepstream dev`: their rate, the time to a client and to a page, and the cost of a request."""

import asyncio
import importlib
import shutil
import signal
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.functions import Figure, chosen
from stepstream import Client, StreamClient
from tests.cli.serving import Serving

APP = Path(__file__).with_name("streams_app.py")
MESSAGES, PACED, PAUSE_S, REQUESTS = 50_000, 2_000, 0.005, 500
# The first ones arrive together: they were published before the client knew the run.
_RETAINED = 200


async def _arrivals(url: str, count: int, pause_s: float) -> tuple[list[tuple[int, int]], int]:
    """Return when each message was published and when it arrived (ns), and how long the run took to publish all."""
    async with Client(url) as client, StreamClient(url) as streams:
        handle = await client.start("publish", {"count": count, "pause_s": pause_s})
        seen = [(int(message.data), time.time_ns()) async for message in streams.run(handle.run_id, "times")]
        return seen, int(await handle.result())


def throughput(url: str) -> list[Figure]:
    """Publish as fast as possible, and read all of it by one client."""
    seen, took_ns = asyncio.run(_arrivals(url, MESSAGES, 0))
    assert len(seen) == MESSAGES
    return [
        Figure("messages that one body publishes", MESSAGES / (took_ns / 1e9), "/s"),
        Figure("messages from the first to their client", MESSAGES / ((seen[-1][1] - seen[0][0]) / 1e9), "/s"),
    ]


def latency(url: str) -> list[Figure]:
    """Publish a message every few milliseconds, as a model does, to one client that listens."""
    seen, _ = asyncio.run(_arrivals(url, PACED, PAUSE_S))
    taken = [(arrived - published) / 1e6 for published, arrived in seen[_RETAINED:]]
    return [
        Figure("from publish to the client, median", statistics.median(taken), "ms"),
        Figure("from publish to the client, p99", statistics.quantiles(taken, n=100)[98], "ms"),
    ]


def infer(url: str) -> list[Figure]:
    """Ask a model that answers at once by steps, and by bare calls."""

    async def took_ms(function: str) -> float:
        async with Client(url) as client:
            return int(await client.invoke(function, {"count": REQUESTS}, timeout="5m")) / 1e6 / REQUESTS

    as_steps, bare = asyncio.run(took_ms("infer")), asyncio.run(took_ms("bare"))
    return [
        Figure("a request to a model as a step", as_steps, "ms"),
        Figure("a bare request to the same model", bare, "ms"),
    ]


def browser(url: str) -> list[Figure]:
    """Measure the latency to a page in Chromium: only this needs the packages of the group `browser`."""
    module = importlib.import_module("benchmarks.streams_browser")
    figures: list[Figure] = module.measure(url, PACED, PAUSE_S, _RETAINED)
    return figures


ALL = (throughput, latency, infer, browser)


def main(requested: set[str]) -> Iterator[Figure]:
    """Run the benchmarks against one process."""
    with tempfile.TemporaryDirectory() as folder:
        shutil.copy(APP, folder)
        served = Serving(Path(folder), APP.name)
        served.start()
        try:
            for measure in chosen(ALL, requested):
                yield from measure(served.url)
        finally:
            served.stop(signal.SIGTERM)
