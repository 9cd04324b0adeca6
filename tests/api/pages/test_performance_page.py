"""The page of performance: the slowest steps and functions of the last hours, and those that fail most."""

from collections.abc import AsyncIterator

import pytest

from stepstream import App, Context, Event, on
from stepstream.testing import VirtualEngine
from tests.api.pages.browsing import browser_of

app = App("shop")


def charge(total: int) -> None:
    """Fail for a negative total."""
    if total < 0:
        raise ValueError("negative")


@app.function(on("order"), retries=0)
async def fulfil(ctx: Context) -> None:
    """Pick items, and charge."""
    for number in range(3):
        await ctx.step.run(f"pick {number}", lambda: None)
    await ctx.step.sleep("nap", "90s")
    await ctx.step.run("charge", charge, ctx.event.data["total"])


@app.function(on("import"))
async def load(ctx: Context) -> None:
    """Sleep for an hour."""
    await ctx.step.sleep("nap", "1h")


@pytest.fixture
async def engine() -> AsyncIterator[VirtualEngine]:
    """Yield the engine of the shop after some runs."""
    async with VirtualEngine(app) as made:
        await made.send(*(Event("order", {"total": total}) for total in (1, 2, 3, -1)), Event("import"))
        await made.advance("65m")
        yield made


async def test_the_slowest_are_listed_with_their_runs(engine: VirtualEngine) -> None:
    """Steps come first; functions are one click away, and lead to the run that took longest."""
    browser = browser_of(engine)
    page = await browser.open("/ui/runs")
    page = await browser.open(page.all("nav[aria-label=Pages] a[href$=performance]")[0].attributes["href"] or "")
    assert sorted(row.split(" 0 ms")[0] for row in page.texts("tbody tr")) == [
        "charge fulfil 4 1 (25%)",
        "pick # fulfil 12 0",
    ]
    assert page.texts("thead th")[4:7] == ["p50", "p95", "Slowest"]
    assert "Half of them take at most p50, and 95 % at most p95" in page.text
    assert "Steps whose ids differ only in a number, such as those of a loop, share one row" in page.text
    page = await browser.open(page.link("functions"))
    assert "share one row" not in page.text
    assert "Runs that completed or failed in this time count" in page.text
    assert "The page of a function has the exact percentiles of its latest completed runs" in page.text
    slow, fast = page.texts("tbody tr")
    (run,) = engine.runs("load")
    assert slow == f"load 1 0 1h 0m 1h 0m 1h 0m …{run.run_id[-6:]}"
    assert fast.startswith("fulfil 4 1 (25%) 1m 30s 1m 30s 1m 30s …")
    assert (await browser.open(page.link(f"…{run.run_id[-6:]}"))).path == f"/ui/runs/{run.run_id}"


async def test_the_function_that_fails_most_is_first(engine: VirtualEngine) -> None:
    """The order is part of the URL, and a number of failures leads to the failed runs."""
    browser = browser_of(engine)
    page = await browser.open("/ui/performance?of=functions")
    page = await browser.open(page.link("most failures"))
    assert page.path == "/ui/performance?of=functions&sort=failed"
    assert [row.split()[0] for row in page.texts("tbody tr")] == ["fulfil", "load"]
    failed = await browser.open(page.link("1 (25%)"))
    assert [row.split()[1:3] for row in failed.texts("tbody tr")] == [["fulfil", "failed"]]
    page = await browser.submit(page, ".filters", function="load")
    assert [row.split()[0] for row in page.texts("tbody tr")] == ["load"]


async def test_the_title_says_the_time(engine: VirtualEngine) -> None:
    """All that is kept is the default, which "Clear" shows again; one who asks for less is led to it."""
    await engine.advance("2d")
    browser = browser_of(engine)
    page = await browser.open("/ui/performance")
    assert page.texts(".tabs[aria-label=Since] [aria-current]") == ["last week"]
    assert (page.texts("h1"), len(page.texts("tbody tr"))) == (["Performance of the last week"], 2)
    page = await browser.open(page.link("last day"))
    assert page.texts("h1") == ["Performance of the last day"]
    assert "Nothing that matches ended in this time." in page.text
    for label in ("Show all", "Clear"):
        assert len((await browser.open(page.link(label))).texts("tbody tr")) == 2
    page = await browser.submit(page, ".filters", since="-3d")
    assert (page.texts("h1"), len(page.texts("tbody tr"))) == (["Performance since -3d"], 2)


async def test_a_run_that_has_just_ended_hides_nothing(engine: VirtualEngine) -> None:
    """After two days without a run, one ends: the slowest function of the days before is still there."""
    await engine.advance("2d")
    await engine.send(Event("order", {"total": 1}))
    await engine.advance("5m")
    browser = browser_of(engine)
    page = await browser.open("/ui/performance?of=functions")
    assert sorted(row.split()[0] for row in page.texts("tbody tr")) == ["fulfil", "load"]
    page = await browser.open(page.link("last day"))
    assert [row.split()[0] for row in page.texts("tbody tr")] == ["fulfil"]


@pytest.mark.parametrize("query", ["since=soon", "of=all", "sort=name", "x=1"])
async def test_a_wrong_parameter_is_refused(engine: VirtualEngine, query: str) -> None:
    """The page says what is wrong; what is not the number of a page is the first page."""
    browser = browser_of(engine)
    assert (await browser.open(f"/ui/performance?{query}")).status == 400
    for number in ("0", "-1", "x", "9" * 30):
        assert (await browser.open(f"/ui/performance?page={number}")).status == 200
