"""Batches are bounded, and one that nothing waits for is delayed where a commit is expensive."""

import asyncio
import time
from typing import Any

import pytest

from stepstream import App, Context, Event, on
from stepstream.contract import limits
from stepstream.contract.limits import RECORDS_PER_BATCH_MAX
from stepstream.engine.state.tables import TIMERS
from stepstream.runtime.clocks import VirtualClock
from stepstream.runtime.kafka.shards.shard_log import KafkaLog
from stepstream.runtime.ports import LogRecord
from stepstream.runtime.shard import batch
from stepstream.runtime.shard.tables import StoreView
from stepstream.testing import VirtualEngine
from tests.fakes.cluster import FakeCluster
from tests.fakes.shard_log import FakeLogs

app = App("shop")


@app.function(on("go"))
async def function(ctx: Context) -> int:
    """Run a step."""
    return await ctx.step.run("number", lambda: int(ctx.event.data["n"]))


async def test_full_batch_leaves_records_to_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    """With ten changes per batch, 100 events that arrive together take many batches, and each starts one run."""
    monkeypatch.setattr(batch, "CHANGES_PER_BATCH_MAX", 10)
    logs = FakeLogs()
    async with VirtualEngine(app, wrap=logs) as engine:
        await engine.send(*[Event("go", {"n": number}) for number in range(100)])
        assert {run.output for run in engine.runs()} == set(range(100))
    assert len(logs.sizes) >= 50
    assert max(logs.sizes) <= 20


@pytest.mark.parametrize("changes_max", [limits.CHANGES_PER_BATCH_MAX, 10], ids=["one batch", "small batches"])
async def test_timers_are_read_when_they_fire(changes_max: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A shard with 800 timers reads about two rows for each that fires, however many fire in one batch."""
    monkeypatch.setattr(batch, "CHANGES_PER_BATCH_MAX", changes_max)
    read = 0
    scan = StoreView.scan

    def counting(view: StoreView, table: bytes, part: bytes, limit: int = 0, after: bytes = b"") -> Any:
        nonlocal read
        found = scan(view, table, part, limit, after)
        read += len(found) if table == TIMERS.prefix and limit != 1 else 0
        return found

    monkeypatch.setattr(StoreView, "scan", counting)
    async with VirtualEngine(sleepers) as engine:
        await engine.send(Event("sleep"))
        for fired, duration in ((1, "1m"), (10, "1m"), (800 - 11, "1h")):
            passes, read = -(-10 * fired // changes_max), 0
            await engine.advance(duration)
            assert fired <= read <= 2 * fired + 16 * (passes + 1), f"{read} rows for {fired} timers"
        assert engine.run().output == 800


sleepers = App("sleepers")


@sleepers.function(on("sleep"))
async def sleeping(ctx: Context) -> int:
    """Sleep 800 times at once: one wakes after a minute, ten after two, all others after an hour."""
    minutes = [1, *[2] * 10, *[30] * (800 - 11)]
    await asyncio.gather(*[ctx.step.sleep(f"nap {n}", f"{minute}m") for n, minute in enumerate(minutes)])
    return len(minutes)


async def test_records_that_change_nothing_share_a_commit() -> None:
    """Events without an effect cost no commit each; the offsets of many of them are committed together."""
    logs = FakeLogs()
    async with VirtualEngine(app, wrap=logs) as engine:
        before = len(logs.sizes)
        for number in range(20):
            await engine.send(Event("unmatched", {"n": number}))
        assert len(logs.sizes) == before
        for number in range(RECORDS_PER_BATCH_MAX):
            await engine.send(Event("unmatched", {"n": number}))
        assert logs.sizes[before:] == [1]
        await engine.send(Event("go", {"n": 7}))
        assert engine.run().output == 7


@app.function(on("three"))
async def three(ctx: Context) -> list[str]:
    """Run three steps."""
    return [await ctx.step.run(name, lambda: "done") for name in ("one", "two", "three")]


@pytest.mark.parametrize(("delays", "expected"), [(True, 2), (False, 5)])
async def test_reports_of_a_short_run_share_a_commit_with_its_end(delays: bool, expected: int) -> None:
    """The start of a run is committed at once, since a worker waits for it; its results are delayed until its end.

    Where commits are cheap, each report has its own: five commits for the same run.
    """
    logs = FakeLogs(delays_batches=delays)
    async with VirtualEngine(app, wrap=logs) as engine:
        before = len(logs.sizes)
        await engine.send(Event("three"))
        assert engine.run().output == ["done"] * 3
        assert len(logs.sizes) - before == expected


@app.function(on("nap"))
async def nap(ctx: Context) -> None:
    """Sleep."""
    await ctx.step.sleep("nap", "1h")


async def test_batch_is_not_delayed_beyond_its_own_timer() -> None:
    """The batch that plans a sleep is committed when the sleep is over, even if nothing else arrives."""
    async with VirtualEngine(app, wrap=FakeLogs(delays_batches=True)) as engine:
        await engine.send(Event("nap"))
        await engine.advance("1h")
        assert engine.run().status == "completed"


class EndlessFeed:
    """A feed that always has another record."""

    def take(self, _limit: int) -> list[LogRecord]:
        """Return a record."""
        return [LogRecord("inbox", 0, 0, b"", b"", (), 0)]


@pytest.mark.parametrize(
    ("delayed_s", "until_ms", "count"),
    [(-60.0, None, 1), (-60.0, 500, 0), (-60.0, 501, 1), (5.0, None, 0), (5.0, 501, 0)],
)
async def test_batch_is_delayed_no_longer_than_its_time(delayed_s: float, until_ms: int | None, count: int) -> None:
    """Also if records arrive continuously, and never beyond a timer that is due at `until_ms`; it is 500 ms now."""
    log = KafkaLog(FakeCluster(), VirtualClock(500), 0, 8)
    log.feed = EndlessFeed()  # type: ignore[assignment]  # As far as it is used.
    log._polled_at = time.monotonic() - delayed_s
    assert len(await log.more(500, until_ms)) == count
