"""Durations and failures of steps and runs by hour, from which percentiles are read without reading steps."""

import math
import random

import httpx
import pytest

from stepstream import App, Context, Event, on
from stepstream.api.http import make_api
from stepstream.contract.limits import DAY_MS, HOUR_MS
from stepstream.runtime.readmodel.index import RunIndex
from stepstream.runtime.readmodel.pruning import Retention
from stepstream.runtime.readmodel.tables import timings
from stepstream.runtime.readmodel.tables.timings import Timing, TimingOrder, Timings, list_timings, pattern_of
from stepstream.testing import VirtualEngine
from tests.fakes.facades import facade_of

NOW = 1_795_860_000_000
app = App("shop")


@app.function(on("order"), retries=0)
async def fulfil(ctx: Context) -> None:
    """Run a step for each page, and fail in one for a negative number."""
    for number in range(3):
        await ctx.step.run(f"page {number}", lambda: None)
    await ctx.step.sleep("nap", "90s")
    await ctx.step.run("charge", math.sqrt, ctx.event.data["n"])


def listed(index: RunIndex, order: TimingOrder = TimingOrder.P95, **asked: object) -> list[Timing]:
    """Return the timings of a read model."""
    given = {"since": 0, "steps": True, "function": "", "limit": 50} | asked
    return list_timings(index._db, order=order, **given)  # type: ignore[arg-type]


def added(index: RunIndex, *lengths: int, step: str = "a", at: int = NOW, failed: bool = False) -> None:
    """Add steps that took so long (ms)."""
    made = Timings()
    for number, length in enumerate(lengths):
        made.add("f", step, f"{number:026}", at - length, at, failed=failed)
    made.write(index._db)


@pytest.mark.parametrize(
    ("step", "expected"),
    [
        ("charge", "charge"),
        ("page 17", "page #"),
        ("resize-image-2", "resize-image-#"),
        ("order 01KDVDNA00ZP0GFMQQFK8ZDFSF", "order …"),
        ("a7f3c2de-0b1c-4c7e-9d2a-112233445566: send", "…: send"),
        ("internationalization", "internationalization"),
    ],
)
def test_a_pattern_has_no_numbers_or_ids(step: str, expected: str) -> None:
    """The rounds of a loop are one step."""
    assert pattern_of(step) == expected


async def test_steps_and_runs_are_measured() -> None:
    """A step has the time of its last attempt, and a run that from start to end; failures count, in an hour each."""
    async with VirtualEngine(app) as engine:
        await engine.send(Event("order", {"n": 4}), Event("order", {"n": -1}))
        await engine.advance("1h")
        steps = await engine.index.queries.timings(engine.now_ms - HOUR_MS)
        assert {(each.step, each.ended, each.failed) for each in steps} == {("page #", 6, 0), ("charge", 2, 1)}
        (runs,) = await engine.index.queries.timings(engine.now_ms - HOUR_MS, steps=False)
        assert (runs.function, runs.step, runs.ended, runs.failed) == ("fulfil", "", 2, 1)
        assert runs.p50_ms == runs.slowest_ms == 90_000
        assert runs.run_id in {run.run_id for run in engine.runs()}
        assert await engine.index.queries.timings(engine.now_ms + HOUR_MS) == []
        api = make_api(facade_of(engine.engine), engine.index, lambda: b"", now_ms=lambda: engine.now_ms)
        async with httpx.AsyncClient(transport=httpx.ASGITransport(api), base_url="http://localhost") as client:
            answer = await client.get("/v1/timings", params={"sort": "failed", "function": "fulfil", "limit": "1"})
            (shown,) = answer.json()["timings"]
            assert (shown["step"], shown["failed"]) == ("charge", 1)
            (shown,) = (await client.get("/v1/timings", params={"of": "functions"})).json()["timings"]
            assert shown["p95_ms"] == 90_000
            assert (await client.get("/v1/timings", params={"since": "soon"})).status_code == 400
            assert (await client.get("/v1/timings", params={"sort": "name"})).status_code == 400


def test_percentiles_are_nearly_exact() -> None:
    """They are at most 9 % above those of the sorted durations, and the slowest is exact."""
    index, draw = RunIndex(), random.Random(7)
    lengths = [round(10 ** draw.uniform(0, 7)) for _ in range(2_000)]
    added(index, *lengths)
    (found,) = listed(index)
    lengths.sort()
    for shown, exact in ((found.p50_ms, lengths[999]), (found.p95_ms, lengths[1_899])):
        assert exact <= shown <= exact * 1.1
    assert (found.ended, found.slowest_ms) == (2_000, lengths[-1])


@pytest.mark.parametrize("length", [0, 1, 2, 3, 999, 10**10])
def test_one_duration_is_its_own_percentile(length: int) -> None:
    """The bound of a band is never above what was measured."""
    index = RunIndex()
    added(index, length)
    (found,) = listed(index)
    assert (found.p50_ms, found.p95_ms, found.slowest_ms) == (length, length, length)


def test_timings_are_sorted_and_paged() -> None:
    """Each order has its own first; a page continues where the one before it ends."""
    index = RunIndex()
    added(index, *[100] * 99, 9_000, step="once")
    added(index, 500, 500, step="mostly")
    added(index, 1, 1, 1, step="fails", failed=True)
    added(index, *[2] * 200, step="often")
    first = {order: listed(index, order)[0].step for order in TimingOrder}
    assert first == {"p95": "mostly", "slowest": "once", "failed": "fails", "ended": "often"}
    pages = [listed(index, limit=2, offset=offset) for offset in (0, 2, 4)]
    assert [each.step for page in pages for each in page] == ["mostly", "once", "often", "fails"]


def test_hours_are_dropped_by_age_and_number(monkeypatch: pytest.MonkeyPatch) -> None:
    """A week is kept; of too many rows, the oldest hours are dropped first."""
    index = RunIndex(retention=Retention(), now_ms=lambda: NOW + 9 * DAY_MS)
    for hours in (24 * 8, 2, 1):
        added(index, 1, step=f"{'x' * hours}", at=NOW - hours * HOUR_MS)
    index._latest = {0: NOW}
    index.prune()
    assert [each.step for each in listed(index)] == ["x", "xx"]
    monkeypatch.setattr(timings, "ROWS_MAX", 1)
    index.prune()
    assert [each.step for each in listed(index)] == ["x"]
    index._latest = {0: NOW + 9 * DAY_MS}
    index.prune()
    assert listed(index) == []
