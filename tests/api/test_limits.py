"""Limits over HTTP and on the page: who holds them, who waits, and in which place."""

from collections.abc import AsyncIterator

import httpx
import pytest

from stepstream import App, Concurrency, Context, Event, Throttle, on
from stepstream.testing import VirtualEngine
from tests.api.pages.browsing import Browser, browser_of

app = App("shop")
LIMIT = "concurrency of function charge by event.data.tenant"


@app.function(on("charge"), concurrency=Concurrency(2, counts="runs", key="event.data.tenant"))
async def charge(ctx: Context) -> object:
    """Wait for a signal."""
    return await ctx.step.wait_for_signal("wait", signal=str(ctx.event.id), timeout="1d")


@app.function(on("mail"), throttle=Throttle(1, "1h"))
async def mail(ctx: Context) -> None:
    """End at once."""


@pytest.fixture
async def engine() -> AsyncIterator[VirtualEngine]:
    """An engine with five shards, where tenant a has two runs and two that wait, and tenant b one run."""
    async with VirtualEngine(app, shards=5) as made:
        for number, tenant in enumerate("aaaab"):
            await made.send(Event("charge", {"tenant": tenant}, id=f"c{number}"))
            await made.advance("1s")
        yield made


@pytest.fixture
def browser(engine: VirtualEngine) -> Browser:
    """A browser of the page of the engine."""
    return browser_of(engine)


@pytest.fixture
def client(browser: Browser) -> httpx.AsyncClient:
    """A client of the API over the engine."""
    return browser.client


def ids(engine: VirtualEngine) -> list[str]:
    """Return the runs in the order in which they were admitted."""
    return sorted(run.run_id for run in engine.runs(charge))


async def test_limits_are_listed_in_pages(engine: VirtualEngine, client: httpx.AsyncClient) -> None:
    """Each value of a key is a limit, with its runs; the rest of the list follows the `next` of a part."""
    first, second, *waiting, last = ids(engine)
    page = (await client.get("/v1/limits", params={"limit": 1})).json()
    (limit,) = page["limits"]
    assert (limit["name"], limit["key"], limit["limit"], limit["in_use"], limit["waiting"]) == (LIMIT, "a", 2, 2, 2)
    assert (limit["holders"], limit["waiters"]) == ([first, second], waiting)
    assert limit["since"] == engine.now_ms - 3_000
    page = (await client.get("/v1/limits", params={"limit": 1, "after": page["next"]})).json()
    assert [(limit["key"], limit["holders"]) for limit in page["limits"]] == [("b", [last])]
    assert (page["next"], page["missing"]) == ("", [])
    assert (await client.get("/v1/limits", params={"name": "other"})).json()["limits"] == []
    for after in ("x", "[1,2]", '["a"]', "{}"):
        assert (await client.get("/v1/limits", params={"after": after})).json()["error"]["field"] == "after"


async def test_one_limit_is_shown(engine: VirtualEngine, client: httpx.AsyncClient) -> None:
    """It is found by its name and the value of its key."""
    shown = (await client.get(f"/v1/limits/{LIMIT}", params={"key": "b"})).json()["limit"]
    assert (shown["in_use"], shown["holders"], shown["waiting"]) == (1, [ids(engine)[-1]], 0)
    missing = await client.get(f"/v1/limits/{LIMIT}", params={"key": "c"})
    assert (missing.status_code, "no run holds the limit" in missing.json()["error"]["message"]) == (404, True)


async def test_a_queued_run_says_which_limit_it_waits_for(engine: VirtualEngine, client: httpx.AsyncClient) -> None:
    """It has its place, how much is in use, and the runs that hold the limit; a throttle has its next start."""
    first, second, _, waits, _ = ids(engine)
    (why,) = (await client.get(f"/v1/runs/{waits}")).json()["why"]
    assert why["text"] == (
        f"it waits for the limit {LIMIT}: 2 runs at a time for the key 'a'; 2 of 2 in use, place 2 of 2 in its queue"
    )
    assert why["remedy"] == f"held by {first}, {second}; see `stepstream limits show '{LIMIT}' --key a`"
    await engine.send(Event("mail"), Event("mail"))
    (queued,) = [run for run in engine.runs(mail) if run.status == "queued"]
    (why,) = (await client.get(f"/v1/runs/{queued.run_id}")).json()["why"]
    assert "throttle of function mail: 1 start in 1h 0m; place 1 of 1 in its queue" in why["text"]
    assert "the next start is at 20" in why["text"]


async def test_the_page_links_the_runs_of_limits(engine: VirtualEngine, browser: Browser) -> None:
    """A search by name leaves out other limits, and a part of the list leads to the next."""
    first, second, *waiting, last = ids(engine)
    page = await browser.open("/ui/limits")
    assert [words.split()[6:10] for words in page.texts("tbody tr")] == [["a", "2", "of", "2"], ["b", "1", "of", "2"]]
    linked = [node.attributes["title"] for node in page.all("tbody a.id")]
    assert linked == [first, second, *waiting, last]
    assert page.texts("nav[aria-label=Pages] [aria-current=page]") == ["Limits"]
    assert "No run holds a limit" in (await browser.open("/ui/limits?name=other")).text
    assert (await browser.open("/ui/limits?after=x")).status == 400
