"""A batch has an end, whatever the log holds, and one that nobody waits for is held back where a commit is dear."""

import time
from collections.abc import Sequence
from typing import Any

import pytest

from stepstream import App, Context, Event, on
from stepstream.contract.limits import RECORDS_PER_BATCH_MAX
from stepstream.runtime.clocks import VirtualClock
from stepstream.runtime.kafka.shard_log import KafkaLog
from stepstream.runtime.ports import LogRecord, NewRecord, StoredRow
from stepstream.runtime.shard import batch
from stepstream.testing import VirtualEngine

app = App("shop")


class Watched:
    """A shard's log that notes how much each commit writes."""

    def __init__(self, log: Any, notes: list[int]) -> None:
        self._log = log
        self._notes = notes

    def __getattr__(self, name: str) -> Any:
        return getattr(self._log, name)

    async def send(self, records: Sequence[NewRecord], rows: Sequence[StoredRow]) -> None:
        """Note, and go on."""
        self._notes.append(len(records) + len(rows))
        await self._log.send(records, rows)


@app.function(on("go"))
async def function(ctx: Context) -> int:
    """Run a step."""
    return await ctx.step.run("number", lambda: int(ctx.event.data["n"]))


async def test_a_batch_that_is_full_leaves_records_to_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    """With room for ten changes a batch, a pile of events that came together is taken by many, each event once."""
    monkeypatch.setattr(batch, "CHANGES_PER_BATCH_MAX", 10)
    commits: list[int] = []
    wrap = lambda name, port: Watched(port, commits) if name.startswith("log") else port  # noqa: E731
    async with VirtualEngine(app, wrap=wrap) as engine:
        await engine.send(*[Event("go", {"n": number}) for number in range(100)])
        assert {run.output for run in engine.runs()} == set(range(100))
    assert len(commits) >= 50
    assert max(commits) <= 20


async def test_records_that_change_nothing_are_committed_with_those_that_do() -> None:
    """Events that nobody wants cost no commit each; when there are many, their places are committed all the same."""
    commits: list[int] = []
    wrap = lambda name, port: Watched(port, commits) if name.startswith("log") else port  # noqa: E731
    async with VirtualEngine(app, wrap=wrap) as engine:
        before = len(commits)
        for number in range(20):
            await engine.send(Event("nobody", {"n": number}))
        assert len(commits) == before
        for number in range(RECORDS_PER_BATCH_MAX):
            await engine.send(Event("nobody", {"n": number}))
        assert commits[before:] == [1]
        await engine.send(Event("go", {"n": 7}))
        assert engine.run().output == 7


class Holding(Watched):
    """A shard's log where a commit is dear: a batch is held back until something comes."""

    async def more(self, limit: int, until_ms: int | None) -> list[LogRecord]:
        """Return what comes next."""
        return list(await self._log.poll(limit, until_ms))


@app.function(on("three"))
async def three(ctx: Context) -> list[str]:
    """Run three steps."""
    return [await ctx.step.run(name, lambda: "done") for name in ("one", "two", "three")]


@pytest.mark.parametrize(("kind", "expected"), [(Holding, 2), (Watched, 5)])
async def test_the_reports_of_a_short_run_share_a_commit_with_its_end(kind: type[Watched], expected: int) -> None:
    """A run that begins is committed at once, for a worker waits; its results are held back until its end is there.

    Where commits are cheap each report has its own: the same run, five commits.
    """
    commits: list[int] = []
    wrap = lambda name, port: kind(port, commits) if name.startswith("log") else port  # noqa: E731
    async with VirtualEngine(app, wrap=wrap) as engine:
        before = len(commits)
        await engine.send(Event("three"))
        assert engine.run().output == ["done"] * 3
        assert len(commits) - before == expected


@app.function(on("nap"))
async def nap(ctx: Context) -> None:
    """Sleep for a while."""
    await ctx.step.sleep("nap", "1h")


async def test_a_batch_is_not_held_back_beyond_a_timer_of_its_own() -> None:
    """A nap is planned, and nothing else comes: the batch that has it is committed when the nap is over, at last."""
    wrap = lambda name, port: Holding(port, []) if name.startswith("log") else port  # noqa: E731
    async with VirtualEngine(app, wrap=wrap) as engine:
        await engine.send(Event("nap"))
        await engine.advance("1h")
        assert engine.run().status == "completed"


class Stream:
    """A feed where something new is there whenever one looks."""

    def take(self, _limit: int) -> list[LogRecord]:
        """Return a record."""
        return [LogRecord("inbox", 0, 0, b"", b"", (), 0)]


@pytest.mark.parametrize(
    ("held_s", "until_ms", "count"), [(-60.0, None, 1), (-60.0, 500, 0), (-60.0, 501, 1), (5.0, None, 0), (5.0, 501, 0)]
)
async def test_a_batch_is_held_back_no_longer_than_its_time(held_s: float, until_ms: int | None, count: int) -> None:
    """Also where records come all the time; and not beyond a timer that is due at `until_ms`, it being 500 ms now."""
    log = KafkaLog(None, VirtualClock(500), 0)  # type: ignore[arg-type]  # As far as it is used.
    log.feed = Stream()  # type: ignore[assignment]  # As above.
    log._polled_at = time.monotonic() - held_s
    assert len(await log.more(500, until_ms)) == count
