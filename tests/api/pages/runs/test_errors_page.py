"""The page of errors: groups with counts and links to their runs, filtered by the URL."""

import pytest

from stepstream import App, Context, Event, on
from stepstream.api.guards import Keys
from stepstream.testing import VirtualEngine
from tests.api.pages.browsing import browser_of

app = App("shop")


def charge(order: int) -> None:
    """Refuse an order."""
    raise ValueError(f"order {order} was refused")


@app.function(on("order"), retries=1)
async def fulfil(ctx: Context) -> None:
    """Charge an order, which fails twice."""
    await ctx.step.run("charge", charge, ctx.event.data["n"])


@app.function(on("stock"), retries=0)
async def count(ctx: Context) -> None:
    """Fail between steps."""
    raise LookupError(f"shelf {ctx.event.data['name']}")


@pytest.fixture
async def engine() -> VirtualEngine:
    """Return an engine that was not started."""
    return VirtualEngine(app)


async def test_errors_are_grouped_and_lead_to_their_runs(engine: VirtualEngine) -> None:
    """The most frequent group is first; its link lists the runs that ended with it."""
    async with engine:
        await engine.send(*(Event("order", {"n": number}) for number in (7, 12)), Event("stock", {"name": "top"}))
        await engine.advance("1h")
        browser = browser_of(engine)
        page = await browser.open("/ui/errors")
        order, stock = page.texts("tbody tr")
        group = (await engine.index.queries.error_groups("fulfil"))[0]
        assert group.latest_message in ("order 7 was refused", "order 12 was refused")
        said = f"Latest in run …{group.latest_run[-6:]} : {group.latest_message}"
        assert order.startswith(f"ValueError: order # was refused {said} fulfil charge 4 2 20")
        (counted,) = engine.runs("count")
        said = f"Latest in run …{counted.run_id[-6:]}"
        assert stock.startswith(f"LookupError: shelf top {said} count code between steps 1 1 20")
        assert page.all(".latest a")[0].attributes["href"] == f"/ui/runs/{group.latest_run}"
        assert page.texts("nav[aria-label=Pages] [aria-current=page]") == ["Errors"]
        assert (await browser.open(page.link("fulfil"))).path == "/ui/function?id=fulfil"
        runs = await browser.open(page.link("ValueError: order # was refused"))
        assert [row.split(" ")[1:3] for row in runs.texts("tbody tr")] == [["fulfil", "failed"]] * 2
        latest = engine.runs("count")[0].run_id
        assert (await browser.open(page.link(f"…{latest[-6:]}"))).path == f"/ui/runs/{latest}"


async def test_an_error_that_a_later_attempt_repaired_lists_no_run(engine: VirtualEngine) -> None:
    """Its runs have not ended with it, so only the latest ones are linked."""
    async with engine:
        await engine.send(Event("order", {"n": 7}))
        page = await browser_of(engine).open("/ui/errors")
        assert page.texts("tbody tr td:nth-child(4)") + page.texts("tbody tr td:nth-child(5)") == ["1", "0"]
        assert not page.all("tbody .error > a")


async def test_errors_are_filtered_by_function_and_time(engine: VirtualEngine) -> None:
    """Tabs and fields lead to a URL that shows the same list again; a time that cannot be parsed is kept and marked."""
    async with engine:
        await engine.send(Event("order", {"n": 7}), Event("stock", {"name": "top"}))
        await engine.advance("3d")
        await engine.send(Event("order", {"n": 7}))
        browser = browser_of(engine)
        page = await browser.open("/ui/errors")
        assert len(page.all("tbody tr")) == 2
        day = await browser.open(page.link("last day"))
        assert [row.split(" ")[0] for row in day.texts("tbody tr")] == ["ValueError:"]
        assert day.texts(".tabs [aria-current=true]") == ["last day"]
        none = await browser.submit(day, ".filters", function="count")
        assert none.text.count("No error matches") == 1
        wrong = await browser.submit(none, ".filters", since="yesterday")
        assert (wrong.status, wrong.all("[aria-invalid=true]")[0].attributes["value"]) == (400, "yesterday")
        assert "2026-01-31T12:00:00Z, -1h, or all" in wrong.text
        assert (await browser.open("/ui/errors?since=all")).texts(".tabs [aria-current]") == ["all"]
        assert wrong.texts(".filters [role=alert]")[0]
        assert (await browser.open("/ui/errors?fucntion=a")).status == 400


async def test_errors_have_further_pages(engine: VirtualEngine) -> None:
    """A page has 50 groups; a page that does not exist is empty."""
    async with engine:
        await engine.send(*(Event("stock", {"name": chr(65 + number) * 9}) for number in range(60)))
        browser = browser_of(engine)
        page = await browser.open("/ui/errors?function=count")
        later = await browser.open(page.link("Errors of fewer runs"))
        rows = {*page.texts("tbody tr"), *later.texts("tbody tr")}
        assert (len(page.all("tbody tr")), len(rows)) == (50, 60)
        assert "function=count" in later.path
        assert len((await browser.open(later.link("Errors of more runs"))).all("tbody tr")) == 50
        for number in ("9" * 30, "-1", "x"):
            assert (await browser.open(f"/ui/errors?page={number}")).status == 200


async def test_readers_see_errors_and_an_empty_list_says_so(engine: VirtualEngine) -> None:
    """The page has no form that acts, so the read key suffices; rows can be moved through by keyboard."""
    keys = Keys("event", "api", "read")
    async with engine:
        browser = browser_of(engine, keys)
        browser.client.headers["Authorization"] = "Bearer read"
        assert "No error yet" in (await browser.open("/ui/errors")).text
        await engine.send(Event("stock", {"name": "top"}))
        page = await browser.open("/ui/errors")
        assert len(page.all("tr[data-row] a")) >= 2
        assert not page.all("main form[method=post]")
