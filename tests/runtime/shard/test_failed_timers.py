"""A timer that cannot be applied becomes a dead letter and fires again later; it holds up nothing."""

import itertools
from typing import Any

import pytest
from msgspec.structs import replace

from stepstream import App, Context, Event, cron, on
from stepstream.contract.functions import CronTrigger
from stepstream.contract.limits import MINUTE_MS
from stepstream.contract.topics import DEAD_LETTERS
from stepstream.engine.runs import admission
from stepstream.engine.runs.failed_timers import retried
from stepstream.engine.state.records import ShardOpened, Tick
from stepstream.engine.state.rows import Timer, TimerKind
from stepstream.engine.state.tables import encode_row, timer_due, timer_key
from stepstream.engine.transition import due_timers, transition
from stepstream.runtime.ports import LogRecord
from stepstream.runtime.shard import loop
from stepstream.runtime.shard.tables import StoreView
from stepstream.runtime.storage.journal import MemoryStore
from stepstream.testing import VirtualEngine
from tests.runtime.shard.crons import HOUR, WORK, YEAR, apply, due_times

app = App("shop")


@app.function(cron("*/5 * * * *"))
async def every_five_minutes(ctx: Context) -> None:
    """Run by cron only."""


@app.function(on("go"))
async def sleeping(ctx: Context) -> None:
    """Sleep twice at the same time."""
    await ctx.group.parallel(ctx.step.sleep("short", "1m"), ctx.step.sleep("long", "90m"))


def dead_letters(engine: VirtualEngine) -> list[LogRecord]:
    """Return the dead letters of an engine."""
    return engine.journal.read(DEAD_LETTERS, 0, 0, 1_000)


def failing(monkeypatch: pytest.MonkeyPatch, kind: TimerKind, times: int) -> None:
    """Let the next ticks of a kind of timer fail."""
    left = itertools.count(1)

    def fail(view: Any, record: Any, now: int, **place: Any) -> Any:
        if (
            isinstance(record, Tick)
            and (timer := view.get(record.timer))
            and timer.kind is kind
            and next(left) <= times
        ):
            raise ValueError("a bug")
        return transition(view, record, now, **place)

    monkeypatch.setattr(loop, "transition", fail)


async def test_cron_fires_again_after_a_failed_tick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its time is kept, and fires late; the times after it fire as usual."""
    async with VirtualEngine(app) as engine:
        await engine.advance("6m")
        with monkeypatch.context() as patched:
            patched.setattr(admission, "ZoneInfo", dict[str, object]().__getitem__)
            await engine.advance("5m")
        await engine.advance("50m")
        starts = sorted(61 - (engine.now_ms - run.started_at) // MINUTE_MS for run in engine.runs("every-five-minutes"))
        assert starts == [5, 12, *range(15, 61, 5)]
        (found, *_) = dead_letters(engine)
        assert dict(found.headers)["stepstream-reason"] == b"KeyError: 'UTC'"


async def test_unknown_time_zone_affects_only_its_trigger() -> None:
    """A worker has newer time zones than the engine: the dead letter of the trigger has the reason."""
    mars = App("mars")

    @mars.function(CronTrigger("* * * * *", "Mars/Olympus"), cron("*/5 * * * *"), on("go"))
    async def function(ctx: Context) -> str:
        return ctx.event.name

    async with VirtualEngine(mars) as engine:
        await engine.send(Event("go"))
        await engine.advance("11m")
        assert [run.output for run in engine.runs("function")] == ["go", "stream/cron", "stream/cron"]
        (found,) = dead_letters(engine)
        assert b"No time zone found with key Mars/Olympus" in (dict(found.headers)["stepstream-reason"] or b"")


def test_opening_a_shard_computes_a_cron_whose_time_zone_was_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    """An engine with newer time zones fires the trigger at its next time, and not for the time until then."""
    store = MemoryStore()
    with monkeypatch.context() as patched:
        patched.setattr(admission, "ZoneInfo", dict[str, object]().__getitem__)
        apply(store, WORK, now=1)
        apply(store, ShardOpened(), now=2)
    for timer, _ in list(due_timers(StoreView(store), HOUR // 2)):
        apply(store, Tick(timer), HOUR // 2)
    assert due_times(store) == (HOUR, YEAR)
    assert not apply(store, ShardOpened(), HOUR // 2)


async def test_failing_timer_delays_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that fails for an hour is tried less and less often, and fires once the cause is gone."""
    failing(monkeypatch, TimerKind.STEP, 7)
    async with VirtualEngine(app) as engine:
        await engine.send(Event("go"))
        await engine.advance("80m")
        assert len(engine.runs("every-five-minutes")) == 16
        assert 4 <= len(dead_letters(engine)) <= 7
        await engine.advance("5h")
        assert engine.run("sleeping").status == "completed"
        assert len(dead_letters(engine)) == 7


async def test_failed_timer_does_not_end_a_later_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pause whose end failed is replaced by a longer one: the retry does not end that."""
    failing(monkeypatch, TimerKind.PAUSE, 1)
    async with VirtualEngine(app) as engine:
        await engine.send(Event("go"))
        run_id = engine.run("sleeping").run_id
        await engine.pause(run_id, until="1m")
        await engine.advance("61s")
        await engine.resume(run_id)
        await engine.pause(run_id, until="2h")
        await engine.advance("119m")
        assert engine.run("sleeping").status == "running"
        await engine.advance("1m")
        assert engine.run("sleeping").status == "completed"


def test_periods_of_retries_double() -> None:
    """They begin at full periods, so timers that replace the same one have one key in the end; others never."""
    due = 1_000_000 * 64 * MINUTE_MS
    key, timer = timer_key(due, plain := Timer(TimerKind.CRON, "work", "0")), plain
    minutes = []
    for _ in range(9):
        key, timer = retried(key, timer, timer_due(key))
        minutes.append((timer_due(key) - due) // MINUTE_MS)
    assert minutes == [1, 2, 4, 8, 16, 32, 64, 128, 192]
    again, _ = retried(timer_key(due, plain), plain, due + 130 * MINUTE_MS)
    other, _ = retried(timer_key(due + 1, plain), plain, due + 130 * MINUTE_MS)
    assert (again == key, other == key) == (True, False)


def test_opening_a_shard_sets_a_missing_timer_of_a_cron() -> None:
    """An engine of an earlier release deleted the timer when its tick failed."""
    store = MemoryStore()
    apply(store, WORK, now=1)
    ((timer, _),) = due_timers(StoreView(store), HOUR)
    store.write([(timer.encode(), None)], 0)
    assert apply(store, ShardOpened(), 3 * HOUR) == 1
    apply(store, Tick(timer), 3 * HOUR)
    assert due_times(store)[0] == 4 * HOUR


def test_failed_timer_of_a_cron_that_changed_does_nothing() -> None:
    """The function has fewer triggers now, and fires later."""
    store = MemoryStore()
    apply(store, replace(WORK, triggers=(CronTrigger("0 2 * * *"),)), now=1)
    for index in ("0", "1"):
        timer = Timer(TimerKind.CRON, "work", index)
        key, timer = retried(timer_key(HOUR, timer), timer, HOUR)
        store.write([(key.encode(), encode_row(timer))], 0)
        assert apply(store, Tick(key), HOUR + MINUTE_MS) == 1
    assert due_times(store) == (2 * HOUR,)
