"""What `stepstream dev` exports: the gauges of the engine and of the worker, in one process."""

import asyncio
import json
import threading
from datetime import timedelta
from pathlib import Path

import pytest

from stepstream import App, Context, Event, on
from stepstream.contract.codec import load_json
from stepstream.contract.history import HistoryEntry, RunEnded
from stepstream.contract.limits import DAY_MS
from stepstream.host.embedded import running_engine
from stepstream.host.monitoring.versions import build_info
from stepstream.host.replaying import Replaying
from stepstream.host.settings import Settings
from stepstream.sdk.event import to_record
from tests.runtime.exposition import Scrape

REPLAYED_MS = 1_357_000_000_000  # 2013-01-01T00:26:40Z


async def test_one_process_has_the_gauges_of_both(tmp_path: Path) -> None:
    """An idle process is ready, nothing lags, no slot is in use, and the run is counted once."""
    app = App("shop")

    @app.function(on("go"))
    async def work(ctx: Context) -> int:
        await ctx.publish("state", "begins")
        return await ctx.step.run("one", lambda: 1)

    async with running_engine(app, Settings(data_dir=tmp_path, version="v3"), lambda _: None) as (
        engine,
        _,
        _,
        metrics,
    ):
        await engine.send([to_record(Event("go"))])
        await engine.until_idle()
        scrape = Scrape(metrics.text().decode())
        assert scrape.sum("stepstream_ready") == 1
        assert scrape.values("stepstream_shard_serving") == [({"shard": "0"}, 1)]
        lags = {labels["topic"]: value for labels, value in scrape.values("stepstream_input_lag_records", shard="0")}
        # The event about the run's end starts nothing; the position of such an event is committed within a second.
        assert lags.pop("events") <= 1
        assert lags == {"inbox": 0, "functions": 0, "history": 0}
        assert scrape.values("stepstream_worker_lag_records") == [({"app": "shop", "partition": "0"}, 0)]
        assert scrape.sum("stepstream_worker_slots", app="shop") > 0
        assert scrape.sum("stepstream_worker_slots_in_use", app="shop") == 0
        assert scrape.sum("stepstream_runs_ended_total", function="work", status="completed") == 1
        assert scrape.sum("stepstream_worker_step_attempts_total", function="work", outcome="value") == 1
        assert scrape.values("stepstream_live_messages_published_total") == [({}, 1)]
        assert scrape.values("stepstream_live_messages_failed_total") == [({}, 0)]
        (labels, _) = scrape.values("stepstream_build_info")[0]
        assert (labels["app"], labels["app_version"]) == ("shop", "v3")


@pytest.mark.parametrize(("retention", "kept"), [("", 3), ("90d", 2), ("1d", 2), ("never", 3)])
async def test_replayed_runs_stay_listed_unless_an_age_is_set(retention: str, kept: int, tmp_path: Path) -> None:
    """A replay may take in a year: none of its runs is dropped as too old unless an age was set, also 90 days."""
    app = App("shop")

    @app.function(on("go"))
    async def work(_: Context) -> None:
        pass

    day, state = tmp_path / "day.jsonl", tmp_path / "state"
    lines = [{"name": "go", "ts": REPLAYED_MS + after_ms} for after_ms in (0, 100 * DAY_MS)]
    day.write_text("\n".join(map(json.dumps, lines)))
    await Replaying(app, day, state, lambda _: None).run()
    async with running_engine(app, Settings(data_dir=state, retention=retention), lambda _: None) as parts:
        await parts.engine.send([to_record(Event("go"))])
        await parts.engine.until_idle()
        while parts.runs.prune():
            pass
        assert parts.runs.counts() == {"completed": kept}


async def test_time_continues_from_the_end_of_a_replay(tmp_path: Path) -> None:
    """What waits at the end of a recorded day still waits when its state is served, now and later."""
    app = App("shop")

    @app.function(on("go"))
    async def work(ctx: Context) -> None:
        await ctx.step.sleep("long", "30d")

    day, state = tmp_path / "day.jsonl", tmp_path / "state"
    day.write_text(json.dumps({"name": "go", "ts": REPLAYED_MS}))
    await Replaying(app, day, state, lambda _: None, 2 * DAY_MS).run()
    times: list[int] = []
    for _ in range(2):
        async with running_engine(app, Settings(data_dir=state), lambda _: None) as (engine, _, runs, _):
            await engine.until_idle()
            assert runs.counts() == {"running": 1}
            times.append(engine.clock.now_ms())
    first, second = (time_ms - REPLAYED_MS - 2 * DAY_MS for time_ms in times)
    assert 0 <= first <= second < DAY_MS


def test_workers_of_a_queue_have_their_own_name() -> None:
    """They may run another image than the workers of the app, so that theirs is not a second version of the app."""
    app, settings = App("shop", queues=["gpu"]), Settings(version="v3")
    (reading,) = build_info(app, settings, "shop.gpu")
    assert reading.labels[1:] == ("shop.gpu", "v3")


async def test_all_retries_follow_after_one_interval(tmp_path: Path) -> None:
    """It takes the place of the back-offs of a step and of the code between steps."""
    app, attempts, ended = App("shop"), list[str](), asyncio.Event()

    def attempt(of: str) -> None:
        attempts.append(of)
        if attempts.count(of) == 1:
            raise ValueError(of)

    @app.function(on("go"), backoff="1h")
    async def work(ctx: Context) -> None:
        await ctx.step.options(backoff="2h").run("flaky", attempt, "step")
        attempt("code")

    def watch(entry: HistoryEntry) -> None:
        if isinstance(entry, RunEnded):
            ended.set()

    async with running_engine(app, Settings(data_dir=tmp_path), watch, timedelta(0)) as (engine, _, _, _):
        await engine.send([to_record(Event("go"))])
        await asyncio.wait_for(ended.wait(), 60)
    assert attempts == ["step", "step", "code", "code"]


async def test_bodies_of_a_queue_have_their_own_threads(tmp_path: Path) -> None:
    """Bodies of a queue that wait leave a thread to the other steps; with one pool of one thread, both would wait."""
    app = App("shop", queues=["gpu"])
    began, released = threading.Event(), threading.Event()

    def wait() -> bool:
        began.set()
        return released.wait(60)

    def release() -> bool:
        released.set()
        return began.wait(60)

    @app.function(on("go"))
    async def work(ctx: Context) -> tuple[bool, bool]:
        return await asyncio.gather(ctx.step.options(queue="gpu").run("wait", wait), ctx.step.run("release", release))

    entries: list[HistoryEntry] = []
    settings = Settings(data_dir=tmp_path, body_threads=1)
    async with running_engine(app, settings, entries.append) as (engine, _, _, _):
        await engine.send([to_record(Event("go"))])
        await engine.until_idle()
    (ended,) = (entry for entry in entries if isinstance(entry, RunEnded))
    assert load_json(ended.output) == [True, True]
